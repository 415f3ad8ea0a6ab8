//! The waiting room: events whose container's name, or whose cgroup, is to be told within the hold.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{Batch, ChainId};

use crate::containers::Serial;

/// What events wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum For {
    /// The name of a container.
    Name(Serial),
    /// The path of a cgroup.
    Cgroup(u64),
}

/// Events of one batch that wait for the same.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) chain: ChainId,
    pub(crate) batch: Batch,
    /// The manager's own: counted as added when they go on.
    pub(crate) own: bool,
    /// Their place in the order of arrival.
    pub(crate) arrival: u64,
}

#[derive(Debug)]
struct Group {
    until: Duration,
    held: Vec<Held>,
}

/// All that wait. What waits for the same leaves together, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct Room {
    groups: FxHashMap<For, Group>,
    order: BTreeSet<(Duration, For)>,
    events: usize,
}

impl Room {
    /// Events come to wait, until then at the latest, or earlier if others wait for the same
    /// already.
    pub(crate) fn put(&mut self, what: For, until: Duration, held: Held) {
        self.events += held.batch.len();
        let order = &mut self.order;
        let group = self.groups.entry(what).or_insert_with(|| {
            order.insert((until, what));
            Group { until, held: Vec::new() }
        });
        if until < group.until {
            order.remove(&(group.until, what));
            order.insert((until, what));
            group.until = until;
        }
        // Almost always at the end: only those that first waited for their cgroup come later than
        // they arrived.
        let at = group.held.partition_point(|other| other.arrival <= held.arrival);
        group.held.insert(at, held);
    }

    /// Whether anything waits for this.
    pub(crate) fn holds(&self, what: For) -> bool {
        self.groups.contains_key(&what)
    }

    /// Lets out what waited for this, with the time until which it would have waited.
    pub(crate) fn take(&mut self, what: For) -> Option<(Duration, Vec<Held>)> {
        let group = self.groups.remove(&what)?;
        self.order.remove(&(group.until, what));
        self.events -= group.held.iter().map(|h| h.batch.len()).sum::<usize>();
        Some((group.until, group.held))
    }

    /// What has waited long enough.
    pub(crate) fn due(&self, now: Duration) -> Option<For> {
        self.order.first().filter(|&&(until, _)| until <= now).map(|&(_, what)| what)
    }

    /// What has waited longest, if more wait than `most`.
    pub(crate) fn beyond(&self, most: usize) -> Option<For> {
        self.order.first().filter(|_| self.events > most).map(|&(_, what)| what)
    }

    /// When the next have waited long enough.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.order.first().map(|&(until, _)| until)
    }

    /// Lets out all that waits in one chain, in the order in which it came.
    pub(crate) fn take_chain(&mut self, chain: ChainId) -> Vec<(For, Held)> {
        let mut out: Vec<(For, Held)> = Vec::new();
        self.groups.retain(|&what, group| {
            out.extend(group.held.extract_if(.., |h| h.chain == chain).map(|h| (what, h)));
            if group.held.is_empty() {
                self.order.remove(&(group.until, what));
            }
            !group.held.is_empty()
        });
        self.events -= out.iter().map(|(_, h)| h.batch.len()).sum::<usize>();
        out.sort_by_key(|(_, h)| h.arrival);
        out
    }

    /// How many of the manager's own wait.
    #[cfg(test)]
    pub(crate) fn own(&self) -> usize {
        self.groups.values().flat_map(|g| &g.held).filter(|h| h.own).map(|h| h.batch.len()).sum()
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        self.events
    }
}
