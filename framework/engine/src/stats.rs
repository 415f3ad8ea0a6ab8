//! Totals of a run: how many events there were, and where each of them left the chains.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use flume::{Sender, WeakSender};
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, HandlerCounters, HandlerHealth, HealthReport, Owner, TrackerHealth};

use crate::actors::ActorId;
use crate::actors::tracker::TrackerCounters;

/// Totals by part of the configuration. At the end of a run they add up: for each tracker
/// `generated = delivered + lost + refused + invalid`, and for each handler
/// `in + added = out + filtered + dropped + errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By name of the tracker.
    pub trackers: BTreeMap<String, TrackerTotals>,
    /// By name of the handler.
    pub handlers: BTreeMap<String, HandlerTotals>,
    /// By owner, as container managers counted at the end of the run: the id of each container,
    /// `host`, `unknown`, and `forgotten` for containers that are no longer counted one by one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<Owner, ContainerTotals>,
}

/// Totals of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTotals {
    /// Its name, if known.
    pub name: Option<String>,
    /// Events that were attributed to it.
    pub events: u64,
    /// Events of its cgroups that the kernel could not hand over.
    pub lost: u64,
    /// Events of its cgroups that a budget refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
}

/// Totals of one tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerTotals {
    /// Events that happened in the tracker's scope.
    pub generated: u64,
    /// Events that the kernel could not hand over.
    pub lost: u64,
    /// Events that a budget refused.
    #[serde(default)]
    pub refused: u64,
    /// Events that were sent to handlers.
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

/// Totals of one handler, over all its chains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerTotals {
    /// Events that it received.
    #[serde(rename = "in")]
    pub input: u64,
    /// Events that it created.
    pub added: u64,
    /// Events that it passed on or, at the end of a chain, delivered.
    #[serde(rename = "out")]
    pub output: u64,
    /// Events that its options exclude.
    pub filtered: u64,
    /// Events that were refused by a full queue, by a policy, or because a reader has gone.
    pub dropped: u64,
    /// Events that were lost to an error or a panic.
    pub errors: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// `dropped` by owner, as far as known: the id of each container, `host`, `unknown`, and
    /// `other` for owners beyond the first 4096.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped_by_container: BTreeMap<Owner, u64>,
    /// The same by cgroup id, if there is no container manager to name the containers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped_by_cgroup: BTreeMap<u64, u64>,
}

impl Totals {
    fn add_tracker(&mut self, name: &str, counters: &TrackerCounters) {
        let (counts, delivered) = counters.read();
        let totals = self.trackers.entry(name.to_owned()).or_default();
        totals.generated += counts.generated;
        totals.lost += counts.lost;
        totals.refused += counts.refused;
        totals.delivered += delivered;
        totals.invalid += counts.invalid;
        for (of, counts) in [
            (&mut totals.lost_by_cgroup, counts.lost_by_cgroup),
            (&mut totals.refused_by_cgroup, counts.refused_by_cgroup),
        ] {
            for (cgroup, count) in counts {
                *of.entry(cgroup).or_default() += count;
            }
        }
    }

    fn add_handler(&mut self, name: &str, c: &HandlerCounters) {
        let totals = self.handlers.entry(name.to_owned()).or_default();
        totals.input += c.input.load(Relaxed);
        totals.added += c.added.load(Relaxed);
        totals.output += c.output.load(Relaxed);
        totals.filtered += c.filtered.load(Relaxed);
        totals.dropped += c.dropped.load(Relaxed);
        totals.errors += c.errors.load(Relaxed);
        totals.restarts += c.restarts.load(Relaxed);
        let dropped = c.dropped_by();
        for (owner, count) in dropped.containers {
            *totals.dropped_by_container.entry(owner).or_default() += count;
        }
        for (cgroup, count) in dropped.cgroups {
            *totals.dropped_by_cgroup.entry(cgroup).or_default() += count;
        }
    }

    /// Whether every event is accounted for. Always true at the end of a run; during a run, some
    /// events are in queues.
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

/// The counters of the parts of a running system.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    trackers: Vec<(ActorId, Arc<str>, Arc<TrackerCounters>)>,
    /// A handler that is in several chains and not shared has an entry for each chain.
    handlers: Vec<CountedHandler>,
    /// The queues of the handlers.
    queues: Vec<(ActorId, WeakSender<Batch>)>,
    /// Totals of parts that have ended.
    past: Totals,
}

