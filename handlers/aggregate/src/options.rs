//! Options of the `aggregate` handler, and their checks.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Keys;

use crate::compute::{Computation, Function, check_name};

/// Options of the `aggregate` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AggregateOptions {
    /// The fields to group events by: events with the same values form a group, and each group has
    /// separate results. `[]` puts all events into one group.
    pub by: Vec<String>,
    /// The length of a window, in the events' time: 100ms to 1day. Windows follow one another
    /// without gaps and start at multiples of their length since 1970.
    pub window: HumanDuration,
    /// How long a window stays open for late events: 0s to 1day, and at most 100 times `window`.
    /// Events that arrive after that are only counted, in `aggregate.late`.
    pub late: HumanDuration,
    /// The computations, by the names of their results: `count()`, `count(FIELD)`, `sum(FIELD)`,
    /// `min(FIELD)`, `max(FIELD)`, `distinct(FIELD)`, `top(FIELD, 5)`.
    pub compute: BTreeMap<String, String>,
    /// Whether to pass the events on beside the results. If not, they end here and count as
    /// filtered.
    pub pass: bool,
    /// The most groups to keep, over all open windows: 1 to 100,000. Events of further groups are
    /// combined in one group for each window, for which `aggregate.rest` is true.
    pub max_groups: u32,
    /// The most different values that each `distinct` and each `top` of a group keeps: 16 to
    /// 65,536. With more values, `distinct` becomes an estimate, and the counts of `top` may be too
    /// low.
    pub max_values: u32,
}

impl Default for AggregateOptions {
    fn default() -> Self {
        Self {
            by: vec!["container.name".to_owned()],
            window: HumanDuration(Duration::from_secs(10)),
            late: HumanDuration(Duration::from_secs(2)),
            compute: BTreeMap::new(),
            pass: false,
            max_groups: 1_000,
            max_values: 256,
        }
    }
}

const DAY: Duration = Duration::from_hours(24);
/// The largest `late`, in windows.
const MAX_LATE_WINDOWS: u32 = 100;

impl AggregateOptions {
    /// Parses the computations; returns the valid ones with the names of their results, and adds
    /// the mistakes to `problems`.
    pub(crate) fn computations(&self, problems: &mut Vec<Problem>) -> Vec<(String, Computation)> {
        let parse = |(name, text): (&String, &String)| {
            let compute = Computation::parse(&key(name), text);
            compute.map_err(|p| problems.push(p)).ok().map(|compute| (name.clone(), compute))
        };
        self.compute.iter().filter_map(parse).collect()
    }

    /// Returns all mistakes in the options. `input` has the schemas of the incoming events.
    pub(crate) fn problems(&self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = Keys::check("by", &self.by, input);
        let computations = self.computations(&mut problems);
        problems.extend(self.compute.keys().filter_map(|name| check_name(&key(name), name)));
        for (name, compute) in &computations {
            problems.extend(compute.check(&key(name), input));
            if let Function::Top(count) = compute.function
                && count > self.max_values as usize
            {
                let max = self.max_values;
                let message = format!("`top` cannot return {count} values with max_values = {max}");
                problems.push(Problem::new(key(name), message).hint("raise max_values"));
            }
        }
        problems.extend(self.out_of_range());
        problems
    }

    fn out_of_range(&self) -> Vec<Problem> {
        let window = self.window.0;
        let times = Problem::check_range("window", window, Duration::from_millis(100)..=DAY)
            .or_else(|| {
                let max = DAY.min(window * MAX_LATE_WINDOWS);
                Problem::check_range("late", self.late.0, Duration::ZERO..=max)
            });
        let max_groups = Problem::check_range("max_groups", self.max_groups, 1..=100_000);
        let max_values = Problem::check_range("max_values", self.max_values, 16..=65_536);
        [times, max_groups, max_values].into_iter().flatten().collect()
    }
}

fn key(name: &str) -> String {
    format!("compute.{name}")
}
