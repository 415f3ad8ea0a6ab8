//! Parsing of times such as `yesterday` or `2h ago`.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use whalewatch_core::{HumanDuration, Timestamp};

const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

/// A point in time, absolute or relative to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(Timestamp),
    /// A duration before now.
    Ago(Duration),
    /// The start of the day this number of days before today, in UTC.
    Day(u64),
}

impl When {
    /// Returns the point in time; for a day, its start.
    pub(super) fn start(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => {
                let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
                Timestamp(now.as_nanos().saturating_sub(ago))
            }
            Self::Day(days) => {
                let today = now.as_nanos() / DAY;
                Timestamp(today.saturating_sub(days) * DAY)
            }
        }
    }

    /// Returns the start of the next day.
    pub(super) fn end_of_day(self, now: Timestamp) -> Timestamp {
        Timestamp(self.start(now).as_nanos().saturating_add(DAY))
    }
}

/// Parses a time for clap.
pub(super) fn parse(text: &str) -> Result<When, String> {
    let trimmed = text.trim();
    let ago = trimmed.strip_prefix('-').or_else(|| trimmed.strip_suffix("ago"));
    if let Some(ago) = ago {
        return ago.trim().parse::<HumanDuration>().map(|duration| When::Ago(duration.0));
    }
    if trimmed == "now" {
        return Ok(When::Ago(Duration::ZERO));
    }
    day(trimmed).or_else(|| point(trimmed)).ok_or_else(|| {
        format!(
            "{text:?} is not a time: write 2026-11-23T13:46:20Z, 2026-11-23, today, yesterday, \
             now, -2h or '2h ago'"
        )
    })
}

/// Parses a day for clap.
pub(super) fn parse_day(text: &str) -> Result<When, String> {
    day(text.trim())
        .ok_or_else(|| format!("{text:?} is not a day: write yesterday, today or 2026-11-23"))
}

fn day(text: &str) -> Option<When> {
    match text {
        "today" => Some(When::Day(0)),
        "yesterday" => Some(When::Day(1)),
        // The date parser would ignore a time of day after the date.
        _ if text.contains(['T', 't', ' ', ':']) => None,
        _ => utc(text.parse::<Date>().ok()?.at(0, 0, 0, 0)),
    }
}

/// Parses a time with an offset, or without one for UTC.
fn point(text: &str) -> Option<When> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => since_epoch(at),
        Err(_) => utc(text.parse::<DateTime>().ok()?),
    }
}

fn utc(at: DateTime) -> Option<When> {
    since_epoch(Offset::UTC.to_timestamp(at).ok()?)
}

fn since_epoch(at: jiff::Timestamp) -> Option<When> {
    u64::try_from(at.as_nanosecond()).ok().map(|nanos| When::At(Timestamp(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T13:46:20Z.
    const NOW: Timestamp = Timestamp(1_795_441_580_000_000_000);

    fn seconds(text: &str) -> Result<u64, String> {
        parse(text).map(|when| when.start(NOW).as_nanos() / 1_000_000_000)
    }

    #[test]
    fn times_are_parsed() {
        for (text, want) in [
            ("now", 1_795_441_580),
            ("2026-11-23T13:46:20Z", 1_795_441_580),
            ("2026-11-23T14:46:20+01:00", 1_795_441_580),
            ("2026-11-23T13:46:20.9Z", 1_795_441_580),
            ("2026-11-23 13:46:20", 1_795_441_580),
            ("2026-11-23T13:46", 1_795_441_560),
            ("2026-11-23", 1_795_392_000),
            ("today", 1_795_392_000),
            ("yesterday", 1_795_305_600),
            ("-2h", 1_795_434_380),
            ("2h ago", 1_795_434_380),
            (" 1h 30m ago ", 1_795_436_180),
            ("-99999 years", 0),
        ] {
            assert_eq!(seconds(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn invalid_time_is_refused_with_examples() {
        for text in ["", "soon", "2026-13-01", "2026-11-23T25:00Z", "1969-12-31", "2h", "12:00"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("is not a time: write 2026-11-23T13:46:20Z"), "{text}: {error}");
        }
        assert!(parse("-soon").expect_err("no duration").contains("is not a duration"));
        assert!(parse_day("2h ago").expect_err("no day").contains("write yesterday, today"));
    }

    #[test]
    fn day_ends_where_the_next_one_starts() {
        let yesterday = parse_day("yesterday").expect("a day");
        assert_eq!(yesterday.end_of_day(NOW), parse("today").expect("a day").start(NOW));
    }
}
