//! Pauses between attempts.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Pauses that grow from one attempt to the next, up to a longest one. They double unless
/// [`Backoff::with_factor`] says otherwise.
///
/// It only computes: the caller waits, by whatever means it has.
///
/// ```
/// use std::time::Duration;
/// use whalewatch_kit::Backoff;
///
/// const SECOND: Duration = Duration::from_secs(1);
/// let mut backoff = Backoff::new(SECOND, 5 * SECOND);
/// assert_eq!([0; 4].map(|_| backoff.pause()), [SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND]);
/// backoff.reset(); // an attempt succeeded
/// assert_eq!(backoff.pause(), SECOND);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor: u32,
    jitter: bool,
    failures: u32,
}

impl Backoff {
    /// Creates pauses that start at `initial` and double up to `max`. A `max` below `initial` is
    /// taken as `initial`.
    pub const fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, factor: 2, jitter: false, failures: 0 }
    }

    /// Makes each pause `factor` times as long as the one before.
    #[must_use]
    pub const fn with_factor(self, factor: u32) -> Self {
        Self { factor, ..self }
    }

    /// Shortens each pause at random by up to a half, so that many hosts that lost the same server
    /// do not all return to it at once.
    #[must_use]
    pub const fn with_jitter(self) -> Self {
        Self { jitter: true, ..self }
    }

    /// Returns the pause before the next attempt, and counts one more failure.
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Returns the pause after this many earlier failures, for callers that count failures
    /// themselves: the initial one after 0.
    pub fn pause_after(&self, failures: u32) -> Duration {
        let factor = self.factor.saturating_pow(failures);
        let pause = self.initial.saturating_mul(factor).min(self.max.max(self.initial));
        if !self.jitter {
            return pause;
        }
        // The standard library seeds these from the system's randomness: enough to keep hosts
        // apart.
        let random = RandomState::new().hash_one(failures);
        pause.mul_f64(1.0 - (random as f64 / u64::MAX as f64) / 2.0)
    }

    /// Records a success: the next pause is the initial one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_grow_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(100 * MS, 1000 * MS);
        for pause in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(backoff.pause(), pause * MS);
        }
        backoff.reset();
        assert_eq!(backoff.pause(), 100 * MS);
    }

    #[test]
    fn factor_says_how_fast_pauses_grow() {
        const BACKOFF: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(20));
        let pauses = [0, 1, 2, 3].map(|failures| BACKOFF.with_factor(4).pause_after(failures));
        assert_eq!(pauses, [5 * MS, 20 * MS, 80 * MS, 320 * MS]);
        let constant = BACKOFF.with_factor(1);
        assert_eq!(constant.pause_after(u32::MAX), 5 * MS);
    }

    #[test]
    fn jitter_shortens_each_pause_by_up_to_a_half() {
        let mut backoff = Backoff::new(100 * MS, 1000 * MS).with_jitter();
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause();
            assert!(pause >= whole * MS / 2 && pause <= whole * MS, "{pause:?} for {whole} ms");
        }
    }

    #[test]
    fn jitter_differs_between_hosts() {
        let pauses = |()| {
            let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
            let mut backoff = backoff.with_jitter();
            [0; 4].map(|_| backoff.pause())
        };
        assert_ne!(pauses(()), pauses(()));
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_the_longest(
            initial: u64, max: u64, factor: u32, jitter: bool, failures: u32, tries in 0u32..80
        ) {
            let mut backoff = Backoff {
                initial: Duration::from_millis(initial),
                max: Duration::from_millis(max),
                factor,
                jitter,
                failures,
            };
            let most = Duration::from_millis(max.max(initial));
            for _ in 0..tries {
                prop_assert!(backoff.pause() <= most);
            }
        }
    }
}
