//! The events of possible alerts, kept in bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use whalewatch_core::{EventRef, OwnedValue, Timestamp};

/// Maximum number of events in an alert: the newest.
pub(crate) const MAX_EVENTS: usize = 8;
/// Longest JSON line kept for an event, in bytes.
const LONGEST_LINE: usize = 16 << 10;

/// Memory for kept events, in bytes.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicUsize,
    most: usize,
    /// Number of events and values that did not fit.
    refused: AtomicU64,
}

impl Room {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most, refused: AtomicU64::new(0) })
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Reserves memory until the returned value is dropped. Only one thread reserves, so the check
    /// and the reservation need not be atomic.
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Taken> {
        if self.used.load(Relaxed) + bytes > self.most {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        self.used.fetch_add(bytes, Relaxed);
        Some(Taken { bytes, room: Arc::clone(self) })
    }
}

#[derive(Debug)]
struct Taken {
    bytes: usize,
    room: Arc<Room>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// An event of a possible alert.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) time: Timestamp,
    pub(crate) kind: &'static str,
    pub(crate) pid: Option<u32>,
    line: Option<Arc<Line>>,
}

#[derive(Debug)]
struct Line {
    text: Box<[u8]>,
    _taken: Taken,
}

impl Cause {
    /// `line` is the event as JSON, without the newline.
    pub(crate) fn new(event: EventRef<'_>, line: &[u8], room: &Arc<Room>) -> Self {
        let keep = |taken| Arc::new(Line { text: line.into(), _taken: taken });
        let fits = line.len() <= LONGEST_LINE;
        Self {
            time: event.time(),
            kind: event.kind(),
            pid: event.process().map(|process| process.pid),
            line: fits.then(|| room.take(line.len()).map(keep)).flatten(),
        }
    }

    /// Returns the event as a line of JSON, if it fitted in memory.
    pub(crate) fn line(&self) -> Option<&[u8]> {
        self.line.as_ref().map(|line| &*line.text)
    }
}

/// Adds the newest event and removes the oldest one beyond the limit.
pub(crate) fn add(causes: &mut VecDeque<Cause>, cause: Cause) {
    if causes.len() == MAX_EVENTS {
        causes.pop_front();
    }
    causes.push_back(cause);
}

/// Values of earlier steps that conditions of later steps use.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) values: Box<[OwnedValue]>,
    _taken: Arc<Taken>,
}

impl Captured {
    /// Returns `None` if the values do not fit in memory.
    pub(crate) fn new(values: Box<[OwnedValue]>, room: &Arc<Room>) -> Option<Self> {
        let taken =
            room.take(values.iter().map(|value| size_of_val(value) + value.bytes_beside()).sum())?;
        Some(Self { values, _taken: Arc::new(taken) })
    }
}
