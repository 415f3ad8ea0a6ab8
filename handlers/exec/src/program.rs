//! One run of the program: a child in a process group of its own, with a pipe to its standard
//! input.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::options::{ExecOptions, ProgramOutput};
use crate::watcher::{Ends, News, Watcher, do_not_block};

/// How long what is left of a killed group may take to go, and what it said to be passed on.
const GONE: Duration = Duration::from_secs(1);

/// A running program. When it goes, it and all of its process group are killed.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// Its leader's pid is the child's, which stays the child's until it has been waited for.
    group: Pid,
    pidfd: OwnedFd,
    /// Our end of the pipe to its standard input.
    stdin: OwnedFd,
    watcher: Watcher,
    pub(crate) started: Instant,
    /// Whether it has been waited for.
    reaped: bool,
}

/// What a write into the pipe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// So many bytes are in it.
    Some(usize),
    /// It is full.
    Full,
    /// Nobody can read from it any more.
    Closed,
}

impl Program {
    pub(crate) fn start(
        handler: &Arc<str>,
        options: &ExecOptions,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        let mut child = command(options).spawn()?;
        match Self::take(handler, &mut child, tell) {
            Ok((group, pidfd, stdin, watcher)) => {
                let started = Instant::now();
                Ok(Self { child, group, pidfd, stdin, watcher, started, reaped: false })
            }
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    fn take(
        handler: &Arc<str>,
        child: &mut Child,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<(Pid, OwnedFd, OwnedFd, Watcher)> {
        let no_pipe = || io::Error::other("a pipe to the program is missing");
        let group = Pid::from_child(child);
        let pidfd = pidfd_open(group, PidfdFlags::empty())?;
        let stdin = OwnedFd::from(child.stdin.take().ok_or_else(no_pipe)?);
        // Our end only: what the program reads from is another end, with a state of its own.
        do_not_block(stdin.as_fd())?;
        let ends = Ends {
            pidfd: pidfd.try_clone()?,
            stderr: child.stderr.take().ok_or_else(no_pipe)?.into(),
            stdout: child.stdout.take().map(OwnedFd::from),
        };
        let watcher = Watcher::start(Arc::clone(handler), ends, tell)?;
        Ok((group, pidfd, stdin, watcher))
    }

    /// Puts into the pipe what it takes without waiting.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Wrote> {
        loop {
            return match rustix::io::write(&self.stdin, bytes) {
                Ok(count) => Ok(Wrote::Some(count)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Wrote::Full),
                Err(Errno::PIPE) => Ok(Wrote::Closed),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// How many bytes in the pipe nobody has read.
    pub(crate) fn unread(&self) -> io::Result<u64> {
        Ok(ioctl_fionread(&self.stdin)?)
    }

    /// Waits until the pipe takes something or the program ends, at most so long.
    pub(crate) fn wait_for_room(&self, limit: Duration) {
        let mut fds =
            [PollFd::new(&self.stdin, PollFlags::OUT), PollFd::new(&self.pidfd, PollFlags::IN)];
        poll_for(&mut fds, limit);
    }

    /// Whether it ends within that time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            poll_for(&mut fds, deadline.saturating_duration_since(Instant::now()));
            if !fds[0].revents().is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // It may have no process left but the child, which has ended.
            kill_process_group(self.group, signal).ok();
        }
    }

    /// Kills what is left of it, so that nobody reads from the pipe any more. How it ended, and how
    /// many bytes in the pipe nobody has read.
    pub(crate) fn bury(&mut self) -> io::Result<(ExitStatus, u64)> {
        self.signal(Signal::KILL);
        let status = self.child.wait();
        self.reaped = true;
        self.watcher.finish(GONE);
        self.wait_until_nobody_reads();
        Ok((status?, self.unread()?))
    }

    fn wait_until_nobody_reads(&self) {
        let deadline = Instant::now() + GONE;
        loop {
            // A pipe that nobody reads from is an error to who writes to it, which is always told.
            let mut fds = [PollFd::new(&self.stdin, PollFlags::empty())];
            let left = deadline.saturating_duration_since(Instant::now());
            poll_for(&mut fds, left);
            if !fds[0].revents().is_empty() || left.is_zero() {
                return;
            }
        }
    }

    /// Ends its input, and waits for its end: `within` that time, then after SIGTERM for
    /// `after_term`, then it is killed. How it ended, and how many bytes nobody has read, where
    /// that can be told.
    pub(crate) fn end(
        mut self,
        within: Duration,
        after_term: Duration,
    ) -> io::Result<(Ended, Option<u64>)> {
        // Through this end it can be asked how much was read when ours is closed.
        let path = format!("/proc/self/fd/{}", self.stdin.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = open(path, flags, Mode::empty());
        let nothing = OwnedFd::from(std::fs::File::open("/dev/null")?);
        drop(std::mem::replace(&mut self.stdin, nothing));
        let how = if self.ends_within(within) {
            How::ByItself
        } else {
            self.signal(Signal::TERM);
            if self.ends_within(after_term) { How::Terminated } else { How::Killed }
        };
        self.signal(Signal::KILL);
        let status = self.child.wait();
        self.reaped = true;
        self.watcher.finish(GONE);
        let unread = reader.ok().and_then(|reader| ioctl_fionread(&reader).ok());
        Ok((Ended { status: status?, how }, unread))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            self.child.wait().ok();
            self.reaped = true;
        }
    }
}

/// How a program ended when its input did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) how: How,
}

/// What it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing.
    ByItself,
    /// SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByItself => "by itself",
            Self::Terminated => "after SIGTERM",
            Self::Killed => "after SIGKILL",
        })
    }
}

fn command(options: &ExecOptions) -> Command {
    let (program, arguments) = options.command.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
    let mut command = Command::new(program);
    command.args(arguments).envs(&options.env).process_group(0);
    if let Some(directory) = &options.directory {
        command.current_dir(directory);
    }
    let stdout = match options.stdout {
        ProgramOutput::Pass => Stdio::piped(),
        ProgramOutput::Discard => Stdio::null(),
    };
    command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped());
    close_the_rest(&mut command);
    command
}

/// Has every descriptor beside the standard three closed when the program is begun. Ours are so
/// already; those that Whalewatch was started with may not be.
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec must be safe there, which only a promise can say"
)]
fn close_the_rest(command: &mut Command) {
    const FIRST: libc::c_long = 3;
    const LAST: libc::c_long = u32::MAX as libc::c_long;
    const CLOSE_ON_EXEC: libc::c_long = libc::CLOSE_RANGE_CLOEXEC as libc::c_long;
    let close = || {
        // SAFETY: a plain system call on numbers; it touches no memory. It only marks descriptors,
        // to be closed by exec. If the kernel does not know it, nothing is marked.
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, LAST, CLOSE_ON_EXEC) };
        Ok(())
    };
    // SAFETY: the closure makes one system call; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(close) };
}

/// Polls, at most so long; a signal may break it off.
fn poll_for(fds: &mut [PollFd<'_>], limit: Duration) {
    let limit = Timespec::try_from(limit).ok();
    // Whoever calls looks at what is there, and calls again.
    poll(fds, limit.as_ref()).ok();
}
