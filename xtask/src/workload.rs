//! Small programs that `bench` watches. They time themselves, so that their start is not measured.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;
use whalewatch_tests::memory::Cgroup;

const HELP: &str = "\
cargo xtask workload NAME COUNT

Does something COUNT times, one after another, and prints the nanoseconds that it took.

  spawn    start /bin/true with posix_spawn
  fork     fork a child that exits at once
  open     open and close one file
  tcp      connect to a server on the loopback interface, accept, and close
  calls    make a system call that does nothing
  signals  send itself a signal that it ignores
  setuid   change to the user that it already is
  mounts   mount and unmount a file system, in a new mount namespace
  oom      have the kernel kill a process because its cgroup's memory runs out
";

pub(crate) fn main(args: &[String]) -> Result<()> {
    let [name, count] = args else { bail!("expected a name and a count\n\n{HELP}") };
    let count: u32 = count.parse().with_context(|| format!("not a number: {count}"))?;
    let time = match name.as_str() {
        "spawn" => spawn(count)?,
        "fork" => fork(count)?,
        "open" => open(count)?,
        "tcp" => tcp(count)?,
        "calls" => calls(count),
        "signals" => signals(count)?,
        "setuid" => setuid(count)?,
        "mounts" => mounts(count)?,
        "oom" => oom(count)?,
        other => bail!("unknown workload `{other}`\n\n{HELP}"),
    };
    println!("{}", time.as_nanos());
    Ok(())
}

fn spawn(count: u32) -> Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        // The standard library uses posix_spawn for a command as plain as this.
        let status = Command::new("/bin/true").status()?;
        ensure!(status.success(), "/bin/true: {status}");
    }
    Ok(begin.elapsed())
}

/// Measures the two system calls alone: the kernel has the name in its cache.
fn open(count: u32) -> Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        drop(rustix::fs::open("/etc/passwd", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    }
    Ok(begin.elapsed())
}

/// One thread is client and server: when `connect` returns, the connection waits in the server's
/// queue.
fn tcp(count: u32) -> Result<Duration> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    let begin = Instant::now();
    for _ in 0..count {
        let client = TcpStream::connect(address)?;
        let (accepted, _) = server.accept()?;
        // The server closes first, so that the client's port is free again at once.
        drop(accepted);
        drop(client);
    }
    Ok(begin.elapsed())
}

fn calls(count: u32) -> Duration {
    let begin = Instant::now();
    for _ in 0..count {
        let _parent = rustix::process::getppid();
    }
    begin.elapsed()
}

fn signals(count: u32) -> Result<Duration> {
    let this = rustix::process::getpid();
    let begin = Instant::now();
    for _ in 0..count {
        // Ignored by default.
        rustix::process::kill_process(this, Signal::URG)?;
    }
    Ok(begin.elapsed())
}

fn setuid(count: u32) -> Result<Duration> {
    let user = rustix::process::getuid();
    let begin = Instant::now();
    for _ in 0..count {
        rustix::thread::set_thread_uid(user)?;
    }
    Ok(begin.elapsed())
}

fn mounts(count: u32) -> Result<Duration> {
    let dir = std::env::temp_dir().join(format!("whalewatch-mounts-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let time = mounts_at(&dir, count);
    fs::remove_dir(&dir)?;
    time
}

#[expect(unsafe_code, reason = "only unsharing file descriptors is unsafe, and they stay shared")]
fn mounts_at(dir: &Path, count: u32) -> Result<Duration> {
    // SAFETY: descriptors stay shared; this program has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    // Mounts stay within this namespace.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let begin = Instant::now();
    for _ in 0..count {
        mount("none", dir, "tmpfs", MountFlags::empty(), None)?;
        unmount(dir, UnmountFlags::empty())?;
    }
    Ok(begin.elapsed())
}

fn oom(count: u32) -> Result<Duration> {
    const LIMIT: u64 = 8 << 20;
    let cgroup = Cgroup::make(&format!("whalewatch-oom-{}", std::process::id()), LIMIT)?;
    let begin = Instant::now();
    for _ in 0..count {
        ensure!(!cgroup.hog().status()?.success(), "the process in the cgroup was not killed");
    }
    Ok(begin.elapsed())
}

fn fork(count: u32) -> Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        fork_once()?;
    }
    Ok(begin.elapsed())
}

#[expect(unsafe_code, reason = "no safe function forks without an exec")]
fn fork_once() -> Result<()> {
    // SAFETY: this program has one thread here, and the child does nothing but end.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: ends the process and touches no memory.
        unsafe { libc::_exit(0) }
    }
    ensure!(pid > 0, "cannot fork: {}", std::io::Error::last_os_error());
    // SAFETY: no status is asked for, so nothing is written.
    let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    ensure!(ended == pid, "cannot wait: {}", std::io::Error::last_os_error());
    Ok(())
}
