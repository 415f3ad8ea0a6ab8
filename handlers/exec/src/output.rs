//! A program's output: logs its standard error, and relays its standard output to our own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use whalewatch_kit::text::visible;

/// The longest line of standard error to log, in bytes. The rest is left out.
const MAX_LOGGED_LINE: usize = 4096;
/// The most lines of standard error to log in a second.
const MAX_LOGGED_LINES: u32 = 100;
/// The longest line of standard output to relay as a whole, in bytes. Longer ones are relayed in
/// parts.
const MAX_WHOLE_LINE: usize = 64 * 1024;
/// A writable pipe accepts this many bytes without blocking the writer (`PIPE_BUF`).
const NONBLOCKING_WRITE: usize = 4096;

/// Logs standard error line by line.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    handler: Arc<str>,
    line: Vec<u8>,
    /// Whether the line is longer than what is kept of it.
    is_cut: bool,
    /// The start of the second that `logged` belongs to.
    second: Instant,
    /// The number of lines logged in this second.
    logged: u32,
    /// The number of lines not logged since the last report.
    suppressed: u64,
}

impl ErrorLog {
    pub(crate) fn new(handler: Arc<str>) -> Self {
        let second = Instant::now();
        Self { handler, line: Vec::new(), is_cut: false, second, logged: 0, suppressed: 0 }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = MAX_LOGGED_LINE - self.line.len();
            self.is_cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if part.ends_with(b"\n") {
                self.log_line();
            }
        }
    }

    /// Logs what is left at the end of the stream.
    pub(crate) fn end(&mut self) {
        if !self.line.is_empty() {
            self.log_line();
        }
        self.report_suppressed();
    }

    fn log_line(&mut self) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.report_suppressed();
            self.second = Instant::now();
            self.logged = 0;
        }
        if self.logged < MAX_LOGGED_LINES {
            let text = shown(&self.line, self.is_cut);
            tracing::warn!(handler = %self.handler, "the program's standard error: {text}");
            self.logged += 1;
        } else {
            self.suppressed += 1;
        }
        self.line.clear();
        self.is_cut = false;
    }

    fn report_suppressed(&mut self) {
        if self.suppressed > 0 {
            tracing::warn!(
                handler = %self.handler, lines = self.suppressed,
                "the program wrote more lines to standard error than are logged",
            );
            self.suppressed = 0;
        }
    }
}

fn shown(line: &[u8], is_cut: bool) -> String {
    let mut text = Vec::new();
    visible(&mut text, line.strip_suffix(b"\r").unwrap_or(line));
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if is_cut {
        text.push('…');
    }
    text
}

/// Relays standard output in whole lines.
#[derive(Debug)]
pub(crate) struct OutputRelay {
    handler: Arc<str>,
    line: Vec<u8>,
    /// Whether writing has failed, so that everything is discarded.
    has_failed: bool,
}

impl OutputRelay {
    pub(crate) fn new(handler: Arc<str>) -> Self {
        Self { handler, line: Vec::new(), has_failed: false }
    }

    /// Relays whole lines. Gives up if `stop` becomes readable while our standard output is full.
    /// Returns whether the reader of our standard output has just turned out to be gone.
    pub(crate) fn take(&mut self, bytes: &[u8], stop: &OwnedFd) -> bool {
        if self.has_failed {
            return false;
        }
        self.line.extend_from_slice(bytes);
        let whole = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let count = if self.line.len() - whole >= MAX_WHOLE_LINE { self.line.len() } else { whole };
        self.write(count, stop)
    }

    /// Relays what is left at the end of the stream, as a line.
    pub(crate) fn end(&mut self, stop: &OwnedFd) {
        if !self.has_failed && !self.line.is_empty() {
            self.line.push(b'\n');
            self.write(self.line.len(), stop);
        }
    }

    fn write(&mut self, count: usize, stop: &OwnedFd) -> bool {
        let result = write_out(&self.line[..count], stop);
        self.line.drain(..count);
        let Err(error) = result else { return false };
        self.has_failed = true;
        self.line.clear();
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        if !closed {
            tracing::warn!(
                handler = %self.handler, %error,
                "cannot relay the program's output to standard output: discarding it from now on",
            );
        }
        closed
    }
}

/// Writes to our standard output. Gives up if `stop` becomes readable while that is full.
fn write_out(mut bytes: &[u8], stop: &OwnedFd) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    // The `stdout` handler takes the same lock, so the lines of both stay whole.
    let stdout = io::stdout().lock();
    while !bytes.is_empty() {
        let mut fds = [
            PollFd::new(&stdout, PollFlags::OUT),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().is_empty() {
            return Ok(());
        }
        match rustix::io::write(&stdout, &bytes[..bytes.len().min(NONBLOCKING_WRITE)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_lines_are_cut_and_escaped() {
        let mut log = ErrorLog::new("tested".into());
        log.take(b"one\ntw");
        assert_eq!((log.logged, &*log.line), (1, &b"tw"[..]));
        log.take(&[b'x'; 10_000]);
        assert_eq!((log.line.len(), log.is_cut), (MAX_LOGGED_LINE, true));
        log.take(b"\n");
        assert_eq!((log.logged, log.is_cut), (2, false));
        log.end();
        assert_eq!(log.logged, 2);
        assert_eq!(shown(b"\x1b[2Jred\r", true), "\\x1b[2Jred…");
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_and_not_logged() {
        let mut log = ErrorLog::new("tested".into());
        log.second += Duration::from_mins(1);
        log.take("x\n".repeat(1000).as_bytes());
        assert_eq!(
            (log.logged, log.suppressed),
            (MAX_LOGGED_LINES, 1000 - u64::from(MAX_LOGGED_LINES))
        );
        log.end();
        assert_eq!(log.suppressed, 0);
    }
}
