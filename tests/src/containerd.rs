//! A containerd that writes everything below one folder, so that no test touches the system's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::docker::Docker;
use crate::{daemon, sweep};

/// A Unix socket's path has at most 107 bytes.
const SOCKET: &str = "c.sock";
const LONGEST_SOCKET: usize = "/c.sock.ttrpc".len();

/// A running containerd. Dropping it removes its containers, its mounts and its folder.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    child: Child,
}

impl Containerd {
    /// Starts a containerd with everything below `dir`, and waits until it answers. First removes
    /// what an earlier run left there. With `pods` it serves the container runtime interface, and
    /// `pods` is the image of a pod's sandbox.
    ///
    /// # Errors
    /// If it cannot be started or does not answer: with the end of its log.
    pub fn start(dir: &Path, pods: Option<&str>) -> Result<Self> {
        ensure!(
            dir.as_os_str().len() + LONGEST_SOCKET <= 107,
            "{} is too long a path for the sockets of a containerd: use a shorter one",
            dir.display()
        );
        sweep::sweep_containerd(dir)?;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("config.toml"), config(dir, pods))?;
        let child = spawn(dir)?;
        let mut daemon = Self { dir: dir.to_owned(), child };
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    /// Returns its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Imports a docker image into a namespace. Returns its name there.
    ///
    /// # Errors
    /// If docker cannot export it, or containerd refuses it.
    pub fn import(&self, docker: &Docker, image: &str, namespace: &str) -> Result<String> {
        let tar = self.dir.join("image.tar");
        let tar = tar.to_str().context("the folder's path is not UTF-8")?;
        docker.run(&["save", image, "-o", tar])?;
        self.ctr(namespace, &["images", "import", tar])?;
        Ok(format!("docker.io/library/{image}"))
    }

    /// Returns the `ctr` command for a namespace.
    pub fn command(&self, namespace: &str) -> Command {
        let mut command = Command::new("ctr");
        command.env_remove("CONTAINERD_ADDRESS").env_remove("CONTAINERD_NAMESPACE");
        command.arg("-a").arg(self.socket()).args(["-n", namespace]).stdin(Stdio::null());
        command
    }

    /// Runs `ctr`. Returns its output without the last newline.
    ///
    /// # Errors
    /// If it cannot be started or fails: with its messages.
    pub fn ctr(&self, namespace: &str, args: &[&str]) -> Result<String> {
        let done = self.command(namespace).args(args).output().context("cannot start `ctr`")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("ctr -n {namespace} {}: {}: {}", args.join(" "), done.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }

    /// Runs `ctr` as [`Containerd::ctr`] does, and fails the test if it fails.
    ///
    /// # Panics
    /// If the command fails.
    #[track_caller]
    pub fn ok(&self, namespace: &str, args: &[&str]) -> String {
        self.ctr(namespace, args).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Returns an option for `ctr run` and `ctr tasks exec` that keeps their files below the
    /// folder.
    pub fn fifos(&self) -> String {
        format!("--fifo-dir={}", self.dir.join("fifo").display())
    }

    /// Kills it, as a crash would. Its containers keep running.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn crash(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill containerd")?;
        self.child.wait().context("cannot wait for containerd")?;
        Ok(())
    }

    /// Starts it again with the state that it left.
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.dir)?;
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let (mut version, log) = (self.command("default"), self.dir.join("log"));
        version.arg("version");
        let answers = move || version.output().is_ok_and(|done| done.status.success());
        daemon::wait_until_it_answers("containerd", &mut self.child, &log, answers)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // The containers first: the daemon leaves them running.
        sweep::end_containers(&self.dir);
        daemon::end(&mut self.child);
        if let Err(error) = sweep::sweep_containerd(&self.dir) {
            eprintln!("cannot clear {}: {error:#}", self.dir.display());
        }
    }
}

fn spawn(dir: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let mut command = Command::new("containerd");
    command.arg("--config").arg(dir.join("config.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot start `containerd`: is it installed?")
}

fn config(dir: &Path, pods: Option<&str>) -> String {
    let dir = dir.display();
    let common = format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/{STATE}"
disabled_plugins = [{disabled}]

[grpc]
address = "{dir}/{SOCKET}"

[ttrpc]
address = "{dir}/{SOCKET}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "{dir}/opt"
"#,
        STATE = sweep::CONTAINERD_STATE,
        disabled = if pods.is_none() { r#""io.containerd.grpc.v1.cri""# } else { "" },
    );
    let Some(image) = pods else { return common };
    // These pods use the host's network, so they need no network plugin.
    format!(
        r#"{common}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
# Some machines do not let a process lower its OOM score below its parent's.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{dir}/cni"
conf_dir = "{dir}/cni.d"
"#
    )
}
