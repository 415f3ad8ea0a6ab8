//! Logs trouble once and not for each event.

use std::time::{Duration, Instant};

/// Logs when a server becomes unreachable and when it is reachable again.
#[derive(Debug)]
pub struct Outage {
    handler: String,
    server: String,
    since: Option<Instant>,
}

impl Outage {
    /// Starts as reachable. Both names are for the log.
    pub fn new(handler: &str, server: &str) -> Self {
        Self { handler: handler.to_owned(), server: server.to_owned(), since: None }
    }

    /// Records a failed attempt.
    pub fn fails(&mut self, why: &str) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let (handler, server) = (&self.handler, &self.server);
            tracing::warn!(handler, server, why, "server unreachable, retrying");
        }
    }

    /// Records a successful attempt.
    pub fn works(&mut self) {
        if let Some(since) = self.since.take() {
            let (handler, server, after) = (&self.handler, &self.server, since.elapsed());
            tracing::warn!(handler, server, ?after, "server reachable again");
        }
    }
}

/// Limits reports of a repeated problem: the first is due at once, the following ones in sum, at
/// most once in an interval.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Option<Instant>,
    unreported: u64,
}

impl Default for Seldom {
    /// At most one report in ten seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl Seldom {
    /// At most one report in this interval.
    pub fn new(every: Duration) -> Self {
        Self { every, last: None, unreported: 0 }
    }

    /// Counts `more` occurrences. If a report is due, returns the number of all that are not
    /// reported yet.
    pub fn count(&mut self, more: u64) -> Option<u64> {
        self.count_at(more, Instant::now())
    }

    fn count_at(&mut self, more: u64, now: Instant) -> Option<u64> {
        self.unreported += more;
        let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if !due || self.unreported == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_is_reported_at_once_and_the_rest_in_sum() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut seldom = Seldom::default();
        assert_eq!(seldom.count_at(0, at(0)), None);
        assert_eq!(seldom.count_at(3, at(0)), Some(3));
        assert_eq!(seldom.count_at(1, at(1)), None);
        assert_eq!(seldom.count_at(1, at(9)), None);
        assert_eq!(seldom.count_at(1, at(10)), Some(3));
        assert_eq!(seldom.count_at(0, at(30)), None);
    }
}
