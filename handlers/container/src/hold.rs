//! The waiting room: events whose container's name, or whose cgroup's path, is due within the hold.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{Batch, ChainId};

use crate::containers::Serial;

/// The fact that an event lacks and waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// The name of a container.
    Name(Serial),
    /// The path of a cgroup.
    Path(u64),
}

/// Events of one batch that wait for the same fact.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) chain: ChainId,
    pub(crate) batch: Batch,
    /// Whether these are the manager's own events, which count as added when they leave.
    pub(crate) own: bool,
    /// The batch's place in the order of arrival.
    pub(crate) arrival: u64,
}

#[derive(Debug)]
struct Group {
    until: Duration,
    held: Vec<Held>,
}

/// All waiting events. Those that wait for the same fact leave together, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    groups: FxHashMap<Missing, Group>,
    /// The groups by deadline, the earliest first.
    order: BTreeSet<(Duration, Missing)>,
    events: usize,
}

impl WaitingRoom {
    /// Holds events until then; earlier if others wait for the same fact with an earlier deadline.
    pub(crate) fn put(&mut self, missing: Missing, until: Duration, held: Held) {
        self.events += held.batch.len();
        let order = &mut self.order;
        let group = self.groups.entry(missing).or_insert_with(|| {
            order.insert((until, missing));
            Group { until, held: Vec::new() }
        });
        if until < group.until {
            order.remove(&(group.until, missing));
            order.insert((until, missing));
            group.until = until;
        }
        // Almost always the end: only events that waited for their cgroup before come in later than
        // they arrived.
        let at = group.held.partition_point(|other| other.arrival <= held.arrival);
        group.held.insert(at, held);
    }

    /// Whether anything waits for this fact.
    pub(crate) fn holds(&self, missing: Missing) -> bool {
        self.groups.contains_key(&missing)
    }

    /// Takes out the events that wait for this fact, with their deadline.
    pub(crate) fn take(&mut self, missing: Missing) -> Option<(Duration, Vec<Held>)> {
        let group = self.groups.remove(&missing)?;
        self.order.remove(&(group.until, missing));
        self.events -= group.held.iter().map(|h| h.batch.len()).sum::<usize>();
        Some((group.until, group.held))
    }

    /// Returns a fact whose deadline has passed.
    pub(crate) fn due(&self, now: Duration) -> Option<Missing> {
        self.order.first().filter(|&&(until, _)| until <= now).map(|&(_, missing)| missing)
    }

    /// Returns the fact with the earliest deadline, if more than `max` events wait.
    pub(crate) fn beyond(&self, max: usize) -> Option<Missing> {
        self.order.first().filter(|_| self.events > max).map(|&(_, missing)| missing)
    }

    /// Returns the earliest deadline.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.order.first().map(|&(until, _)| until)
    }

    /// Takes out all events of one chain, in order of arrival.
    pub(crate) fn take_chain(&mut self, chain: ChainId) -> Vec<Held> {
        let mut out: Vec<Held> = Vec::new();
        self.groups.retain(|&missing, group| {
            out.extend(group.held.extract_if(.., |h| h.chain == chain));
            if group.held.is_empty() {
                self.order.remove(&(group.until, missing));
            }
            !group.held.is_empty()
        });
        self.events -= out.iter().map(|h| h.batch.len()).sum::<usize>();
        out.sort_by_key(|h| h.arrival);
        out
    }

    /// Returns how many of the manager's own events wait.
    #[cfg(test)]
    pub(crate) fn own(&self) -> usize {
        self.groups.values().flat_map(|g| &g.held).filter(|h| h.own).map(|h| h.batch.len()).sum()
    }

    /// Returns how many events wait.
    pub(crate) fn len(&self) -> usize {
        self.events
    }

    /// Returns every fact that is waited for.
    #[cfg(debug_assertions)]
    pub(crate) fn missing(&self) -> impl Iterator<Item = Missing> {
        self.groups.keys().copied()
    }

    /// Panics unless
    /// * every group waits with its deadline in the order, and the order has nothing else,
    /// * no group is empty, and each is in order of arrival, and
    /// * the number of events is that of all groups.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.order.len(), self.groups.len(), "deadlines and groups");
        let mut events = 0;
        for (&missing, group) in &self.groups {
            assert!(self.order.contains(&(group.until, missing)), "{missing:?} has no deadline");
            let lengths = group.held.iter().map(|held| held.batch.len());
            let waiting: usize = lengths.sum();
            assert!(waiting > 0, "nothing waits for {missing:?}");
            let in_order = group.held.is_sorted_by_key(|held| held.arrival);
            assert!(in_order, "what waits for {missing:?} is out of order");
            events += waiting;
        }
        assert_eq!(events, self.events, "waiting events");
    }
}
