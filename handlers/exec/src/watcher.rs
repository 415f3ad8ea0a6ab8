//! A helper thread beside a program: hears what it says, and notices its end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::said::{Passed, Said};

/// How much is read at once.
const STEP: usize = 16 * 1024;
/// How much is still read of each when the program is gone: what a pipe holds at most by default is
/// less.
const LAST_WORDS: usize = 1 << 20;

/// What the thread tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The program has ended.
    Ended,
    /// Nobody reads our standard output any more.
    Closed,
}

/// The thread. When it goes, so does the thread, at once.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Arc<OwnedFd>,
    /// Closed when the thread has done its work.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// What there is to hear and to see.
pub(crate) struct Ends {
    pub(crate) pidfd: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// None if it is not wanted.
    pub(crate) stdout: Option<OwnedFd>,
}

impl Watcher {
    pub(crate) fn start(
        handler: Arc<str>,
        ends: Ends,
        tell: impl Fn(News) + Send + 'static,
    ) -> io::Result<Self> {
        do_not_block(ends.stderr.as_fd())?;
        if let Some(stdout) = &ends.stdout {
            do_not_block(stdout.as_fd())?;
        }
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        let (working, done) = sync_channel(0);
        let thread = thread::Builder::new().name("exec-watcher".to_owned()).spawn(move || {
            let mut watching = Watching {
                stop: stopped,
                pidfd: ends.pidfd,
                stderr: Some((ends.stderr.into(), Said::new(Arc::clone(&handler)))),
                stdout: ends.stdout.map(|stdout| (stdout.into(), Passed::new(handler))),
                tell,
            };
            watching.run();
            drop(working);
        })?;
        Ok(Self { stop, done, thread: Some(thread) })
    }

    /// The program has ended: has the thread hear its last words and pass them on, but waits for
    /// whoever is to take them at most so long.
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

pub(crate) fn do_not_block(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

struct Watching<T> {
    stop: Arc<OwnedFd>,
    pidfd: OwnedFd,
    stderr: Option<(File, Said)>,
    stdout: Option<(File, Passed)>,
    tell: T,
}

impl<T: Fn(News)> Watching<T> {
    fn run(&mut self) {
        loop {
            let [stop, ended, stderr, stdout] = self.wait();
            if stop {
                return;
            }
            if stderr {
                self.hear_stderr(STEP);
            }
            if stdout {
                self.hear_stdout(STEP);
            }
            if ended {
                self.hear_stderr(LAST_WORDS);
                self.hear_stdout(LAST_WORDS);
                break;
            }
        }
        // What has no end of a line.
        if let Some((_, mut said)) = self.stderr.take() {
            said.end();
        }
        if let Some((_, mut passed)) = self.stdout.take() {
            passed.end(&self.stop);
        }
        (self.tell)(News::Ended);
    }

    /// Which of stop, the program's end, its standard error and its standard output have something.
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

    fn hear_stderr(&mut self, most: usize) {
        let Some((file, said)) = &mut self.stderr else { return };
        if !hear(file, most, |bytes| said.take(bytes)) {
            said.end();
            self.stderr = None;
        }
    }

    fn hear_stdout(&mut self, most: usize) {
        let Some((file, passed)) = &mut self.stdout else { return };
        let mut closed = false;
        let more = hear(file, most, |bytes| closed |= passed.take(bytes, &self.stop));
        if closed {
            (self.tell)(News::Closed);
        }
        if !more {
            passed.end(&self.stop);
            self.stdout = None;
        }
    }
}

/// Reads what there is, at most so much. Whether more may come.
fn hear(file: &mut File, most: usize, mut take: impl FnMut(&[u8])) -> bool {
    let (mut step, mut heard) = (vec![0; STEP], 0);
    while heard < most {
        match file.read(&mut step) {
            Ok(0) => return false,
            Ok(count) => {
                take(&step[..count]);
                heard += count;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}
