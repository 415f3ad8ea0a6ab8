//! Pauses between tries.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

/// Pauses that double from a first one up to a longest one. Each is shortened at random by up to a
/// half, so that many hosts that lost one server do not all come back to it at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses between these two.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), failures: 0 }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(30)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        // The standard library seeds these from the system's randomness: enough to keep hosts
        // apart.
        let random = RandomState::new().hash_one(self.failures);
        whole.mul_f64(1.0 - (random as f64 / u64::MAX as f64) / 2.0)
    }

    /// It worked: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The pause that a `Retry-After` header asks for: seconds, or a date, which is in the past if
/// nothing is to be waited for.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let date = Duration::from_secs(u64::try_from(date.as_second()).unwrap_or(0));
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(date.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again() {
        let mut backoff = Backoff::new(100 * MS, 1000 * MS);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause();
            assert!(pause >= whole * MS / 2 && pause <= whole * MS, "{pause:?} for {whole} ms");
        }
        backoff.reset();
        assert!(backoff.pause() <= 100 * MS);
    }

    #[test]
    fn pauses_differ_between_hosts() {
        let pauses = |()| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
            (0..4).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(()), pauses(()));
    }

    #[test]
    fn a_server_may_ask_for_seconds_or_for_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 5);
        for (value, want) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(5)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_number_of_failures_and_no_text_is_too_much(
            first in 0u64..u64::MAX, longest in 0u64..u64::MAX, tries in 0u32..80, value: String
        ) {
            let mut backoff = Backoff::new(Duration::from_millis(first), Duration::from_millis(longest));
            let most = Duration::from_millis(longest.max(first));
            for _ in 0..tries {
                prop_assert!(backoff.pause() <= most);
            }
            let _any = retry_after(&value, SystemTime::UNIX_EPOCH);
        }
    }
}
