//! A dockerd that writes everything below one folder, so that no test touches the system's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::docker::Docker;
use crate::{daemon, sweep, wait};

/// A Unix socket's path has at most 107 bytes, and dockerd puts sockets with names of up to this
/// length under its folder.
const LONGEST_SOCKET: usize = "/exec/containerd/containerd.sock.ttrpc".len();

/// A running dockerd. Dropping it removes its containers, its mounts and its folder.
#[derive(Debug)]
pub struct Dockerd {
    dir: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Dockerd {
    /// Starts a dockerd with everything below `dir`, and waits until it answers.
    ///
    /// # Errors
    /// If it cannot be started or does not answer: with the end of its log.
    pub fn start(dir: &Path) -> Result<Self> {
        ensure!(
            dir.as_os_str().len() + LONGEST_SOCKET <= 107,
            "{} is too long a path for the sockets of a dockerd: use a shorter one",
            dir.display()
        );
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let socket = dir.join("docker.sock");
        let child = spawn(dir, &socket)?;
        let mut daemon = Self { dir: dir.to_owned(), socket, child };
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    /// Returns its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Returns a client of it.
    pub fn client(&self) -> Docker {
        Docker::at(&self.socket())
    }

    /// Kills it, as a crash would. Its containers keep running.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn crash(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill dockerd")?;
        self.child.wait().context("cannot wait for dockerd")?;
        Ok(())
    }

    /// Starts it again as [`Dockerd::start_again`] does, with another socket.
    ///
    /// # Errors
    /// As [`Dockerd::start`].
    pub fn start_again_at(&mut self, socket: &str) -> Result<()> {
        self.socket = self.dir.join(socket);
        self.start_again()
    }

    /// Starts it again with the state that it left.
    ///
    /// # Errors
    /// As [`Dockerd::start`].
    pub fn start_again(&mut self) -> Result<()> {
        // A killed daemon leaves its pid file, and the next one refuses to start if another process
        // has that pid by now. Its containerd stops with it, and must be gone before the next one
        // uses its folder.
        let _missing = fs::remove_file(self.dir.join("dockerd.pid"));
        let containerd = self.dir.join("exec/containerd/containerd.pid");
        if let Some(pid) = sweep::read_pid(&containerd) {
            wait::poll(daemon::STOP_LIMIT, || wait::when(!sweep::is_running(pid)));
            // Without this, a containerd that has no one to reap it would count as running.
            let _missing = fs::remove_file(&containerd);
        }
        self.child = spawn(&self.dir, &self.socket)?;
        self.wait_until_it_answers()
    }

    /// Makes an image from a tar of its root.
    ///
    /// # Errors
    /// If dockerd refuses it.
    pub fn import(&self, tar: &Path, image: &str) -> Result<()> {
        let tar = tar.to_str().context("the tar's path is not UTF-8")?;
        self.client().run(&["import", tar, image])?;
        Ok(())
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let (client, log) = (self.client(), self.dir.join("dockerd.log"));
        let answers = || client.run(&["version"]).is_ok();
        daemon::wait_until_it_answers("dockerd", &mut self.child, &log, answers)
    }

    fn stop(&mut self) {
        if let Ok(ids) = self.client().run(&["ps", "-aq"]) {
            for id in ids.lines() {
                let _gone = self.client().run(&["rm", "-f", id]);
            }
        }
        daemon::end(&mut self.child);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = sweep::sweep(&self.dir) {
            eprintln!("cannot clear {}: {error:#}", self.dir.display());
        }
    }
}

fn spawn(dir: &Path, socket: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("dockerd.log"))?;
    let path = |name: &str| dir.join(name).into_os_string();
    let mut command = Command::new("dockerd");
    command.arg("-H").arg(format!("unix://{}", socket.display()));
    command.arg("--data-root").arg(path("data"));
    command.arg("--exec-root").arg(path("exec"));
    command.arg("--pidfile").arg(path("dockerd.pid"));
    // No network: these containers need none, and two daemons would fight over one bridge.
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
    // Containers survive when the daemon is killed.
    command.args(["--live-restore", "--storage-driver=overlay2"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot start `dockerd`: is docker.io installed?")
}
