//! The `docker` command, pointed at one daemon.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// Of the daemon at `socket`.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The command, with the daemon's address set and none of the caller's own settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.arg("-H").arg(format!("unix://{}", self.socket.display()));
        command
    }

    /// Runs it and gives what it printed, without the last newline.
    ///
    /// # Errors
    /// When it cannot be started, or fails: with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let done = self.command().args(args).output().context("cannot start `docker`")?;
        printed(args, &done)
    }

    /// As [`Docker::run`], but a failure fails the test.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Starts a container in the background that is killed and removed when the guard goes.
    #[track_caller]
    pub fn start(&self, name: &str, image: &str, command: &[&str]) -> Container {
        self.start_with(name, &[], image, command)
    }

    /// As [`Docker::start`], with options for `docker run`.
    #[track_caller]
    pub fn start_with(
        &self,
        name: &str,
        options: &[&str],
        image: &str,
        command: &[&str],
    ) -> Container {
        let args = [&["run", "-d", "--name", name][..], options, &[image], command].concat();
        let id = self.ok(&args);
        Container { docker: self.clone(), id, name: name.to_owned() }
    }
}

fn printed(args: &[&str], done: &Output) -> Result<String> {
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("docker {}: {}: {}", args.join(" "), done.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

/// A container that a test started.
#[derive(Debug)]
pub struct Container {
    docker: Docker,
    /// Its id, all 64 digits.
    pub id: String,
    /// The name that it was started with.
    pub name: String,
}

impl Container {
    /// The host's pids of its processes, as the daemon tells them.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[track_caller]
    pub fn pids(&self) -> Vec<u32> {
        let table = self.docker.ok(&["top", &self.id, "-eo", "pid"]);
        table.lines().skip(1).filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// The host's pid of its first process.
    ///
    /// # Panics
    /// When the daemon does not answer.
    #[track_caller]
    pub fn first_pid(&self) -> u32 {
        let pid = self.docker.ok(&["inspect", "-f", "{{.State.Pid}}", &self.id]);
        pid.parse().unwrap_or_else(|e| panic!("no pid: {e}: {pid}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A container that is gone already is as good as one that could be removed.
        let _gone = self.docker.run(&["rm", "-f", &self.id]);
    }
}
