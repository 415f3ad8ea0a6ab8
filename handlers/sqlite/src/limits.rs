//! How much room there is, and how it is shared out between the database, its log and one
//! transaction.

use crate::rows::ChunkLimit;

/// Size of a page: `SQLite`'s default, and that of a memory page.
pub(crate) const PAGE: u64 = 4096;

/// Most of what the log may have.
const LARGEST_LOG: u64 = 64 << 20;

/// Pages that an event may touch which no other of its transaction does, at worst.
const OWN_PAGES: u64 = 3;

/// What is written to the log, about and at worst, when so many events with so many bytes are added
/// or deleted.
pub(crate) fn logged(events: usize, bytes: u64) -> u64 {
    bytes + OWN_PAGES * PAGE * events as u64
}

/// Shares of `max_size`. A quarter, 64 MiB at most, is for the log: all that is written stands
/// there first, until a checkpoint copies it over. Checkpoints begin when a quarter of the log is
/// used, and one transaction needs less than another quarter even if each of its events touches
/// pages of its own; so the log ends far below its share unless a reader holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// What the database and its log may have in all; `None` without limit.
    pub(crate) total: Option<u64>,
    /// What the log may have.
    pub(crate) log: u64,
}

impl Limits {
    /// For a `max_size`, where 0 is none.
    pub(crate) fn new(max_size: u64) -> Self {
        if max_size == 0 {
            return Self { total: None, log: LARGEST_LOG };
        }
        Self { total: Some(max_size), log: (max_size / 4).min(LARGEST_LOG) }
    }

    /// What the database without its log may have.
    pub(crate) fn database(&self) -> u64 {
        self.total.map_or(u64::MAX, |total| total - self.log)
    }

    /// Length of the log in pages at which a checkpoint begins.
    pub(crate) fn checkpoint_pages(&self) -> u64 {
        (self.log / 4 / PAGE).max(1)
    }

    /// Events, or containers, deleted in one step.
    pub(crate) fn step(&self) -> usize {
        self.chunk().events.min(500)
    }

    /// How much goes into one transaction.
    pub(crate) fn chunk(&self) -> ChunkLimit {
        let events = (self.log / PAGE / 8).clamp(8, 4096);
        let bytes = (self.log / 8).max(16 << 10);
        ChunkLimit { events: events as usize, bytes: bytes as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_up_the_whole() {
        for max in [4 << 20, 100 << 20, 1 << 30, 1 << 40] {
            let limits = Limits::new(max);
            assert_eq!(limits.database() + limits.log, max);
            assert!(limits.checkpoint_pages() * PAGE <= limits.log / 4);
            let chunk = limits.chunk();
            assert!(chunk.bytes as u64 <= limits.log / 8);
            assert!(logged(chunk.events, 2 * chunk.bytes as u64) + limits.log / 4 < limits.log);
        }
        let none = Limits::new(0);
        assert_eq!((none.total, none.database(), none.log), (None, u64::MAX, LARGEST_LOG));
    }
}
