//! Container runtimes as the workload uses them: each can run, start, enter and remove a container.

mod cli;
mod containerd;
mod oci;
mod pods;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

pub(crate) use cli::Cli;
pub(crate) use containerd::Ctr;
pub(crate) use oci::{Oci, root_file_system, write_bundle};
pub(crate) use pods::Pods;

/// One runtime.
pub(crate) trait Engine: Sync {
    /// What it is called in the results.
    fn name(&self) -> &'static str;

    /// Runs a program in a new container to its end, and removes that. Gives the container's id as
    /// Whalewatch has it.
    fn run(&self, name: &str, program: &[&str]) -> Result<String>;

    /// Starts a container that keeps running.
    fn start(&self, name: &str, program: &[&str]) -> Result<String>;

    /// Runs a program in one that runs.
    fn enter(&self, name: &str, program: &[&str]) -> Result<()>;

    /// Kills and removes one.
    fn remove(&self, name: &str) -> Result<()>;

    /// Whether a container's id contains its name, so that no name comes late.
    fn ids_tell_names(&self) -> bool {
        false
    }

    /// Options with which Whalewatch finds it.
    fn container_options(&self) -> String {
        String::new()
    }
}

/// Runs a command to its end; gives what it printed.
pub(crate) fn ok(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}: {}", done.status, said.trim());
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}