#[derive(Debug)]
struct CountedHandler {
    id: ActorId,
    name: Arc<str>,
    counters: Arc<HandlerCounters>,
}

impl Counters {
    pub(crate) fn add_tracker(
        &mut self,
        id: ActorId,
        name: Arc<str>,
        counters: Arc<TrackerCounters>,
    ) {
        self.trackers.push((id, name, counters));
    }

    pub(crate) fn add_handler(
        &mut self,
        id: ActorId,
        name: Arc<str>,
        counters: Arc<HandlerCounters>,
    ) {
        self.handlers.push(CountedHandler { id, name, counters });
    }

    pub(crate) fn add_queue(&mut self, id: ActorId, queue: WeakSender<Batch>) {
        self.queues.retain(|(_, queue)| queue.upgrade().is_some());
        self.queues.push((id, queue));
    }

    /// Replaces the counters of a part that has ended by its totals.
    pub(crate) fn retire(&mut self, id: ActorId) {
        for (_, name, counters) in self.trackers.extract_if(.., |(tracker, ..)| *tracker == id) {
            self.past.add_tracker(&name, &counters);
        }
        // A container manager's counters stay: `containers` needs them for counts by cgroup.
        let of_containers = |c: &HandlerCounters| !c.containers().is_empty();
        let ended = |h: &mut CountedHandler| h.id == id && !of_containers(&h.counters);
        for handler in self.handlers.extract_if(.., ended) {
            self.past.add_handler(&handler.name, &handler.counters);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = self.past.clone();
        for (_, name, counters) in &self.trackers {
            totals.add_tracker(name, counters);
        }
        for handler in &self.handlers {
            totals.add_handler(&handler.name, &handler.counters);
        }
        totals.containers = self.containers(&totals.trackers, &mut totals.handlers);
        totals
    }

    /// Returns the state of all parts.
    pub(crate) fn health(&self) -> HealthReport {
        let totals = self.totals();
        let lag = |name: &str| {
            let of = self.trackers.iter().filter(|(_, tracker, _)| **tracker == *name);
            of.map(|(_, _, counters)| counters.lag()).max().unwrap_or_default()
        };
        let trackers = totals.trackers.iter().map(|(name, t)| TrackerHealth {
            name: name.as_str().into(),
            generated: t.generated,
            delivered: t.delivered,
            lost: t.lost,
            refused: t.refused,
            invalid: t.invalid,
            lag: lag(name),
        });
        let handlers = totals.handlers.iter().map(|(name, h)| {
            let of: Vec<_> = self.handlers.iter().filter(|of| *of.name == **name).collect();
            let its = |id: ActorId| of.iter().any(|handler| handler.id == id);
            let queues = self.queues.iter().filter(|(id, _)| its(*id));
            let queues: Vec<_> = queues.filter_map(|(_, queue)| queue.upgrade()).collect();
            let containers = of.iter().map(|handler| handler.counters.containers());
            let ids =
                |c: &BTreeMap<Owner, _>| c.keys().filter(|owner| owner.is_container()).count();
            HandlerHealth {
                name: name.as_str().into(),
                input: h.input,
                added: h.added,
                output: h.output,
                filtered: h.filtered,
                dropped: h.dropped,
                errors: h.errors,
                restarts: h.restarts,
                queued: queues.iter().map(|queue| queue.len() as u64).sum(),
                queue_capacity: queues.iter().filter_map(Sender::capacity).sum::<usize>() as u64,
                containers: containers.map(|c| ids(&c)).sum::<usize>() as u64,
            }
        });
        HealthReport { trackers: trackers.collect(), handlers: handlers.collect() }
    }

    /// Joins the counts of container managers with the losses of trackers and the drops of queues,
    /// which are known by cgroup.
    fn containers(
        &self,
        trackers: &BTreeMap<String, TrackerTotals>,
        handlers: &mut BTreeMap<String, HandlerTotals>,
    ) -> BTreeMap<Owner, ContainerTotals> {
        let mut containers: BTreeMap<Owner, ContainerTotals> = BTreeMap::new();
        let mut owners = BTreeMap::new();
        let counted = self.handlers.iter().flat_map(|handler| handler.counters.containers());
        for (owner, counts) in counted {
            owners.extend(counts.cgroups.into_iter().map(|cgroup| (cgroup, owner.clone())));
            let totals = containers.entry(owner).or_default();
            totals.name = counts.name.map(|name| name.to_string());
            totals.events += counts.events;
        }
        if containers.is_empty() {
            return containers; // No chain has a container manager.
        }
        let owner_of = |cgroup: &u64| owners.get(cgroup).cloned().unwrap_or(Owner::Unknown);
        for (cgroup, lost) in trackers.values().flat_map(|t| &t.lost_by_cgroup) {
            containers.entry(owner_of(cgroup)).or_default().lost += lost;
        }
        for (cgroup, refused) in trackers.values().flat_map(|t| &t.refused_by_cgroup) {
            containers.entry(owner_of(cgroup)).or_default().refused += refused;
        }
        for handler in handlers.values_mut() {
            for (cgroup, dropped) in std::mem::take(&mut handler.dropped_by_cgroup) {
                *handler.dropped_by_container.entry(owner_of(&cgroup)).or_default() += dropped;
            }
        }
        containers
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{ContainerCounts, SourceCounts};

    use super::*;

    #[test]
    fn lost_events_are_counted_by_container() {
        let manager = HandlerCounters::default();
        let web = ContainerCounts { name: Some("web".into()), events: 7, cgroups: vec![12, 13] };
        let host = ContainerCounts { events: 5, ..ContainerCounts::default() };
        manager.set_containers([(Owner::parse("ab"), web), (Owner::Host, host)].into());
        let tracker = TrackerCounters::default();
        let lost_by_cgroup = [(12, 3), (13, 1), (99, 2)].into();
        let counts = SourceCounts { generated: 6, lost: 6, lost_by_cgroup, ..Default::default() };
        tracker.write(counts, 0);
        let mut counters = Counters::default();
        counters.add_tracker(ActorId(1), "process".into(), Arc::new(tracker));
        counters.add_handler(ActorId(2), "container".into(), Arc::new(manager));
        let containers: Vec<_> = counters
            .totals()
            .containers
            .into_iter()
            .map(|(owner, c)| (owner.to_string(), c.name, c.events, c.lost))
            .collect();
        assert_eq!(
            containers,
            [
                (String::from("ab"), Some(String::from("web")), 7, 4),
                (String::from("host"), None, 5, 0),
                (String::from("unknown"), None, 0, 2),
            ]
        );
    }

    #[test]
    fn health_counts_containers_and_nothing_else() {
        let manager = HandlerCounters::default();
        let owners = [
            Owner::Container("ab".into()),
            Owner::Container("host".into()), // as an LXC container may be called
            Owner::Host,
            Owner::Unknown,
            Owner::Forgotten,
            Owner::Other,
        ];
        let counts = ContainerCounts { events: 1, ..ContainerCounts::default() };
        manager.set_containers(owners.map(|owner| (owner, counts.clone())).into());
        let mut counters = Counters::default();
        counters.add_handler(ActorId(2), "container".into(), Arc::new(manager));
        let containers: Vec<_> =
            counters.health().handlers.into_iter().map(|handler| handler.containers).collect();
        assert_eq!(containers, [2]);
    }

    #[test]
    fn totals_are_written_and_read_as_json_with_owners_as_keys() {
        let one = |owner: Owner| (owner, ContainerTotals { events: 1, ..Default::default() });
        let containers = [Owner::Container("ab".into()), Owner::Host, Owner::Forgotten].map(one);
        let totals = Totals { containers: containers.into(), ..Totals::default() };
        let json = serde_json::to_value(&totals).expect("totals are serialisable");
        for key in ["ab", "host", "forgotten"] {
            assert_eq!(json["containers"][key]["events"], 1, "{key}");
        }
        let read: Totals = serde_json::from_value(json).expect("totals are read back");
        assert_eq!(read, totals);
    }
}
