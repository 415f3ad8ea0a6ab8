//! Counters. Every event that comes to a handler is counted where it leaves:
//! `in + added = out + filtered + dropped + errors` once the handler has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What a handler has counted. Written by its own thread, read by any.
#[derive(Debug, Default)]
pub struct HandlerCounters {
    /// Events that came in.
    pub input: AtomicU64,
    /// Events that the handler made itself.
    pub added: AtomicU64,
    /// Events that went on, or, at the end of a chain, were delivered.
    pub output: AtomicU64,
    /// Events that it was asked to leave out.
    pub filtered: AtomicU64,
    /// Events that were refused for want of room.
    pub dropped: AtomicU64,
    /// Events that an error or a panic took.
    pub errors: AtomicU64,
    /// Times it was started again after it failed.
    pub restarts: AtomicU64,
    containers: Mutex<BTreeMap<Arc<str>, ContainerCounts>>,
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

    /// Replaces what was counted by container id; `host` and `unknown` stand beside the ids.
    pub fn set_containers(&self, counts: BTreeMap<Arc<str>, ContainerCounts>) {
        *self.containers.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// What was counted by container id.
    pub fn containers(&self) -> BTreeMap<Arc<str>, ContainerCounts> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
