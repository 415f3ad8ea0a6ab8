//! Options, and what can be wrong with them.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Keys;

use crate::compute::{Compute, Function, check_name};

/// Options of the `aggregate` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AggregateOptions {
    /// Fields whose values together are a group; each group has results of its own. `[]` for one
    /// group of all events.
    pub by: Vec<String>,
    /// How long a window is, by the events' own time: 100ms to 1day. One begins where the last
    /// ended, the first in 1970.
    pub window: HumanDuration,
    /// How long a window stays open for events that come late: 0s to 1day, at most 100 windows.
    /// Later ones are only counted.
    pub late: HumanDuration,
    /// What is computed, by the name of its result: `count()`, `count(FIELD)`, `sum(FIELD)`,
    /// `min(FIELD)`, `max(FIELD)`, `distinct(FIELD)`, `top(FIELD, 5)`.
    pub compute: BTreeMap<String, String>,
    /// Whether the events go on, too, beside the results. If not, they end here and count as
    /// filtered.
    pub pass: bool,
    /// How many groups are kept at most, over all open windows: 1 to 100,000. Events of further
    /// keys are put together in one group of their window, for which `aggregate.rest` is true.
    pub max_groups: u32,
    /// How many different values of a field a group keeps at most for `distinct` and for `top`,
    /// each: 16 to 65,536. With more, `distinct` becomes an estimate, and the counts of `top` may
    /// be too low.
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
/// How many windows may be open at once because of `late`.
const MOST_WINDOWS: u32 = 100;

impl AggregateOptions {
    /// The computations with the names of their results; what is wrong with them goes to
    /// `problems`.
    pub(crate) fn computes(&self, problems: &mut Vec<Problem>) -> Vec<(String, Compute)> {
        let parse = |(name, text): (&String, &String)| {
            let compute = Compute::parse(&key(name), text);
            compute.map_err(|p| problems.push(p)).ok().map(|compute| (name.clone(), compute))
        };
        self.compute.iter().filter_map(parse).collect()
    }

    /// Everything that is wrong with them.
    pub(crate) fn problems(&self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = Keys::check("by", &self.by, input);
        let computes = self.computes(&mut problems);
        problems.extend(self.compute.keys().filter_map(|name| check_name(&key(name), name)));
        for (name, compute) in &computes {
            problems.extend(compute.check(&key(name), input));
            if let Function::Top(count) = compute.function
                && count > self.max_values as usize
            {
                let message = format!("`top` cannot give {count} values of {}", self.max_values);
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
                let most = DAY.min(window * MOST_WINDOWS);
                Problem::check_range("late", self.late.0, Duration::ZERO..=most)
            });
        let max_groups = Problem::check_range("max_groups", self.max_groups, 1..=100_000);
        let max_values = Problem::check_range("max_values", self.max_values, 16..=65_536);
        [times, max_groups, max_values].into_iter().flatten().collect()
    }
}

fn key(name: &str) -> String {
    format!("compute.{name}")
}
