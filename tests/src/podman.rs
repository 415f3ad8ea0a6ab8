//! The `podman` command, with everything that it writes under one folder: as root, or as an
//! ordinary user made for that.

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
/// Its cgroup, where it may make others, and the one in there that its commands run in.
const DELEGATED: &str = "whalewatch-test";
const COMMANDS: &str = "commands";
/// How long a service may take until it listens, and a process until it has ended.
const LIMIT: Duration = Duration::from_secs(20);

/// What of the machine's podman a test uses. When it goes, so do its containers and its folder.
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
    /// Whether podman sees cgroup v2 alone, and may make cgroups.
    delegated: bool,
}

impl Podman {
    /// As root, with everything under `dir`.
    ///
    /// # Errors
    /// When what an earlier run left cannot be cleared.
    pub fn root(dir: &Path) -> Result<Self> {
        let podman = Self { dir: dir.to_owned(), user: None };
        podman.clear()?;
        fs::create_dir_all(dir)?;
        Ok(podman)
    }

    /// As an ordinary user who may make cgroups of their own, as systemd would let them.
    ///
    /// # Errors
    /// When there cannot be such a user.
    pub fn rootless() -> Result<Self> {
        Self::of_user(true)
    }

    /// As an ordinary user who may not make cgroups: containers stay in theirs.
    ///
    /// # Errors
    /// When there cannot be such a user.
    pub fn rootless_without_cgroups() -> Result<Self> {
        Self::of_user(false)
    }

    fn of_user(delegated: bool) -> Result<Self> {
        if let Ok(user) = find_user() {
            // An earlier run was cut short.
            drop(Self { dir: user.home.clone(), user: Some(user) });
            ensure!(find_user().is_err(), "{USER} is still there");
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

    /// The folder of its records; a user's is where podman has it by itself.
    pub fn graphroot(&self) -> PathBuf {
        match &self.user {
            Some(user) => user.home.join(".local/share/containers/storage"),
            None => self.dir.join("storage"),
        }
    }

    /// Where whoever its containers are of may write.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// The command, with none of the caller's own settings.
    pub fn command(&self) -> Command {
        let path = |name: &str| self.dir.join(name).into_os_string();
        let mut words: Vec<OsString> = vec!["podman".into()];
        if self.user.is_none() {
            words.extend(["--root".into(), path("storage"), "--runroot".into(), path("run")]);
            words.extend(["--tmpdir".into(), path("tmp")]);
        } else {
            words.push("--storage-driver=vfs".into());
        }
        // What works without systemd, and where cgroups are hybrid.
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

    /// Options for `podman run` without which it wants more of the machine than a test may ask.
    pub fn options(&self) -> Vec<&'static str> {
        let mut options = vec!["--network=none", "--ulimit=nofile=1024:1024"];
        options.extend(["--ulimit=nproc=1024:1024", "--pids-limit=-1"]);
        if self.user.as_ref().is_some_and(|user| user.delegated) {
            options.push("--cgroup-parent=/whalewatch-test/containers");
        }
        options
    }

    /// Runs it and gives what it printed, without the last newline.
    ///
    /// # Errors
    /// When it cannot be started, or fails: with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let done = self.command().args(args).stdin(Stdio::null()).output();
        let done = done.context("cannot start `podman`")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("podman {}: {}: {}", args.join(" "), done.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }

    /// As [`Podman::run`], but a failure fails the test.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Makes an image from a tar of its root.
    ///
    /// # Errors
    /// When podman refuses it.
    pub fn import(&self, tar: &Path, image: &str) -> Result<()> {
        // The user may not be allowed to look where the tar lies.
        let mut command = self.command();
        command.args(["import", "-", image]).stdin(File::open(tar)?);
        let done = command.output().context("cannot start `podman`")?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Runs a command in a new container in the background, and gives the container's id.
    #[track_caller]
    pub fn start(&self, name: &str, image: &str, command: &[&str]) -> String {
        let head = [&["run", "-d", "--name", name][..], &self.options(), &[image]].concat();
        self.ok(&[&head, command].concat())
    }

    /// Runs a command in a new container to its end, and gives the container's id.
    #[track_caller]
    pub fn run_to_end(&self, name: &str, image: &str, command: &[&str]) -> String {
        let file = self.dir.join(format!("cid-{name}"));
        let cid = format!("--cidfile={}", file.display());
        let head = [&["run", "--rm", "--name", name, &cid][..], &self.options(), &[image]].concat();
        self.ok(&[&head, command].concat());
        fs::read_to_string(&file).expect("podman wrote the container's id").trim().to_owned()
    }

    /// Starts its service, which speaks Docker's words on a socket.
    ///
    /// # Errors
    /// When it does not come to listen.
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

    /// Ends what runs in the folder, takes down what is mounted there, and removes it; with its
    /// user, if it has one.
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

/// A podman that listens.
#[derive(Debug)]
pub struct Service {
    child: Child,
    /// Where.
    pub socket: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl User {
    /// A command of the user's: what is to be run follows.
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

    /// Podman leaves a process that keeps the user's namespaces.
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

/// Gives the user a cgroup to make others in.
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
    // They can be removed once the last process in them has been waited for.
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
    ensure!(home.ends_with(USER), "{home} is no home of the tests' user");
    let delegated = cgroup::mount_point()?.join(DELEGATED).join(COMMANDS).exists();
    Ok(User { uid: uid.parse()?, gid: gid.parse()?, home: home.into(), delegated })
}

fn admin(program: &str, args: &[&str]) -> Result<()> {
    let done = Command::new(program).args(args).output();
    let done = done.with_context(|| format!("cannot start `{program}`"))?;
    ensure!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
