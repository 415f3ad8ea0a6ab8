//! One run of the program: a child in a separate process group, with a pipe to its standard input.

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
use crate::watcher::{Descriptors, Notice, Watcher, set_nonblocking};

/// How long to wait after the kill for the rest of the process group to end, and for its output to
/// be relayed.
const CLEANUP_LIMIT: Duration = Duration::from_secs(1);

/// A running program. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// The group's id is the child's pid, which is not reused until the child has been waited for.
    group: Pid,
    pidfd: OwnedFd,
    /// Our end of the pipe to its standard input.
    stdin: OwnedFd,
    watcher: Watcher,
    pub(crate) started: Instant,
    /// Whether the child has been waited for.
    reaped: bool,
}

/// The result of a write to the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// This many bytes were written.
    Some(usize),
    /// The pipe is full.
    Full,
    /// The pipe has no reader any more.
    Closed,
}

impl Program {
    pub(crate) fn start(
        handler: &Arc<str>,
        options: &ExecOptions,
        notify: impl Fn(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let mut child = command(options).spawn()?;
        match Self::watch(handler, &mut child, notify) {
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

    fn watch(
        handler: &Arc<str>,
        child: &mut Child,
        notify: impl Fn(Notice) + Send + 'static,
    ) -> io::Result<(Pid, OwnedFd, OwnedFd, Watcher)> {
        let no_pipe = || io::Error::other("a pipe to the program is missing");
        let group = Pid::from_child(child);
        let pidfd = pidfd_open(group, PidfdFlags::empty())?;
        let stdin = OwnedFd::from(child.stdin.take().ok_or_else(no_pipe)?);
        // This affects only our end: the program's end has a separate state.
        set_nonblocking(stdin.as_fd())?;
        let descriptors = Descriptors {
            pidfd: pidfd.try_clone()?,
            stderr: child.stderr.take().ok_or_else(no_pipe)?.into(),
            stdout: child.stdout.take().map(OwnedFd::from),
        };
        let watcher = Watcher::start(Arc::clone(handler), descriptors, notify)?;
        Ok((group, pidfd, stdin, watcher))
    }

    /// Writes as many bytes to the pipe as it accepts without waiting.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<Written> {
        loop {
            return match rustix::io::write(&self.stdin, bytes) {
                Ok(count) => Ok(Written::Some(count)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(Written::Full),
                Err(Errno::PIPE) => Ok(Written::Closed),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Returns the number of unread bytes in the pipe.
    pub(crate) fn unread(&self) -> io::Result<u64> {
        Ok(ioctl_fionread(&self.stdin)?)
    }

    /// Waits until the pipe has room or the program ends, at most `limit`.
    pub(crate) fn wait_for_room(&self, limit: Duration) {
        let mut fds =
            [PollFd::new(&self.stdin, PollFlags::OUT), PollFd::new(&self.pidfd, PollFlags::IN)];
        poll_for(&mut fds, limit);
    }

    /// Waits for the program's end, at most `limit`; returns whether it has ended.
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
            // This fails if the group has only the child, which has ended.
            kill_process_group(self.group, signal).ok();
        }
    }

    /// Kills the process group, so that no process of it reads from the pipe any more. Returns the
    /// exit status and the number of unread bytes in the pipe.
    pub(crate) fn kill(&mut self) -> io::Result<(ExitStatus, u64)> {
        self.signal(Signal::KILL);
        let status = self.child.wait();
        self.reaped = true;
        self.watcher.finish(CLEANUP_LIMIT);
        self.wait_until_no_reader();
        Ok((status?, self.unread()?))
    }

    fn wait_until_no_reader(&self) {
        let deadline = Instant::now() + CLEANUP_LIMIT;
        loop {
            // The writer's end of a pipe without readers always polls as POLLERR.
            let mut fds = [PollFd::new(&self.stdin, PollFlags::empty())];
            let left = deadline.saturating_duration_since(Instant::now());
            poll_for(&mut fds, left);
            if !fds[0].revents().is_empty() || left.is_zero() {
                return;
            }
        }
    }

    /// Closes the program's input and waits for its end: for `within`, then after SIGTERM for
    /// `after_term`, then kills it. Returns how it ended, and the number of unread bytes if that is
    /// known.
    pub(crate) fn end(
        mut self,
        within: Duration,
        after_term: Duration,
    ) -> io::Result<(Ended, Option<u64>)> {
        // This reader's end shows how much is unread after our end is closed.
        let path = format!("/proc/self/fd/{}", self.stdin.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = open(path, flags, Mode::empty());
        let nothing = OwnedFd::from(std::fs::File::open("/dev/null")?);
        drop(std::mem::replace(&mut self.stdin, nothing));
        let how = if self.ends_within(within) {
            HowEnded::ByItself
        } else {
            self.signal(Signal::TERM);
            if self.ends_within(after_term) { HowEnded::Terminated } else { HowEnded::Killed }
        };
        self.signal(Signal::KILL);
        let status = self.child.wait();
        self.reaped = true;
        self.watcher.finish(CLEANUP_LIMIT);
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

/// How a program ended after its input was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) how: HowEnded,
}

/// What was needed to end a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HowEnded {
    /// Nothing.
    ByItself,
    /// SIGTERM.
    Terminated,
    /// SIGKILL.
    Killed,
}

impl fmt::Display for HowEnded {
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
    close_other_descriptors(&mut command);
    command
}

/// Closes every descriptor except the standard three when the program starts. Our own are marked
/// already; descriptors that Whalewatch inherited may not be.
#[expect(
    unsafe_code,
    reason = "`pre_exec` needs a closure that is safe to run between fork and exec"
)]
fn close_other_descriptors(command: &mut Command) {
    const FIRST: libc::c_long = 3;
    const LAST: libc::c_long = u32::MAX as libc::c_long;
    const CLOSE_ON_EXEC: libc::c_long = libc::CLOSE_RANGE_CLOEXEC as libc::c_long;
    let close = || {
        // SAFETY: a plain system call on numbers; it touches no memory. It only marks descriptors
        // for exec to close. A kernel without it (before 5.11) marks none.
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, LAST, CLOSE_ON_EXEC) };
        Ok(())
    };
    // SAFETY: the closure makes one system call; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(close) };
}

/// Polls for at most `limit`. A signal may end it early.
fn poll_for(fds: &mut [PollFd<'_>], limit: Duration) {
    let limit = Timespec::try_from(limit).ok();
    // Callers check the result themselves and call again.
    poll(fds, limit.as_ref()).ok();
}
