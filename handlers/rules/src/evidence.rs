//! The events that an alert may come of, kept within a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use whalewatch_core::{EventRef, OwnedValue, Timestamp};

/// How many events an alert tells at most: the newest.
pub(crate) const MOST_EVENTS: usize = 8;
/// The longest line that is kept of an event, in bytes.
const LONGEST_LINE: usize = 16 << 10;

/// How many bytes may be kept in all.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicUsize,
    most: usize,
    /// How often there was no room.
    refused: AtomicU64,
}

impl Room {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most, refused: AtomicU64::new(0) })
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Takes some of it, until what is given is dropped. One thread takes, so nothing comes between
    /// look and take.
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

/// An event that an alert may come of.
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
    /// Of an event and its line of JSON, without the newline.
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

    /// The event as a line of JSON, where there was room for it.
    pub(crate) fn line(&self) -> Option<&[u8]> {
        self.line.as_ref().map(|line| &*line.text)
    }
}

/// Adds the newest; the oldest of too many goes.
pub(crate) fn add(causes: &mut VecDeque<Cause>, cause: Cause) {
    if causes.len() == MOST_EVENTS {
        causes.pop_front();
    }
    causes.push_back(cause);
}

/// What is kept of earlier steps' events for conditions of later ones.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub(crate) values: Box<[OwnedValue]>,
    _taken: Arc<Taken>,
}

impl Captured {
    /// `None` where there is no room.
    pub(crate) fn new(values: Box<[OwnedValue]>, room: &Arc<Room>) -> Option<Self> {
        let taken =
            room.take(values.iter().map(|value| size_of_val(value) + value.bytes_beside()).sum())?;
        Some(Self { values, _taken: Arc::new(taken) })
    }
}
