//! Running the workload program, on the host or in a container, and what it tells of itself.

use std::process::{Command, Output};

use serde_json::Value;

use crate::docker::Docker;

/// A workload program at a path: tests have it as `env!("CARGO_BIN_EXE_workload")`.
#[derive(Clone, Copy, Debug)]
pub struct Workload(pub &'static str);

/// Where the program stands in containers.
const IN_CONTAINER: &str = "/workload";
/// The host's libraries, which the program needs in containers too.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];

impl Workload {
    /// Runs it on the host, to its end.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn on_host(self, arguments: &[&str]) -> Value {
        told(arguments, &self.command(arguments).output().expect("the workload can be started"))
    }

    /// It, to be run on the host.
    pub fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        // Cargo has its own loader look into a folder for each library that was ever built: opens
        // that are not the workload's.
        command.args(arguments).env_remove("LD_LIBRARY_PATH");
        command
    }

    /// Runs it in a container of that name, to its end. `options` are for `docker run`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn in_container(
        self,
        docker: &Docker,
        image: &str,
        name: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> Value {
        let mut command = docker.command();
        command.args(["run", "--rm", "--name", name]).args(self.mounts()).args(options);
        command.args([image, IN_CONTAINER]).args(arguments);
        told(arguments, &command.output().expect("docker can be started"))
    }

    /// Runs it in a container that runs already, which must have been started with
    /// [`Workload::mounts`].
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn exec(self, docker: &Docker, container: &str, arguments: &[&str]) -> Value {
        let mut command = docker.command();
        command.args(["exec", container, IN_CONTAINER]).args(arguments);
        told(arguments, &command.output().expect("docker can be started"))
    }

    /// Options for `docker run` that put the program into a container.
    pub fn mounts(self) -> Vec<String> {
        let there = LIBRARIES.iter().filter(|path| std::path::Path::new(path).exists());
        let libraries = there.map(|path| format!("--volume={path}:{path}:ro"));
        libraries.chain([format!("--volume={}:{IN_CONTAINER}:ro", self.0)]).collect()
    }
}

/// What the workload told of itself.
///
/// # Panics
/// When it failed.
#[track_caller]
pub fn told(arguments: &[&str], output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "workload {arguments:?}: {}: {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"))
}
