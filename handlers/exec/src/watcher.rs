//! The helper thread of a program: reads its output and notices its end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::output::{ErrorLog, OutputRelay};

/// How many bytes to read at once.
const CHUNK: usize = 16 * 1024;
/// How many bytes to read at most from each pipe after the program has ended. A pipe's default
/// capacity is less (64 KiB).
const FINAL_READ: usize = 1 << 20;

/// What the thread reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The program has ended.
    Ended,
    /// The reader of our standard output is gone.
    Closed,
}

/// The thread. Dropping this stops it at once.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    /// Disconnected when the thread has finished.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// The descriptors that the thread reads and polls.
pub(crate) struct Descriptors {
    pub(crate) pidfd: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// `None` if standard output is discarded.
    pub(crate) stdout: Option<OwnedFd>,
}

impl Watcher {
    pub(crate) fn start(
        handler: Arc<str>,
        descriptors: Descriptors,
        notify: impl Fn(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        set_nonblocking(descriptors.stderr.as_fd())?;
        if let Some(stdout) = &descriptors.stdout {
            set_nonblocking(stdout.as_fd())?;
        }
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        let (working, done) = sync_channel(0);
        let thread = thread::Builder::new().name("exec-watcher".to_owned()).spawn(move || {
            let Descriptors { pidfd, stderr, stdout } = descriptors;
            let mut worker = Worker {
                stop: stopped,
                pidfd,
                stderr: Some((stderr.into(), ErrorLog::new(Arc::clone(&handler)))),
                stdout: stdout.map(|stdout| (stdout.into(), OutputRelay::new(handler))),
                notify,
            };
            worker.run();
            drop(working);
        })?;
        Ok(Self { stop, done, thread: Some(thread) })
    }

    /// Lets the thread relay the rest of the output after the program has ended, for at most
    /// `limit`, and stops it.
    pub(crate) fn finish(&mut self, limit: Duration) {
        self.done.recv_timeout(limit).ok();
        self.stop();
    }

    fn stop(&mut self) {
        rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

struct Worker<T> {
    stop: Arc<OwnedFd>,
    pidfd: OwnedFd,
    stderr: Option<(File, ErrorLog)>,
    stdout: Option<(File, OutputRelay)>,
    notify: T,
}

impl<T: Fn(Notice)> Worker<T> {
    fn run(&mut self) {
        loop {
            let [stop, ended, stderr, stdout] = self.wait();
            if stop {
                return;
            }
            if stderr {
                self.read_stderr(CHUNK);
            }
            if stdout {
                self.read_stdout(CHUNK);
            }
            if ended {
                self.read_stderr(FINAL_READ);
                self.read_stdout(FINAL_READ);
                break;
            }
        }
        // The last lines may lack a newline.
        if let Some((_, mut log)) = self.stderr.take() {
            log.end();
        }
        if let Some((_, mut relay)) = self.stdout.take() {
            relay.end(&self.stop);
        }
        (self.notify)(Notice::Ended);
    }

    /// Waits until something happens. Returns which is ready: the request to stop, the program's
    /// end, its standard error, its standard output.
    fn wait(&self) -> [bool; 4] {
        let mut fds =
            vec![PollFd::new(&*self.stop, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
        let stderr = self.stderr.as_ref().map(|(file, _)| {
            fds.push(PollFd::new(file, PollFlags::IN));
            fds.len() - 1
        });
        let stdout = self.stdout.as_ref().map(|(file, _)| {
            fds.push(PollFd::new(file, PollFlags::IN));
            fds.len() - 1
        });
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        let ready = |at: usize| !fds[at].revents().is_empty();
        [ready(0), ready(1), stderr.is_some_and(ready), stdout.is_some_and(ready)]
    }

    fn read_stderr(&mut self, max: usize) {
        let Some((file, log)) = &mut self.stderr else { return };
        if !read_available(file, max, |bytes| log.take(bytes)) {
            log.end();
            self.stderr = None;
        }
    }

    fn read_stdout(&mut self, max: usize) {
        let Some((file, relay)) = &mut self.stdout else { return };
        let mut closed = false;
        let is_open = read_available(file, max, |bytes| closed |= relay.take(bytes, &self.stop));
        if closed {
            (self.notify)(Notice::Closed);
        }
        if !is_open {
            relay.end(&self.stop);
            self.stdout = None;
        }
    }
}

/// Reads what is available without waiting, about `max` bytes at most. Returns whether the file is
/// still open, so that more can follow.
fn read_available(file: &mut File, max: usize, mut take: impl FnMut(&[u8])) -> bool {
    let (mut chunk, mut total) = (vec![0; CHUNK], 0);
    while total < max {
        match file.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => {
                take(&chunk[..count]);
                total += count;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}
