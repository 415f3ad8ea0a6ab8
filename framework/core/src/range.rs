//! Checks that an option's value is within its bounds.

use std::ops::{RangeFrom, RangeInclusive, RangeToInclusive};
use std::time::Duration;

use crate::options::{HumanDuration, Problem};
use crate::size::HumanSize;

/// The value of an option that has bounds: a number, a duration or a size.
pub trait Bounded: Copy + PartialOrd {
    /// Returns the value as messages show it, with its unit.
    fn shown(self) -> String;

    /// Returns the value as the configuration file has it.
    fn written(self) -> String {
        format!("\"{}\"", self.shown())
    }
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Bounded for $ty {
            fn shown(self) -> String {
                self.to_string()
            }

            fn written(self) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 usize i32 i64);

impl Bounded for Duration {
    fn shown(self) -> String {
        HumanDuration(self).to_string()
    }
}

impl Bounded for HumanDuration {
    fn shown(self) -> String {
        self.to_string()
    }
}

impl Bounded for HumanSize {
    fn shown(self) -> String {
        self.to_string()
    }
}

/// The values that an option may have: from one to another, both included, or open at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits<T> {
    least: Option<T>,
    most: Option<T>,
}

impl<T> From<RangeInclusive<T>> for Limits<T> {
    fn from(range: RangeInclusive<T>) -> Self {
        let (least, most) = range.into_inner();
        Self { least: Some(least), most: Some(most) }
    }
}

impl<T> From<RangeFrom<T>> for Limits<T> {
    fn from(range: RangeFrom<T>) -> Self {
        Self { least: Some(range.start), most: None }
    }
}

impl<T> From<RangeToInclusive<T>> for Limits<T> {
    fn from(range: RangeToInclusive<T>) -> Self {
        Self { least: None, most: Some(range.end) }
    }
}

impl Problem {
    /// Returns a problem if the option `key` has a `value` outside `limits`. The hint shows the
    /// nearest value that is allowed; [`Problem::hint`] replaces it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use whalewatch_core::Problem;
    ///
    /// let problem = Problem::check_range("max_keys", 0, 1..=1_000_000).unwrap();
    /// assert_eq!(problem.message, "0 is out of range: expected 1 to 1000000");
    /// assert_eq!(problem.hint.unwrap(), "write for example 1");
    ///
    /// let minute = Duration::from_mins(1);
    /// let problem = Problem::check_range("hold", 2 * minute, ..=minute).unwrap();
    /// assert_eq!(problem.message, "2m is out of range: expected at most 1m");
    /// ```
    pub fn check_range<T: Bounded>(
        key: impl Into<String>,
        value: T,
        limits: impl Into<Limits<T>>,
    ) -> Option<Self> {
        let Limits { least, most } = limits.into();
        let nearest = match (least, most) {
            (Some(least), _) if value < least => least,
            (_, Some(most)) if value > most => most,
            _ => return None,
        };
        let expected = match (least.map(Bounded::shown), most.map(Bounded::shown)) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) => format!("at least {least}"),
            (None, most) => format!("at most {}", most.unwrap_or_default()),
        };
        let message = format!("{} is out of range: expected {expected}", value.shown());
        let hint = format!("write for example {}", nearest.written());
        Some(Self::new(key, message).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<T: Bounded>(value: T, limits: impl Into<Limits<T>>) -> Option<(String, String)> {
        let problem = Problem::check_range("some.key", value, limits)?;
        assert_eq!(problem.key, "some.key");
        Some((problem.message, problem.hint.expect("a hint")))
    }

    fn both(message: &str, hint: &str) -> (String, String) {
        (message.to_owned(), hint.to_owned())
    }

    #[test]
    fn values_within_their_limits_are_accepted() {
        for value in [1, 2, 4096] {
            assert_eq!(texts(value, 1..=4096), None);
            assert_eq!(texts(value, 1..), None);
            assert_eq!(texts(value, ..=4096), None);
        }
    }

    #[test]
    fn problem_names_value_range_and_nearest_allowed_value() {
        let second = Duration::from_secs(1);
        assert_eq!(
            texts(0, 1..=4096),
            Some(both("0 is out of range: expected 1 to 4096", "write for example 1"))
        );
        assert_eq!(
            texts(2 * second, Duration::ZERO..=second),
            Some(both("2s is out of range: expected 0s to 1s", "write for example \"1s\""))
        );
        assert_eq!(
            texts(HumanDuration(second / 100), HumanDuration(second / 10)..),
            Some(both(
                "10ms is out of range: expected at least 100ms",
                "write for example \"100ms\""
            ))
        );
        assert_eq!(
            texts(HumanSize(2 << 20), ..=HumanSize(1 << 20)),
            Some(both(
                "2 MiB is out of range: expected at most 1 MiB",
                "write for example \"1 MiB\""
            ))
        );
    }
}
