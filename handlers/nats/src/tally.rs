//! The outcome of events, counted by the helper thread and reported by the handler.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Counts that the handler has not reported yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    delivered: AtomicU64,
    dropped: AtomicU64,
    /// Whether a message to the handler announces the counts.
    announced: AtomicBool,
}

impl Tally {
    pub(crate) fn delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
    }

    pub(crate) fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Relaxed);
    }

    /// Returns whether the caller must send a message to the handler. One at a time is enough.
    pub(crate) fn announce(&self) -> bool {
        !self.announced.swap(true, Relaxed)
    }

    /// Returns the delivered and the dropped events, and sets both counts to zero.
    pub(crate) fn take(&self) -> (u64, u64) {
        self.announced.store(false, Relaxed);
        (self.delivered.swap(0, Relaxed), self.dropped.swap(0, Relaxed))
    }
}
