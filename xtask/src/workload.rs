//! Small programs to be watched. They time themselves, so that starting them is not part of what is measured.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};

const HELP: &str = "\
cargo xtask workload spawn COUNT   start /bin/true that often with posix_spawn, one after another
cargo xtask workload fork COUNT    fork that often, where the child ends at once
cargo xtask workload open COUNT    open and close one file that often
cargo xtask workload tcp COUNT     connect to a server on the loopback interface, accept, and close that often
cargo xtask workload calls COUNT   make a system call that does nothing that often

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

/// One thread is client and server: the kernel has a connection ready to be accepted when `connect` returns.
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
