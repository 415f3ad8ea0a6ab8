//! When a client lists all containers: one listing runs, at most one waits, no two start within the
//! interval, and a failed one is repeated.

use std::time::Duration;

use tokio::time::Instant;

use super::pause;

/// The schedule of a client's listings.
pub(super) struct Listings {
    interval: Duration,
    /// Whether a listing runs, or is about to.
    busy: bool,
    /// Whether another is wanted, and if so whether with processes.
    waiting: Option<bool>,
    /// When the last one started.
    began: Option<Instant>,
    failures: u32,
    /// Whether any listing had processes.
    processes_listed: bool,
}

impl Listings {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            busy: false,
            waiting: None,
            began: None,
            failures: 0,
            processes_listed: false,
        }
    }

    /// Requests a listing. Returns the pause after which to begin it, unless another one runs or
    /// the runtime is not there.
    pub(super) fn want(&mut self, processes: bool, there: bool) -> Option<Duration> {
        self.waiting = Some(self.waiting.unwrap_or(false) || processes);
        if self.busy || !there {
            return None;
        }
        self.busy = true;
        let since = self.began.as_ref().map_or(self.interval, Instant::elapsed);
        Some(self.interval.saturating_sub(since).max(self.retry_pause()))
    }

    /// Resets the schedule for a runtime that is there again, perhaps another one: the next listing
    /// begins at once. Returns whether it must have processes.
    pub(super) fn restart(&mut self) -> bool {
        self.began = None;
        self.failures = 0;
        !self.processes_listed
    }

    /// Begins a listing; returns whether it must have processes.
    pub(super) fn begin(&mut self) -> bool {
        self.began = Some(Instant::now());
        self.waiting.take().unwrap_or(false)
    }

    /// Puts the listing off: the runtime is gone. It takes place when the runtime is back.
    pub(super) fn put_off(&mut self) {
        self.busy = false;
    }

    /// Ends a listing. Returns whether another one is wanted, and if so whether with processes.
    pub(super) fn ended(&mut self, success: bool, processes: bool) -> Option<bool> {
        self.busy = false;
        if success {
            self.failures = 0;
            self.processes_listed |= processes;
        } else {
            self.failures += 1;
            self.waiting = Some(processes | self.waiting.unwrap_or(false));
        }
        self.waiting
    }

    fn retry_pause(&self) -> Duration {
        if self.failures == 0 { Duration::ZERO } else { pause(self.failures - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn one_listing_runs_and_one_waits_however_many_are_wanted() {
        let mut listings = Listings::new(S);
        assert_eq!(listings.want(false, true), Some(Duration::ZERO));
        listings.waiting = None; // it has begun
        for _ in 0..1000 {
            assert_eq!(listings.want(false, true), None);
        }
        assert_eq!(listings.want(true, true), None);
        assert_eq!(listings.waiting, Some(true)); // it does everything that was requested
    }

    #[tokio::test(start_paused = true)]
    async fn listings_keep_the_interval_and_failures_grow_the_pause() {
        let mut listings = Listings::new(S);
        listings.began = Some(Instant::now());
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(listings.want(false, true), Some(Duration::from_millis(600)));
        listings.busy = false;
        listings.failures = 4;
        assert_eq!(listings.want(false, true), Some(Duration::from_secs(2)));
        listings.busy = false;
        listings.failures = 40;
        assert_eq!(listings.want(false, true), Some(Duration::from_secs(5)));
    }

    #[test]
    fn listing_waits_for_a_runtime() {
        let mut listings = Listings::new(S);
        assert_eq!(listings.want(true, false), None);
        assert!(!listings.busy);
        assert_eq!(listings.waiting, Some(true));
    }
}
