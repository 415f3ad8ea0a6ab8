//! Container runtimes as the workload uses them: each can run, start, enter and remove a container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use whalewatch_tests::cgroup::VERSION_2_ALONE;
use whalewatch_tests::containerd::Containerd;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::environment;
use whalewatch_tests::podman::Podman;

use crate::run::Machine;

/// One runtime.
pub(crate) trait Engine: Sync {
    /// What it is called in the results.
    fn name(&self) -> &'static str;

    /// Runs a program in a new container to its end, and removes that. Gives the container's id as Whalewatch has it.
    fn run(&self, name: &str, program: &[&str]) -> Result<String>;

    /// Starts one that goes on.
    fn start(&self, name: &str, program: &[&str]) -> Result<String>;

    /// Runs a program in one that runs.
    fn enter(&self, name: &str, program: &[&str]) -> Result<()>;

    /// Kills and removes one.
    fn remove(&self, name: &str) -> Result<()>;

    /// What Whalewatch must be told to find it.
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

    /// These, and what it needs besides; one that is given stands for the usual one.
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
            // A user's are found without being told where.
            Program::Podman(podman) if self.name == "podman" => {
                format!("endpoints = {{ podman = \"{}\" }}", podman.graphroot().display())
            }
            Program::Docker(_) | Program::Podman(_) => String::new(),
        }
    }
}

/// containerd, by its own command, in a namespace where ids are words.
#[derive(Debug)]
pub(crate) struct Ctr {
    containerd: Containerd,
    image: String,
    /// Each program in a container that runs has an id of its own.
    entered: AtomicU64,
}

impl Ctr {
    const NAMESPACE: &'static str = "accuracy";

    pub(crate) fn new(machine: &Machine) -> Result<Self> {
        let containerd = Containerd::start(&environment::scratch("ac"), None)?;
        let image = containerd.import(&machine.docker, &machine.image, Self::NAMESPACE)?;
        Ok(Self { containerd, image, entered: AtomicU64::new(0) })
    }

    fn ctr(&self, words: &[&str], program: &[&str]) -> Result<String> {
        self.containerd.ctr(Self::NAMESPACE, &[words, program].concat())
    }
}

impl Engine for Ctr {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn run(&self, name: &str, program: &[&str]) -> Result<String> {
        let fifos = self.containerd.fifos();
        self.ctr(&["run", "--rm", &fifos, &self.image, name], program)?;
        Ok(format!("{}/{name}", Self::NAMESPACE))
    }

    fn start(&self, name: &str, program: &[&str]) -> Result<String> {
        let fifos = self.containerd.fifos();
        self.ctr(&["run", "-d", "--null-io", &fifos, &self.image, name], program)?;
        Ok(format!("{}/{name}", Self::NAMESPACE))
    }

    fn enter(&self, name: &str, program: &[&str]) -> Result<()> {
        let (fifos, number) = (self.containerd.fifos(), self.entered.fetch_add(1, Relaxed));
        let id = format!("--exec-id=enter-{number}");
        self.ctr(&["tasks", "exec", &fifos, &id, name], program).map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.ctr(&["tasks", "delete", "--force", name], &[])?;
        self.ctr(&["containers", "delete", name], &[]).map(drop)
    }

    fn container_options(&self) -> String {
        let socket = self.containerd.socket();
        format!("endpoints = {{ containerd = \"unix://{}\" }}", socket.display())
    }
}

/// A runtime of the Open Container Initiative, called by itself.
#[derive(Debug)]
pub(crate) struct Oci {
    program: &'static str,
    dir: PathBuf,
    root: PathBuf,
}

impl Oci {
    /// `runc` or `crun`, with a root file system of its own.
    pub(crate) fn new(machine: &Machine, program: &'static str) -> Result<Self> {
        let dir = environment::scratch(&format!("acc-{program}"));
        let root = root_file_system(&dir, machine)?;
        Ok(Self { program, dir, root })
    }

    fn begin(&self, words: &[&str], name: &str, program: &[&str]) -> Result<String> {
        let bundle = self.dir.join(name);
        write_bundle(&bundle, self.program, &self.root, program, None)?;
        let mut command = self.command(words);
        command.arg("--bundle").arg(&bundle).arg(name);
        // What goes on keeps these.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = fs::File::create(bundle.join("log"))?;
        let status = command.stderr(log).status().context("it cannot be started")?;
        let said = fs::read_to_string(bundle.join("log")).unwrap_or_default();
        ensure!(status.success(), "{command:?}: {status}: {said}");
        Ok(format!("{}/{name}", self.program))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.program == "crun" {
            // It refuses to run where cgroups are hybrid, so it is shown those of version 2 alone.
            let script = format!("{VERSION_2_ALONE} && exec \"$@\"");
            let mut command = Command::new("unshare");
            command.args(["--mount", "/bin/sh", "-c", &script, "sh", self.program]);
            command
        } else {
            Command::new(self.program)
        };
        command.args(words);
        command
    }
}

impl Engine for Oci {
    fn name(&self) -> &'static str {
        self.program
    }

    fn run(&self, name: &str, program: &[&str]) -> Result<String> {
        let id = self.begin(&["run"], name, program)?;
        remove_bundle(&self.dir.join(name))?;
        Ok(id)
    }

    fn start(&self, name: &str, program: &[&str]) -> Result<String> {
        self.begin(&["run", "--detach"], name, program)
    }

    fn enter(&self, name: &str, program: &[&str]) -> Result<()> {
        ok(self.command(&["exec", name]).args(program)).map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        ok(&mut self.command(&["delete", "--force", name]))?;
        remove_bundle(&self.dir.join(name))
    }
}

/// Unpacks a root file system into a folder, for any number of containers at once.
pub(crate) fn root_file_system(dir: &Path, machine: &Machine) -> Result<PathBuf> {
    let root = dir.join("root");
    fs::create_dir(&root)?;
    ok(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(&machine.tar))?;
    for mount_point in ["dev", "proc", "sys"] {
        // As in every image: crun makes one that is missing, and fails if another crun was faster.
        fs::create_dir_all(root.join(mount_point))?;
    }
    Ok(root)
}

/// Makes a folder that says what is to run: with a root file system, and in a cgroup if that is given.
pub(crate) fn write_bundle(
    bundle: &Path,
    runtime: &str,
    root: &Path,
    program: &[&str],
    cgroup: Option<&str>,
) -> Result<()> {
    fs::create_dir_all(bundle)?;
    ok(Command::new(runtime).arg("spec").current_dir(bundle))?;
    let spec = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&spec)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(program);
    config["root"]["path"] = json!(root);
    if let Some(linux) = config["linux"].as_object_mut() {
        // crun would lift a limit first, to keep devices from it, and not every machine lets it.
        linux.remove("resources");
    }
    if let Some(cgroup) = cgroup {
        config["linux"]["cgroupsPath"] = json!(cgroup);
    }
    fs::write(&spec, config.to_string())?;
    Ok(())
}

fn remove_bundle(bundle: &Path) -> Result<()> {
    fs::remove_dir_all(bundle).with_context(|| bundle.display().to_string())
}
