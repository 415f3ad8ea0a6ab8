//! runc and crun, without anything above them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use whalewatch_tests::cgroup::VERSION_2_ALONE;
use whalewatch_tests::environment;

use super::{Engine, ok};
use crate::run::Machine;

/// A runtime of the Open Container Initiative, called by itself.
#[derive(Debug)]
pub(crate) struct Oci {
    program: &'static str,
    dir: PathBuf,
    root: PathBuf,
}

impl Oci {
    /// `runc` or `crun`, with a root file system.
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
        // A container that keeps running has these open.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = fs::File::create(bundle.join("log"))?;
        let status = command.stderr(log).status().context("it cannot be started")?;
        let said = fs::read_to_string(bundle.join("log")).unwrap_or_default();
        ensure!(status.success(), "{command:?}: {status}: {said}");
        Ok(format!("{}/{name}", self.program))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.program == "crun" {
            // It refuses to run with hybrid cgroups, so it sees only those of version 2.
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

    fn ids_tell_names(&self) -> bool {
        true
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

/// Makes a folder that says what is to run: with a root file system, and in a cgroup if that is
/// given.
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
