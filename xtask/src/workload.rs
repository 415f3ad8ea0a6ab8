//! Small programs to be watched. They time themselves, so that starting them is not part of what is
//! measured.

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
cargo xtask workload spawn COUNT   start /bin/true that often with posix_spawn, one after another
cargo xtask workload fork COUNT    fork that often, where the child ends at once
cargo xtask workload open COUNT    open and close one file that often
cargo xtask workload tcp COUNT     connect to a server on the loopback interface, accept, and close that often
cargo xtask workload calls COUNT   make a system call that does nothing that often
cargo xtask workload signals COUNT send itself a signal that does nothing that often
cargo xtask workload setuid COUNT  become the user that it is that often
cargo xtask workload mounts COUNT  mount and unmount a file system that often, in a mount namespace of its own
cargo xtask workload oom COUNT     have a process killed that often because its cgroup's memory runs out

Prints the nanoseconds that it took.
";

pub(crate) fn main(args: &[String]) -> Result<()> {
    let [name, count] = args else { bail!("two arguments are needed\n\n{HELP}") };
    let count: u32 = count.parse().with_context(|| format!("no number: {count}"))?;
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
        other => bail!("no workload `{other}`\n\n{HELP}"),
    };
    println!("{}", time.as_nanos());
    Ok(())
}

fn spawn(count: u32) -> Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        // The standard library takes posix_spawn where nothing stands against it, as here.
        let status = Command::new("/bin/true").status()?;
        ensure!(status.success(), "/bin/true: {status}");
    }
    Ok(begin.elapsed())
}

/// Nothing but the two system calls: no name is looked up that is not in the kernel's cache.
fn open(count: u32) -> Result<Duration> {
    let begin = Instant::now();
    for _ in 0..count {
        drop(rustix::fs::open("/etc/passwd", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    }
    Ok(begin.elapsed())
}

/// One thread is client and server: the kernel has a connection ready to be accepted when `connect`
/// returns.
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
        // Nobody handles it, and then it is ignored.
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

#[expect(unsafe_code, reason = "file descriptors could be unshared, too, which are not here")]
fn mounts_at(dir: &Path, count: u32) -> Result<Duration> {
    // SAFETY: descriptors stay shared; this program has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    // What is mounted here is seen nowhere else.
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
        ensure!(!cgroup.hog().status()?.success(), "its memory never runs out");
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

#[expect(unsafe_code, reason = "nothing safe forks without starting a program")]
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
