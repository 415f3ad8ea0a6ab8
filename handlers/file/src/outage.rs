//! A time in which nothing can be written: tried again, then given up, told once when it begins and
//! once when it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_kit::Backoff;

/// Pauses between two tries.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

#[derive(Debug)]
pub(crate) struct Outage {
    handler: Arc<str>,
    path: PathBuf,
    wait_at_most: Duration,
    /// While it lasts.
    now: Option<Now>,
}

#[derive(Debug)]
struct Now {
    since: Instant,
    backoff: Backoff,
    dropped: u64,
}

impl Outage {
    pub(crate) fn new(handler: Arc<str>, path: PathBuf, wait_at_most: Duration) -> Self {
        Self { handler, path, wait_at_most, now: None }
    }

    /// A write failed. Waits, and says that it should be tried again; or, when that has gone on for
    /// too long, that it should be given up.
    pub(crate) fn try_again(&mut self, error: &io::Error) -> bool {
        let now = self.now.get_or_insert_with(|| {
            tracing::warn!(
                handler = %self.handler, path = %self.path.display(), %error,
                "cannot write to the file: tried again for {:?}, then events are dropped until it can be written to",
                self.wait_at_most,
            );
            Now { since: Instant::now(), backoff: BACKOFF, dropped: 0 }
        });
        let left = self.wait_at_most.saturating_sub(now.since.elapsed());
        if left.is_zero() {
            return false;
        }
        thread::sleep(now.backoff.pause().min(left));
        true
    }

    /// So many events were given up.
    pub(crate) fn dropped(&mut self, count: u64) {
        if let Some(now) = &mut self.now {
            now.dropped += count;
        }
    }

    /// A write went through.
    pub(crate) fn over(&mut self) {
        if let Some(now) = self.now.take() {
            tracing::warn!(
                handler = %self.handler, path = %self.path.display(), dropped = now.dropped,
                "the file can be written to again, after {:.1?}", now.since.elapsed(),
            );
        }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if let Some(now) = &self.now {
            tracing::warn!(
                handler = %self.handler, path = %self.path.display(), dropped = now.dropped,
                "the file could not be written to until the end",
            );
        }
    }
}
