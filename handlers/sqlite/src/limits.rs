//! Shares the space on disk between the database, its log and one transaction.

use crate::rows::ChunkLimit;

/// Size of a page in bytes: the default of `SQLite`, and the size of a memory page.
pub(crate) const PAGE: u64 = 4096;

/// Largest share of the log, in bytes.
const LARGEST_LOG: u64 = 64 << 20;

/// Pages that one event may change and no other event of its transaction changes, at worst.
const OWN_PAGES: u64 = 3;

/// Estimates for the worst case how many bytes are written to the log when `events` events with
/// `bytes` bytes are added or deleted.
pub(crate) fn logged(events: usize, bytes: u64) -> u64 {
    bytes + OWN_PAGES * PAGE * events as u64
}

/// How `max_size` is shared. A quarter, at most 64 MiB, is for the log, where everything is written
/// first and stays until a checkpoint copies it to the database. Checkpoints begin when a quarter
/// of the log is used. One transaction needs less than another quarter, even if each of its events
/// changes pages that no other event changes. So the log stays far below its share, unless a reader
/// prevents checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Limit of the database and its log together, in bytes; `None` for no limit.
    pub(crate) total: Option<u64>,
    /// Limit of the log, in bytes.
    pub(crate) log: u64,
}

impl Limits {
    /// Returns the limits for a `max_size` in bytes; 0 means no limit.
    pub(crate) fn new(max_size: u64) -> Self {
        if max_size == 0 {
            return Self { total: None, log: LARGEST_LOG };
        }
        Self { total: Some(max_size), log: (max_size / 4).min(LARGEST_LOG) }
    }

    /// Returns the limit of the database without its log, in bytes.
    pub(crate) fn database(&self) -> u64 {
        self.total.map_or(u64::MAX, |total| total - self.log)
    }

    /// Returns the length of the log, in pages, at which a checkpoint begins.
    pub(crate) fn checkpoint_pages(&self) -> u64 {
        (self.log / 4 / PAGE).max(1)
    }

    /// Returns how many events or containers to delete in one step.
    pub(crate) fn step(&self) -> usize {
        self.chunk().events.min(500)
    }

    /// Returns the limits of one transaction.
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
    fn shares_add_up_to_max_size() {
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
