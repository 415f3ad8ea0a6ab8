//! Options, and what can be wrong with them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Keys;

/// Options of the `throttle` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleOptions {
    /// Fields whose values together are a key; each key has an allowance of its own. `[]` for one
    /// allowance for all events.
    pub by: Vec<String>,
    /// How many events of each key may go on in the time `per`, in the long run: 1 to
    /// 1,000,000,000.
    pub events: u64,
    /// The time, by the events' own time: 1ms to 1day.
    pub per: HumanDuration,
    /// How many events of a key may go on at once after it was quiet: 1 to 1,000,000,000; as many
    /// as `events` if left out.
    pub burst: Option<u64>,
    /// How often it is said of a key, while that lasts, how many of its events were kept back: 1s
    /// to 1day.
    pub report: HumanDuration,
    /// How many keys are known at most: 1 to 1,000,000. Keys beyond share one allowance.
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

/// The most that `events` and `burst` may be.
const MOST_EVENTS: u64 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

impl ThrottleOptions {
    /// How many events may go on at once.
    pub(crate) fn burst(&self) -> u64 {
        self.burst.unwrap_or(self.events)
    }

    /// Everything that is wrong with them.
    pub(crate) fn problems(&self, input: &[Schema]) -> Vec<Problem> {
        let burst =
            self.burst.and_then(|burst| Problem::check_range("burst", burst, 1..=MOST_EVENTS));
        let ranges = [
            Problem::check_range("events", self.events, 1..=MOST_EVENTS),
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
