//! When a client is to list all containers: one listing runs, at most one waits, never two within
//! the interval, again if it fails.

use std::time::Duration;

use tokio::time::Instant;

use super::pause;

/// How far the listing is.
pub(super) struct Refresh {
    interval: Duration,
    /// One runs, or is about to.
    busy: bool,
    /// Another is wanted, with or without processes.
    waiting: Option<bool>,
    /// When the last one began.
    began: Option<Instant>,
    failures: u32,
    /// Whether processes were listed once.
    processes_told: bool,
}

impl Refresh {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            busy: false,
            waiting: None,
            began: None,
            failures: 0,
            processes_told: false,
        }
    }

    /// Wants one more; says after what pause it is to begin, unless it has to wait for another.
    pub(super) fn want(&mut self, processes: bool, there: bool) -> Option<Duration> {
        self.waiting = Some(self.waiting.unwrap_or(false) || processes);
        if self.busy || !there {
            return None;
        }
        self.busy = true;
        let since = self.began.as_ref().map_or(self.interval, Instant::elapsed);
        Some(self.interval.saturating_sub(since).max(self.retry_pause()))
    }

    /// The runtime is there, perhaps another than before: the next one begins at once. Says whether
    /// it is to tell processes.
    pub(super) fn anew(&mut self) -> bool {
        self.began = None;
        self.failures = 0;
        !self.processes_told
    }

    /// One begins; says whether it is to tell processes.
    pub(super) fn begin(&mut self) -> bool {
        self.began = Some(Instant::now());
        self.waiting.take().unwrap_or(false)
    }

    /// It cannot begin: the runtime is gone. What was wanted is done when it is back.
    pub(super) fn put_off(&mut self) {
        self.busy = false;
    }

    /// It has ended; says whether another is wanted, with or without processes.
    pub(super) fn ended(&mut self, well: bool, processes: bool) -> Option<bool> {
        self.busy = false;
        if well {
            self.failures = 0;
            self.processes_told |= processes;
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
    fn however_many_are_wanted_one_runs_and_one_waits() {
        let mut refresh = Refresh::new(S);
        assert_eq!(refresh.want(false, true), Some(Duration::ZERO));
        refresh.waiting = None; // it has begun
        for _ in 0..1000 {
            assert_eq!(refresh.want(false, true), None);
        }
        assert_eq!(refresh.want(true, true), None);
        assert_eq!(refresh.waiting, Some(true)); // what waits does all that was wanted
    }

    #[tokio::test(start_paused = true)]
    async fn two_are_never_closer_than_the_interval_and_failures_grow_the_pause() {
        let mut refresh = Refresh::new(S);
        refresh.began = Some(Instant::now());
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(refresh.want(false, true), Some(Duration::from_millis(600)));
        refresh.busy = false;
        refresh.failures = 4;
        assert_eq!(refresh.want(false, true), Some(Duration::from_secs(2)));
        refresh.busy = false;
        refresh.failures = 40;
        assert_eq!(refresh.want(false, true), Some(Duration::from_secs(5)));
    }

    #[test]
    fn without_a_daemon_it_waits_for_one() {
        let mut refresh = Refresh::new(S);
        assert_eq!(refresh.want(true, false), None);
        assert!(!refresh.busy);
        assert_eq!(refresh.waiting, Some(true));
    }
}
