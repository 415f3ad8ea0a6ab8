//! Docker and podman, by their commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::environment;
use whalewatch_tests::podman::Podman;

use super::{Engine, ok};
use crate::run::Machine;

/// Runtimes whose command speaks as `docker` does.
#[derive(Debug)]
pub(crate) struct Cli {
    name: &'static str,
    program: Program,
    image: String,
    /// Where it writes ids.
    ids: PathBuf,
}

#[derive(Debug)]
enum Program {
    Docker(Docker),
    Podman(Podman),
}

impl Cli {
    pub(crate) fn docker(machine: &Machine) -> Self {
        Self::docker_at(machine.docker.socket(), &machine.image)
    }

    /// Docker, with another daemon.
    pub(crate) fn docker_at(socket: &Path, image: &str) -> Self {
        Self {
            name: "docker",
            program: Program::Docker(Docker::at(socket)),
            image: image.to_owned(),
            ids: environment::scratch("acc-ids-docker"),
        }
    }

    /// Podman, without a daemon.
    pub(crate) fn podman(machine: &Machine) -> Result<Self> {
        Self::of_podman("podman", Podman::root(&environment::scratch("ap"))?, machine)
    }

    /// The same, as an ordinary user.
    pub(crate) fn rootless_podman(machine: &Machine) -> Result<Self> {
        Self::of_podman("rootless podman", Podman::rootless()?, machine)
    }

    fn of_podman(name: &'static str, podman: Podman, machine: &Machine) -> Result<Self> {
        podman.import(&machine.tar, &machine.image)?;
        let (image, ids) = (machine.image.clone(), podman.folder().to_owned());
        Ok(Self { name, program: Program::Podman(podman), image, ids })
    }

    /// Runs the command with these words; gives what it printed.
    pub(crate) fn say(&self, words: &[&str]) -> Result<String> {
        ok(&mut self.command(words))
    }

    /// As [`Engine::run`], with options of the command's.
    pub(crate) fn run_with(
        &self,
        name: &str,
        options: &[&str],
        program: &[&str],
    ) -> Result<String> {
        let file = self.ids.join(name);
        let id_file = format!("--cidfile={}", file.display());
        let mut command = self.command(&["run", "--rm", &id_file, "--name", name]);
        ok(command.args(self.options(options)).arg(&self.image).args(program))?;
        let id = fs::read_to_string(&file).context("no id was written")?;
        fs::remove_file(file)?;
        Ok(id.trim().to_owned())
    }

    /// As [`Engine::start`], with options of the command's.
    pub(crate) fn start_with(
        &self,
        name: &str,
        options: &[&str],
        program: &[&str],
    ) -> Result<String> {
        let mut command = self.command(&["run", "-d", "--name", name]);
        ok(command.args(self.options(options)).arg(&self.image).args(program))
    }

    /// The number that a container's first process has on the host.
    pub(crate) fn pid(&self, name: &str) -> Result<String> {
        self.say(&["inspect", "--format", "{{.State.Pid}}", name])
    }

    /// As [`Engine::enter`], without waiting for its end.
    pub(crate) fn enter_in_background(&self, name: &str, program: &[&str]) -> Result<()> {
        ok(self.command(&["exec", "-d", name]).args(program)).map(drop)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = match &self.program {
            Program::Docker(docker) => docker.command(),
            Program::Podman(podman) => podman.command(),
        };
        command.args(words);
        command
    }

    /// Adds the options that it needs; a given option replaces the usual one.
    fn options<'a>(&self, given: &[&'a str]) -> Vec<&'a str> {
        let usual = match &self.program {
            Program::Docker(_) => Vec::new(),
            Program::Podman(podman) => podman.options(),
        };
        let same = |usual: &&str, given: &&str| usual.split('=').next() == given.split('=').next();
        let ulimit = |option: &&str| option.starts_with("--ulimit");
        let others = usual.into_iter().filter(|u| ulimit(u) || !given.iter().any(|g| same(u, g)));
        others.chain(given.iter().copied()).collect()
    }
}

impl Engine for Cli {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, name: &str, program: &[&str]) -> Result<String> {
        self.run_with(name, &[], program)
    }

    fn start(&self, name: &str, program: &[&str]) -> Result<String> {
        self.start_with(name, &[], program)
    }

    fn enter(&self, name: &str, program: &[&str]) -> Result<()> {
        ok(self.command(&["exec", name]).args(program)).map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let at_once: &[&str] = match &self.program {
            Program::Docker(_) => &[],
            Program::Podman(_) => &["-t", "0"],
        };
        self.say(&[&["rm", "-f"], at_once, &[name]].concat()).map(drop)
    }

    fn container_options(&self) -> String {
        match &self.program {
            // A user's containers are found without configuration.
            Program::Podman(podman) if self.name == "podman" => {
                format!("endpoints = {{ podman = \"{}\" }}", podman.graphroot().display())
            }
            Program::Docker(_) | Program::Podman(_) => String::new(),
        }
    }
}
