//! Counters. Every event that reaches a handler is counted where it leaves:
//! `in + added = out + filtered + dropped + errors` once the handler has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::attribution::State;
use crate::batch::{Batch, EventRef};

/// What a handler has counted. The handler's own thread writes it; any thread may read it.
#[derive(Debug, Default)]
pub struct HandlerCounters {
    /// Events that came in.
    pub input: AtomicU64,
    /// Events that the handler made itself.
    pub added: AtomicU64,
    /// Events that were passed on or, at the end of a chain, delivered.
    pub output: AtomicU64,
    /// Events that were left out as requested.
    pub filtered: AtomicU64,
    /// Events that were refused because there was no room.
    pub dropped: AtomicU64,
    /// Events that were lost in an error or a panic.
    pub errors: AtomicU64,
    /// How often the handler was built again after a failure.
    pub restarts: AtomicU64,
    containers: Mutex<BTreeMap<Arc<str>, ContainerCounts>>,
    dropped_by: Mutex<DroppedBy>,
}

/// Whose events were refused because there was no room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedBy {
    /// By container id; `host` and `unknown` stand beside the ids, and `other` for those that found
    /// no room here.
    pub containers: BTreeMap<Arc<str>, u64>,
    /// By cgroup id, of events that no container manager had seen; 0 for those of no cgroup, and of
    /// those that found no room.
    pub cgroups: BTreeMap<u64, u64>,
}

/// Owners that are told apart at most: the hosts with more containers than this are few, and counts
/// must not grow for ever.
const MOST_OWNERS: usize = 4096;

impl DroppedBy {
    fn count(&mut self, event: EventRef<'_>) {
        let attribution = event.attribution();
        let name: Arc<str> = match (&attribution.container, attribution.state) {
            (Some(container), _) => Arc::clone(&container.id),
            (None, State::Unset) => {
                let cgroup = event.process().map(|process| process.cgroup_id).or(event.cgroup());
                let room = self.cgroups.len() < MOST_OWNERS;
                let known = cgroup.filter(|cgroup| room || self.cgroups.contains_key(cgroup));
                *self.cgroups.entry(known.unwrap_or(0)).or_default() += 1;
                return;
            }
            (None, state) => state.as_str().unwrap_or("unknown").into(),
        };
        if self.containers.len() < MOST_OWNERS || self.containers.contains_key(&name) {
            *self.containers.entry(name).or_default() += 1;
        } else {
            *self.containers.entry("other".into()).or_default() += 1;
        }
    }
}

/// What a handler counted for one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerCounts {
    /// The container's name, where known.
    pub name: Option<Arc<str>>,
    /// Events that were attributed to it.
    pub events: u64,
    /// Ids of its cgroups: what was lost is known by cgroup.
    pub cgroups: Vec<u64>,
}

impl HandlerCounters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    /// Events that came in or were added and are not yet counted as gone: those that are still with
    /// the handler. `waiting` of them have been emitted and wait to be sent.
    pub fn unaccounted(&self, waiting: u64) -> u64 {
        let gone = [&self.output, &self.filtered, &self.dropped, &self.errors];
        let gone: u64 = gone.iter().map(|counter| counter.load(Relaxed)).sum();
        let came = self.input.load(Relaxed) + self.added.load(Relaxed);
        came.saturating_sub(gone + waiting)
    }

    /// Counts the events of a batch that were refused because there was no room, also by container.
    pub fn drop_batch(&self, batch: &Batch) {
        Self::add(&self.dropped, batch.len() as u64);
        let mut dropped_by = self.dropped_by.lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|event| dropped_by.count(event));
    }

    /// Whose events were refused because there was no room, as far as that is known.
    pub fn dropped_by(&self) -> DroppedBy {
        self.dropped_by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what was counted by container id; `host` and `unknown` stand beside the ids.
    pub fn set_containers(&self, counts: BTreeMap<Arc<str>, ContainerCounts>) {
        *self.containers.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// What was counted by container id.
    pub fn containers(&self) -> BTreeMap<Arc<str>, ContainerCounts> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
