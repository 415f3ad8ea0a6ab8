//! The `podman` command, which writes everything below one folder: as root, or as an ordinary user
//! that is created for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::VERSION_2_ALONE;
use crate::{cgroup, sweep, wait};

/// The user that rootless containers run as.
const USER: &str = "whalewatch-test";
/// The user's cgroup, in which it may make others, and the cgroup in there that its commands run
/// in.
const DELEGATED: &str = "whalewatch-test";
const COMMANDS: &str = "commands";
/// How long a service may take until it listens, and a process until it exits.
const LIMIT: Duration = Duration::from_secs(20);

/// A test's podman. Dropping it removes its containers and its folder, and its user.
#[derive(Debug)]
pub struct Podman {
    dir: PathBuf,
    user: Option<User>,
}

/// An ordinary user.
#[derive(Clone, Debug)]
struct User {
    uid: u32,
    gid: u32,
    home: PathBuf,
    /// Whether podman sees only cgroup v2 and may make cgroups.
    delegated: bool,
}

impl Podman {
    /// Runs as root, with everything below `dir`.
    ///
    /// # Errors
    /// If the files of an earlier run cannot be removed.
    pub fn root(dir: &Path) -> Result<Self> {
        let podman = Self { dir: dir.to_owned(), user: None };
        podman.clear()?;
        fs::create_dir_all(dir)?;
        Ok(podman)
    }

    /// Runs as an ordinary user who may make cgroups, as with systemd's delegation.
    ///
    /// # Errors
    /// If the user cannot be created.
    pub fn rootless() -> Result<Self> {
        Self::of_user(true)
    }

    /// Runs as an ordinary user who may not make cgroups, so that containers stay in the user's.
    ///
    /// # Errors
    /// If the user cannot be created.
    pub fn rootless_without_cgroups() -> Result<Self> {
        Self::of_user(false)
    }

    fn of_user(delegated: bool) -> Result<Self> {
        if let Ok(user) = find_user() {
            // An earlier run was interrupted.
            drop(Self { dir: user.home.clone(), user: Some(user) });
            ensure!(find_user().is_err(), "cannot remove the user {USER}");
        }
        admin("useradd", &["--create-home", "--shell", "/bin/sh", USER])?;
        admin(
            "usermod",
            &["--add-subuids", "500000-565535", "--add-subgids", "500000-565535", USER],
        )?;
        let user = User { delegated, ..find_user()? };
        let runtime = user.home.join("runtime");
        fs::DirBuilder::new().mode(0o700).create(&runtime)?;
        chown(&runtime, Some(user.uid), Some(user.gid))?;
        if delegated {
            delegate()?;
        }
        Ok(Self { dir: user.home.clone(), user: Some(user) })
    }

    /// Returns the folder of its records; a user's is podman's default.
    pub fn graphroot(&self) -> PathBuf {
        match &self.user {
            Some(user) => user.home.join(".local/share/containers/storage"),
            None => self.dir.join("storage"),
        }
    }

    /// Returns the folder that the containers' owner may write to.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// Returns the command, without settings from the environment.
    pub fn command(&self) -> Command {
        let path = |name: &str| self.dir.join(name).into_os_string();
        let mut words: Vec<OsString> = vec!["podman".into()];
        if self.user.is_none() {
            words.extend(["--root".into(), path("storage"), "--runroot".into(), path("run")]);
            words.extend(["--tmpdir".into(), path("tmp")]);
        } else {
            words.push("--storage-driver=vfs".into());
        }
        // These work without systemd and with hybrid cgroups.
        let common = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"];
        words.extend(common.map(Into::into));
        let mut command = match &self.user {
            None => Command::new(&words[0]),
            Some(user) => user.command(),
        };
        command.args(&words[1..]);
        for name in ["CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"] {
            command.env_remove(name);
        }
        command
    }

