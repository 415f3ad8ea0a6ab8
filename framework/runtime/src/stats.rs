//! Totals of a run: how many events came, where they went, and what became of the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};
use whalewatch_core::HandlerCounters;

use crate::actors::tracker::TrackerCounters;

/// Totals by part of the configuration. At the end of a run they add up: for each tracker
/// `generated = delivered + lost + refused + invalid`, for each handler `in + added = out + filtered + dropped + errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By name of the tracker.
    pub trackers: BTreeMap<String, TrackerTotals>,
    /// By name of the handler.
    pub handlers: BTreeMap<String, HandlerTotals>,
    /// By container id, and `host` and `unknown`, as a container manager counted at the end of the run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerTotals>,
}

/// Totals of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTotals {
    /// Its name, where known.
    pub name: Option<String>,
    /// Events that were attributed to it.
    pub events: u64,
    /// Events of its cgroups that the kernel could not hand over.
    pub lost: u64,
    /// Events of its cgroups that a budget refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
}

/// Totals of a tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerTotals {
    /// Events that happened and were to be reported.
    pub generated: u64,
    /// Events that the kernel could not hand over.
    pub lost: u64,
    /// Events that a budget refused.
    #[serde(default)]
    pub refused: u64,
    /// Events that went on to handlers.
    pub delivered: u64,
    /// Records that could not be read.
    pub invalid: u64,
    /// `lost` by cgroup id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_by_cgroup: BTreeMap<u64, u64>,
    /// `refused` by cgroup id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused_by_cgroup: BTreeMap<u64, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Totals of a handler, over all chains that it stands in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerTotals {
    /// Events that came in.
    #[serde(rename = "in")]
    pub input: u64,
    /// Events that it made itself.
    pub added: u64,
    /// Events that went on or, at the end of a chain, were delivered.
    #[serde(rename = "out")]
    pub output: u64,
    /// Events that it was asked to leave out.
    pub filtered: u64,
    /// Events that were refused for want of room or of a reader.
    pub dropped: u64,
    /// Events that an error or a panic took.
    pub errors: u64,
    /// Times it was started again.
    pub restarts: u64,
}

impl Totals {
    /// Whether every event is accounted for. True at the end of a run; in the middle of one, events are on their way.
    pub fn add_up(&self) -> bool {
        let trackers = self
            .trackers
            .values()
            .all(|t| t.generated == t.delivered + t.lost + t.refused + t.invalid);
        let handlers = self
            .handlers
            .values()
            .all(|h| h.input + h.added == h.output + h.filtered + h.dropped + h.errors);
        trackers && handlers
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, t) in &self.trackers {
            writeln!(
                f,
                "tracker {name}: {} generated, {} delivered, {} lost",
                t.generated, t.delivered, t.lost
            )?;
            if t.refused > 0 {
                writeln!(f, "tracker {name}: {} refused by its budget", t.refused)?;
            }
            if t.invalid > 0 {
                writeln!(f, "tracker {name}: {} records could not be read", t.invalid)?;
            }
        }
        for (name, h) in &self.handlers {
            write!(f, "handler {name}: {} in", h.input)?;
            for (count, word) in [
                (h.added, "added"),
                (h.output, "out"),
                (h.filtered, "filtered"),
                (h.dropped, "dropped"),
                (h.errors, "lost to errors"),
                (h.restarts, "restarts"),
            ] {
                if count > 0 {
                    write!(f, ", {count} {word}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Where the parts of a running system count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) trackers: Vec<(Arc<str>, Arc<TrackerCounters>)>,
    /// A handler that stands in several chains and is not shared has counters for each.
    pub(crate) handlers: Vec<(Arc<str>, Arc<HandlerCounters>)>,
}

impl Counters {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (name, counters) in &self.trackers {
            let (counts, delivered) = counters.read();
            totals.trackers.insert(
                name.to_string(),
                TrackerTotals {
                    generated: counts.generated,
                    lost: counts.lost,
                    refused: counts.refused,
                    delivered,
                    invalid: counts.invalid,
                    lost_by_cgroup: counts.lost_by_cgroup.into_iter().collect(),
                    refused_by_cgroup: counts.refused_by_cgroup.into_iter().collect(),
                },
            );
        }
        for (name, c) in &self.handlers {
            let t = totals.handlers.entry(name.to_string()).or_default();
            t.input += c.input.load(Relaxed);
            t.added += c.added.load(Relaxed);
            t.output += c.output.load(Relaxed);
            t.filtered += c.filtered.load(Relaxed);
            t.dropped += c.dropped.load(Relaxed);
            t.errors += c.errors.load(Relaxed);
            t.restarts += c.restarts.load(Relaxed);
        }
        totals.containers = self.containers(&totals.trackers);
        totals
    }

    /// Joins what container managers counted with what trackers lost, by cgroup.
    fn containers(
        &self,
        trackers: &BTreeMap<String, TrackerTotals>,
    ) -> BTreeMap<String, ContainerTotals> {
        let mut containers: BTreeMap<String, ContainerTotals> = BTreeMap::new();
        let mut owners = BTreeMap::new();
        for (id, counts) in self.handlers.iter().flat_map(|(_, c)| c.containers()) {
            let totals = containers.entry(id.to_string()).or_default();
            totals.name = counts.name.map(|name| name.to_string());
            totals.events += counts.events;
            owners.extend(counts.cgroups.into_iter().map(|cgroup| (cgroup, id.to_string())));
        }
        if containers.is_empty() {
            return containers; // No container manager stood in any chain.
        }
        for (cgroup, lost) in trackers.values().flat_map(|t| &t.lost_by_cgroup) {
            let owner = owners.get(cgroup).map_or("unknown", String::as_str);
            containers.entry(owner.to_owned()).or_default().lost += lost;
        }
        for (cgroup, refused) in trackers.values().flat_map(|t| &t.refused_by_cgroup) {
            let owner = owners.get(cgroup).map_or("unknown", String::as_str);
            containers.entry(owner.to_owned()).or_default().refused += refused;
        }
        containers
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{ContainerCounts, SourceCounts};

    use super::*;

    #[test]
    fn what_was_lost_is_told_by_container() {
        let manager = HandlerCounters::default();
        let web = ContainerCounts { name: Some("web".into()), events: 7, cgroups: vec![12, 13] };
        let host = ContainerCounts { events: 5, ..ContainerCounts::default() };
        manager.set_containers([("ab".into(), web), ("host".into(), host)].into());
        let tracker = TrackerCounters::default();
        let lost_by_cgroup = [(12, 3), (13, 1), (99, 2)].into();
        let counts = SourceCounts { generated: 6, lost: 6, lost_by_cgroup, ..Default::default() };
        tracker.write(counts, 0);
        let counters = Counters {
            trackers: vec![("process".into(), Arc::new(tracker))],
            handlers: vec![("container".into(), Arc::new(manager))],
        };
        let told: Vec<_> = counters
            .totals()
            .containers
            .into_iter()
            .map(|(id, c)| (id, c.name, c.events, c.lost))
            .collect();
        assert_eq!(
            told,
            [
                (String::from("ab"), Some(String::from("web")), 7, 4),
                (String::from("host"), None, 5, 0),
                (String::from("unknown"), None, 0, 2),
            ]
        );
    }
}
