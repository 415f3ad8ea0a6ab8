//! What has become of events, counted by the helper and told by the handler.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Counts that the handler has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    delivered: AtomicU64,
    dropped: AtomicU64,
    /// Whether the handler has been told that there are some.
    told: AtomicBool,
}

impl Tally {
    pub(crate) fn delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
    }

    pub(crate) fn dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Relaxed);
    }

    /// Whether the handler is to be told of them: one message at a time is enough.
    pub(crate) fn is_to_be_told(&self) -> bool {
        !self.told.swap(true, Relaxed)
    }

    /// Takes both: delivered, dropped.
    pub(crate) fn take(&self) -> (u64, u64) {
        self.told.store(false, Relaxed);
        (self.delivered.swap(0, Relaxed), self.dropped.swap(0, Relaxed))
    }
}