    /// Returns options for `podman run` that keep its demands on the machine small.
    pub fn options(&self) -> Vec<&'static str> {
        let mut options = vec!["--network=none", "--ulimit=nofile=1024:1024"];
        options.extend(["--ulimit=nproc=1024:1024", "--pids-limit=-1"]);
        if self.user.as_ref().is_some_and(|user| user.delegated) {
            options.push("--cgroup-parent=/whalewatch-test/containers");
        }
        options
    }

    /// Runs the command. Returns its output without the last newline.
    ///
    /// # Errors
    /// If it cannot be started or fails: with its messages.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let done = self.command().args(args).stdin(Stdio::null()).output();
        let done = done.context("cannot start `podman`")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("podman {}: {}: {}", args.join(" "), done.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }

    /// Runs the command as [`Podman::run`] does, and fails the test if it fails.
    ///
    /// # Panics
    /// If the command fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Makes an image from a tar of its root.
    ///
    /// # Errors
    /// If podman refuses it.
    pub fn import(&self, tar: &Path, image: &str) -> Result<()> {
        // The user may have no access to the tar's folder.
        let mut command = self.command();
        command.args(["import", "-", image]).stdin(File::open(tar)?);
        let done = command.output().context("cannot start `podman`")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Runs a command in a new container in the background. Returns the container's id.
    #[track_caller]
    pub fn start(&self, name: &str, image: &str, command: &[&str]) -> String {
        let head = [&["run", "-d", "--name", name][..], &self.options(), &[image]].concat();
        self.ok(&[&head, command].concat())
    }

    /// Runs a command in a new container to its end. Returns the container's id.
    #[track_caller]
    pub fn run_to_end(&self, name: &str, image: &str, command: &[&str]) -> String {
        let file = self.dir.join(format!("cid-{name}"));
        let cid = format!("--cidfile={}", file.display());
        let head = [&["run", "--rm", "--name", name, &cid][..], &self.options(), &[image]].concat();
        self.ok(&[&head, command].concat());
        fs::read_to_string(&file).expect("podman wrote the container's id").trim().to_owned()
    }

    /// Starts its service, which serves Docker's API on a socket.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn serve(&self) -> Result<Service> {
        let socket = self.dir.join("podman.sock");
        let mut command = self.command();
        command.args(["system", "service", "--time=0"]);
        command.arg(format!("unix://{}", socket.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start `podman system service`")?;
        let service = Service { child, socket };
        let connect = || std::os::unix::net::UnixStream::connect(&service.socket).ok();
        wait::poll(LIMIT, connect).context("podman's service does not listen")?;
        Ok(service)
    }

    /// Removes the containers, the mounts and the folder, and the user if there is one.
    fn clear(&self) -> Result<()> {
        if self.dir.exists() {
            self.run(&["rm", "-a", "-f", "-t", "0"])?;
        }
        if let Some(user) = &self.user {
            user.end_all();
        }
        sweep::remove(&self.dir)?;
        if self.user.is_some() {
            take_back();
            admin("userdel", &[USER])?;
        }
        Ok(())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("cannot clear {}: {error:#}", self.dir.display());
        }
    }
}

/// A running podman service.
#[derive(Debug)]
pub struct Service {
    child: Child,
    /// Its socket.
    pub socket: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl User {
    /// Returns a command that runs `podman` as the user; its arguments follow.
    fn command(&self) -> Command {
        let script = if self.delegated {
            format!(
                "{VERSION_2_ALONE} && \
                 echo $$ >/sys/fs/cgroup/{DELEGATED}/{COMMANDS}/cgroup.procs && exec \"$@\""
            )
        } else {
            "exec \"$@\"".to_owned()
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "/bin/sh", "-c", &script, "sh"]);
        command.args(["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "podman"]);
        command.env("HOME", &self.home).env("XDG_RUNTIME_DIR", self.home.join("runtime"));
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").current_dir(&self.home);
        command
    }

    /// Kills the process that podman leaves to keep the user's namespaces.
    fn end_all(&self) {
        let file = self.home.join("runtime/libpod/tmp/pause.pid");
        let Some(pid) = sweep::read_pid(&file) else { return };
        let own = fs::metadata(format!("/proc/{pid}"));
        let own = own.is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == self.uid);
        if let Some(target) = Pid::from_raw(pid.cast_signed()).filter(|_| own) {
            let _gone = kill_process(target, Signal::KILL);
            wait::poll(LIMIT, || wait::when(!sweep::is_running(pid)));
        }
    }
}

/// Makes a cgroup in which the user may make others.
fn delegate() -> Result<()> {
    let own = cgroup::mount_point()?.join(DELEGATED);
    for folder in [COMMANDS, "containers"] {
        fs::create_dir_all(own.join(folder))?;
    }
    let status = Command::new("chown").arg("-R").arg(USER).arg(&own).status()?;
    ensure!(status.success(), "cannot give {} to {USER}", own.display());
    Ok(())
}

fn take_back() {
    let Ok(root) = cgroup::mount_point() else { return };
    // They can be removed once the last process in them has been reaped.
    wait::poll(LIMIT, || {
        let own = root.join(DELEGATED);
        for folder in [own.join(COMMANDS), own.join("containers"), own.clone()] {
            let _missing = fs::remove_dir(folder);
        }
        wait::when(!own.exists())
    });
}

fn find_user() -> Result<User> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':'));
    let fields: Vec<&str> = line.context("no such user")?.split(':').collect();
    let [_, uid, gid, _, home, ..] = fields[..] else { bail!("a short line in /etc/passwd") };
    ensure!(home.ends_with(USER), "{home} is not the home of {USER}");
    let delegated = cgroup::mount_point()?.join(DELEGATED).join(COMMANDS).exists();
    Ok(User { uid: uid.parse()?, gid: gid.parse()?, home: home.into(), delegated })
}

fn admin(program: &str, args: &[&str]) -> Result<()> {
    let done = Command::new(program).args(args).output();
    let done = done.with_context(|| format!("cannot start `{program}`"))?;
    ensure!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
