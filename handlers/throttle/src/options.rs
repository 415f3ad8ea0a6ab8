//! Options of the `throttle` handler, and their checks.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Keys;

/// Options of the `throttle` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleOptions {
    /// The fields that form the key of an event; each key has a separate allowance. `[]` gives all
    /// events one allowance.
    pub by: Vec<String>,
    /// How many events of each key pass in each `per`, on average: 1 to 1,000,000,000.
    pub events: u64,
    /// The time for `events`, in the events' time: 1ms to 1day.
    pub per: HumanDuration,
    /// How many events of a key pass at once after a quiet time: 1 to 1,000,000,000. Default: the
    /// same as `events`.
    pub burst: Option<u64>,
    /// How often to report the number of suppressed events of a key, while it exceeds its
    /// allowance: 1s to 1day.
    pub report: HumanDuration,
    /// The most keys to keep: 1 to 1,000,000. Further keys share one allowance.
    pub max_keys: u32,
}

impl Default for ThrottleOptions {
    fn default() -> Self {
        Self {
            by: vec!["container.name".to_owned(), "kind".to_owned()],
            events: 100,
            per: HumanDuration(Duration::from_secs(1)),
            burst: None,
            report: HumanDuration(Duration::from_secs(10)),
            max_keys: 10_000,
        }
    }
}

/// The largest `events` and `burst`.
const MAX_EVENTS: u64 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

impl ThrottleOptions {
    /// Returns how many events pass at once after a quiet time.
    pub(crate) fn burst(&self) -> u64 {
        self.burst.unwrap_or(self.events)
    }

    /// Returns all mistakes in the options. `input` has the schemas of the incoming events.
    pub(crate) fn problems(&self, input: &[Schema]) -> Vec<Problem> {
        let burst =
            self.burst.and_then(|burst| Problem::check_range("burst", burst, 1..=MAX_EVENTS));
        let ranges = [
            Problem::check_range("events", self.events, 1..=MAX_EVENTS),
            Problem::check_range("per", self.per.0, Duration::from_millis(1)..=DAY),
            burst,
            Problem::check_range("report", self.report.0, SECOND..=DAY),
            Problem::check_range("max_keys", self.max_keys, 1..=1_000_000),
        ];
        let mut problems = Keys::check("by", &self.by, input);
        problems.extend(ranges.into_iter().flatten());
        problems
    }
}
