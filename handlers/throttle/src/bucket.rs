//! The token bucket of a key.

use std::time::Duration;

use whalewatch_core::Timestamp;

/// The rate and the burst that each key is allowed.
///
/// Tokens are counted in integer units so that nothing is rounded: an event costs as many units as
/// `per` has nanoseconds, and each nanosecond adds `events` units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    events: u64,
    /// In nanoseconds.
    per: u64,
    burst: u64,
}

impl Allowance {
    /// Allows `events` in the time `per`, and `burst` at once.
    pub(crate) fn new(events: u64, per: Duration, burst: u64) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Self { events, per, burst }
    }

    /// The capacity of a bucket, in units.
    fn capacity(self) -> u128 {
        u128::from(self.burst) * u128::from(self.per)
    }

    /// Returns the time in which an empty bucket fills up.
    pub(crate) fn refill_time(self) -> Duration {
        let nanos = self.capacity().div_ceil(u128::from(self.events.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// The units that were left at the time `at`.
    left: u128,
    at: Timestamp,
}

impl Bucket {
    /// Creates a full bucket.
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self { left: allowance.capacity(), at: Timestamp(0) }
    }

    /// Returns the units left at a time. Time never goes back: a late event finds what is left at
    /// the time of the latest one.
    fn left_at(&self, allowance: Allowance, time: Timestamp) -> u128 {
        let elapsed = time.as_nanos().saturating_sub(self.at.as_nanos());
        let added = u128::from(elapsed) * u128::from(allowance.events);
        (self.left + added).min(allowance.capacity())
    }

    /// Takes the token of one event; returns whether there was one.
    pub(crate) fn take(&mut self, allowance: Allowance, time: Timestamp) -> bool {
        self.left = self.left_at(allowance, time);
        self.at = self.at.max(time);
        let rest = self.left.checked_sub(allowance.per.into());
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    /// Returns whether the bucket is full at a time, like a new one.
    pub(crate) fn is_full(&self, allowance: Allowance, time: Timestamp) -> bool {
        self.left_at(allowance, time) == allowance.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns which of the events at these milliseconds pass, at 2 in 10 ms.
    fn taken(burst: u64, at: &[u64]) -> Vec<bool> {
        let allowance = Allowance::new(2, Duration::from_millis(10), burst);
        let mut bucket = Bucket::new(allowance);
        at.iter().map(|ms| bucket.take(allowance, Timestamp(ms * 1_000_000))).collect()
    }

    #[test]
    fn burst_passes_and_then_events_at_the_rate() {
        assert_eq!(
            taken(2, &[100, 100, 100, 104, 105, 105]),
            [true, true, false, false, true, false]
        );
        assert_eq!(taken(1, &[100, 100, 104, 105, 110]), [true, false, false, true, true]);
        assert_eq!(taken(3, &[100, 100, 100, 100]), [true, true, true, false]);
    }

    #[test]
    fn late_events_add_no_tokens() {
        assert_eq!(taken(1, &[100, 90, 103, 80, 105]), [true, false, false, false, true]);
    }

    #[test]
    fn largest_options_do_not_overflow() {
        let day = Duration::from_hours(24);
        let allowance = Allowance::new(1_000_000_000, day, 1_000_000_000);
        let mut bucket = Bucket::new(allowance);
        assert!(bucket.take(allowance, Timestamp(u64::MAX)));
        assert!(!bucket.is_full(allowance, Timestamp(u64::MAX)));
        assert_eq!(allowance.refill_time(), day);
    }
}
