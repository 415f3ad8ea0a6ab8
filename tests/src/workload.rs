//! Runs the workload program, on the host or in a container, and reads its report of itself.

use std::process::{Command, Output};

use serde_json::Value;

use crate::docker::Docker;

/// A workload program at a path. Tests use `env!("CARGO_BIN_EXE_workload")`.
#[derive(Clone, Copy, Debug)]
pub struct Workload(pub &'static str);

/// The program's path in containers.
const IN_CONTAINER: &str = "/workload";
/// The host's libraries, which the program needs in containers as well.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];

impl Workload {
    /// Runs it on the host to its end. Returns its report.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn on_host(self, arguments: &[&str]) -> Value {
        report(arguments, &self.command(arguments).output().expect("the workload can be started"))
    }

    /// Returns a command that runs it on the host.
    pub fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.0);
        // Cargo sets a search path for libraries, and the loader's lookups in it are opens that are
        // not the workload's.
        command.args(arguments).env_remove("LD_LIBRARY_PATH");
        command
    }

    /// Runs it to its end in a new container. `options` are for `docker run`. Returns its report.
    ///
    /// # Panics
    /// If it fails.
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
        report(arguments, &command.output().expect("docker can be started"))
    }

    /// Runs it to its end in a running container, which must have been started with
    /// [`Workload::mounts`]. Returns its report.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn exec(self, docker: &Docker, container: &str, arguments: &[&str]) -> Value {
        let mut command = docker.command();
        command.args(["exec", container, IN_CONTAINER]).args(arguments);
        report(arguments, &command.output().expect("docker can be started"))
    }

    /// Returns options for `docker run` that make the program available in a container.
    pub fn mounts(self) -> Vec<String> {
        let there = LIBRARIES.iter().filter(|path| std::path::Path::new(path).exists());
        let libraries = there.map(|path| format!("--volume={path}:{path}:ro"));
        libraries.chain([format!("--volume={}:{IN_CONTAINER}:ro", self.0)]).collect()
    }
}

/// Parses the workload's report of itself.
///
/// # Panics
/// If it failed.
#[track_caller]
pub fn report(arguments: &[&str], output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "workload {arguments:?}: {}: {said}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"))
}
