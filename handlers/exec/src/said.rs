//! What a program says: on standard error to the diagnostics, on standard output to our own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use whalewatch_kit::text::visible;

/// Longest line that is taken from standard error; the rest is left out.
const LONGEST_SAID: usize = 4096;
/// Most lines that are told in a second.
const MOST_SAID: u32 = 100;
/// From here on a line of standard output is passed on in parts.
const LONGEST_PASSED: usize = 64 * 1024;
/// What a pipe that can be written to takes without making the writer wait.
const CERTAIN: usize = 4096;

/// Standard error, line by line.
#[derive(Debug)]
pub(crate) struct Said {
    handler: Arc<str>,
    line: Vec<u8>,
    /// Whether the line was longer.
    cut: bool,
    second: Instant,
    told: u32,
    untold: u64,
}

impl Said {
    pub(crate) fn new(handler: Arc<str>) -> Self {
        Self { handler, line: Vec::new(), cut: false, second: Instant::now(), told: 0, untold: 0 }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LONGEST_SAID - self.line.len();
            self.cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if part.ends_with(b"\n") {
                self.tell();
            }
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        if !self.line.is_empty() {
            self.tell();
        }
        self.tell_untold();
    }

    fn tell(&mut self) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.tell_untold();
            self.second = Instant::now();
            self.told = 0;
        }
        if self.told < MOST_SAID {
            let text = shown(&self.line, self.cut);
            tracing::warn!(handler = %self.handler, "the program says: {text}");
            self.told += 1;
        } else {
            self.untold += 1;
        }
        self.line.clear();
        self.cut = false;
    }

    fn tell_untold(&mut self) {
        if self.untold > 0 {
            tracing::warn!(handler = %self.handler, lines = self.untold, "the program said more than is shown");
            self.untold = 0;
        }
    }
}

fn shown(line: &[u8], cut: bool) -> String {
    let mut text = Vec::new();
    visible(&mut text, line.strip_suffix(b"\r").unwrap_or(line));
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if cut {
        text.push('…');
    }
    text
}

/// Standard output, passed on in whole lines.
#[derive(Debug)]
pub(crate) struct Passed {
    handler: Arc<str>,
    line: Vec<u8>,
    /// Whether it can go nowhere any more.
    over: bool,
}

impl Passed {
    pub(crate) fn new(handler: Arc<str>) -> Self {
        Self { handler, line: Vec::new(), over: false }
    }

    /// Passes whole lines on, unless `stop` is raised while nobody takes them. Whether it has just
    /// turned out that nobody ever will.
    pub(crate) fn take(&mut self, bytes: &[u8], stop: &OwnedFd) -> bool {
        if self.over {
            return false;
        }
        self.line.extend_from_slice(bytes);
        let whole = self.line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let count = if self.line.len() - whole >= LONGEST_PASSED { self.line.len() } else { whole };
        self.pass(count, stop)
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self, stop: &OwnedFd) {
        if !self.over && !self.line.is_empty() {
            self.line.push(b'\n');
            self.pass(self.line.len(), stop);
        }
    }

    fn pass(&mut self, count: usize, stop: &OwnedFd) -> bool {
        let result = write_out(&self.line[..count], stop);
        self.line.drain(..count);
        let Err(error) = result else { return false };
        self.over = true;
        self.line.clear();
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        if !closed {
            tracing::warn!(
                handler = %self.handler, %error,
                "what the program prints cannot be written to standard output: it is thrown away from now on",
            );
        }
        closed
    }
}

/// Writes to our own standard output, unless `stop` is raised while that takes nothing.
fn write_out(mut bytes: &[u8], stop: &OwnedFd) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    // The `stdout` handler holds it, too, while it writes: lines of both stay whole.
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
        match rustix::io::write(&stdout, &bytes[..bytes.len().min(CERTAIN)]) {
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
    fn lines_from_standard_error_are_bounded_and_harmless() {
        let mut said = Said::new("tested".into());
        said.take(b"one\ntw");
        assert_eq!((said.told, &*said.line), (1, &b"tw"[..]));
        said.take(&[b'x'; 10_000]);
        assert_eq!((said.line.len(), said.cut), (LONGEST_SAID, true));
        said.take(b"\n");
        assert_eq!((said.told, said.cut), (2, false));
        said.end();
        assert_eq!(said.told, 2);
        assert_eq!(shown(b"\x1b[2Jred\r", true), "\\x1b[2Jred…");
    }

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let mut said = Said::new("tested".into());
        said.second += Duration::from_mins(1);
        said.take("x\n".repeat(1000).as_bytes());
        assert_eq!((said.told, said.untold), (MOST_SAID, 1000 - u64::from(MOST_SAID)));
        said.end();
        assert_eq!(said.untold, 0);
    }
}
