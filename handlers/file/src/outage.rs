//! An outage: a time in which writes fail. They are retried for a while, then events are dropped.
//! The outage is logged once when it begins and once when it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_kit::Backoff;

/// The pauses between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// Tracks the outages of one file.
#[derive(Debug)]
pub(crate) struct Outage {
    handler: Arc<str>,
    path: PathBuf,
    wait_at_most: Duration,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    backoff: Backoff,
    dropped: u64,
}

impl Outage {
    pub(crate) fn new(handler: Arc<str>, path: PathBuf, wait_at_most: Duration) -> Self {
        Self { handler, path, wait_at_most, current: None }
    }

    /// Records a failed write. Waits and returns true if the write should be retried; returns false
    /// at once if the outage has lasted too long.
    pub(crate) fn wait_to_retry(&mut self, error: &io::Error) -> bool {
        let current = self.current.get_or_insert_with(|| {
            tracing::warn!(
                handler = %self.handler, path = %self.path.display(), %error,
                "cannot write to the file: retrying for {:?}, then events are dropped until a \
                 write succeeds",
                self.wait_at_most,
            );
            Current { since: Instant::now(), backoff: BACKOFF, dropped: 0 }
        });
        let left = self.wait_at_most.saturating_sub(current.since.elapsed());
        if left.is_zero() {
            return false;
        }
        thread::sleep(current.backoff.pause().min(left));
        true
    }

    /// Counts events that were dropped because of the outage.
    pub(crate) fn dropped(&mut self, count: u64) {
        if let Some(current) = &mut self.current {
            current.dropped += count;
        }
    }

    /// Records a successful write.
    pub(crate) fn end(&mut self) {
        if let Some(outage) = self.current.take() {
            tracing::warn!(
                handler = %self.handler, path = %self.path.display(), dropped = outage.dropped,
                "the file can be written to again, after {:.1?}", outage.since.elapsed(),
            );
        }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if let Some(outage) = &self.current {
            tracing::warn!(
                handler = %self.handler, path = %self.path.display(), dropped = outage.dropped,
                "the run ends while the file cannot be written to",
            );
        }
    }
}
