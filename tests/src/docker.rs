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
    /// A client of the daemon at `socket`.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Returns the daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the command with the daemon's address, and without settings from the environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.arg("-H").arg(format!("unix://{}", self.socket.display()));
        command
    }

    /// Runs the command. Returns its output without the last newline.
    ///
    /// # Errors
    /// If it cannot be started or fails: with its messages.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let done = self.command().args(args).output().context("cannot start `docker`")?;
        printed(args, &done)
    }

    /// Runs the command as [`Docker::run`] does, and fails the test if it fails.
    ///
    /// # Panics
    /// If the command fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Starts a container in the background. Dropping the guard kills and removes it.
    #[track_caller]
    pub fn start(&self, name: &str, image: &str, command: &[&str]) -> Container {
        self.start_with(name, &[], image, command)
    }

    /// Starts a container as [`Docker::start`] does, with options for `docker run`.
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
    /// The name at its start.
    pub name: String,
}

impl Container {
    /// Asks the daemon for the host pids of its processes.
    ///
    /// # Panics
    /// If the daemon does not answer.
    #[track_caller]
    pub fn pids(&self) -> Vec<u32> {
        let table = self.docker.ok(&["top", &self.id, "-eo", "pid"]);
        table.lines().skip(1).filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// Asks the daemon for the host pid of its first process.
    ///
    /// # Panics
    /// If the daemon does not answer.
    #[track_caller]
    pub fn first_pid(&self) -> u32 {
        let pid = self.docker.ok(&["inspect", "-f", "{{.State.Pid}}", &self.id]);
        pid.parse().unwrap_or_else(|e| panic!("no pid: {e}: {pid}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.docker.run(&["rm", "-f", &self.id]);
    }
}
