//! The allowance of a key.

use std::time::Duration;

use whalewatch_core::Timestamp;

/// How much is allowed.
///
/// Everything is counted in whole parts of an event, so that nothing is ever rounded: an event is
/// worth as many parts as `per` has nanoseconds, and each nanosecond brings `events` parts back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    events: u64,
    per: u64,
    burst: u64,
}

impl Allowance {
    /// `events` in the time `per`, and `burst` at once.
    pub(crate) fn new(events: u64, per: Duration, burst: u64) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Self { events, per, burst }
    }

    fn most(self) -> u128 {
        u128::from(self.burst) * u128::from(self.per)
    }

    /// How long it takes until a key that has used up everything has all of it again.
    pub(crate) fn whole(self) -> Duration {
        let nanos = self.most().div_ceil(u128::from(self.events.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What a key has left: a token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    left: u128,
    at: Timestamp,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self { left: allowance.most(), at: Timestamp(0) }
    }

    /// What would be left at that time. Time never runs backwards: an event that comes late finds
    /// what is there.
    fn left_at(&self, allowance: Allowance, time: Timestamp) -> u128 {
        let gone = time.as_nanos().saturating_sub(self.at.as_nanos());
        let back = u128::from(gone) * u128::from(allowance.events);
        (self.left + back).min(allowance.most())
    }

    /// Takes one event out, if there is one left.
    pub(crate) fn take(&mut self, allowance: Allowance, time: Timestamp) -> bool {
        self.left = self.left_at(allowance, time);
        self.at = self.at.max(time);
        let rest = self.left.checked_sub(allowance.per.into());
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    /// Whether it is as good as new.
    pub(crate) fn is_full(&self, allowance: Allowance, time: Timestamp) -> bool {
        self.left_at(allowance, time) == allowance.most()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the events at these milliseconds go on, at 2 in 10 ms.
    fn taken(burst: u64, at: &[u64]) -> Vec<bool> {
        let allowance = Allowance::new(2, Duration::from_millis(10), burst);
        let mut bucket = Bucket::new(allowance);
        at.iter().map(|ms| bucket.take(allowance, Timestamp(ms * 1_000_000))).collect()
    }

    #[test]
    fn a_burst_goes_on_and_then_as_much_as_comes_back() {
        assert_eq!(
            taken(2, &[100, 100, 100, 104, 105, 105]),
            [true, true, false, false, true, false]
        );
        assert_eq!(taken(1, &[100, 100, 104, 105, 110]), [true, false, false, true, true]);
        assert_eq!(taken(3, &[100, 100, 100, 100]), [true, true, true, false]);
    }

    #[test]
    fn events_that_come_late_bring_nothing_back() {
        assert_eq!(taken(1, &[100, 90, 103, 80, 105]), [true, false, false, false, true]);
    }

    #[test]
    fn the_largest_numbers_fit() {
        let day = Duration::from_hours(24);
        let allowance = Allowance::new(1_000_000_000, day, 1_000_000_000);
        let mut bucket = Bucket::new(allowance);
        assert!(bucket.take(allowance, Timestamp(u64::MAX)));
        assert!(!bucket.is_full(allowance, Timestamp(u64::MAX)));
        assert_eq!(allowance.whole(), day);
    }
}
