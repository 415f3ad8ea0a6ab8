//! Telling of trouble, once and not once for each event.

use std::time::{Duration, Instant};

/// Whether a server can be reached: told when that ends and when it begins again, not in between.
#[derive(Debug)]
pub struct Outage {
    handler: String,
    server: String,
    since: Option<Instant>,
}

impl Outage {
    /// Of the server that the handler of that name talks to.
    pub fn new(handler: &str, server: &str) -> Self {
        Self { handler: handler.to_owned(), server: server.to_owned(), since: None }
    }

    /// A try failed.
    pub fn fails(&mut self, why: &str) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let (handler, server) = (&self.handler, &self.server);
            tracing::warn!(handler, server, why, "the server takes nothing; it is tried again");
        }
    }

    /// A try worked.
    pub fn works(&mut self) {
        if let Some(since) = self.since.take() {
            let (handler, server, after) = (&self.handler, &self.server, since.elapsed());
            tracing::warn!(handler, server, ?after, "the server takes events again");
        }
    }
}

/// Tells at once of the first of many things alike, and of those that follow with their number, at
/// most so often.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Option<Instant>,
    untold: u64,
}

impl Default for Seldom {
    /// At most every ten seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl Seldom {
    /// At most once in so much time.
    pub fn new(every: Duration) -> Self {
        Self { every, last: None, untold: 0 }
    }

    /// So many more happened; gives the number of all that have not been told of if it is time to
    /// tell.
    pub fn count(&mut self, more: u64) -> Option<u64> {
        self.count_at(more, Instant::now())
    }

    fn count_at(&mut self, more: u64, now: Instant) -> Option<u64> {
        self.untold += more;
        let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if !due || self.untold == 0 {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_in_sum() {
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
