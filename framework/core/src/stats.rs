//! Counters of events. Every event that enters a handler is counted where it leaves, so that
//! `in + added = out + filtered + dropped + errors` holds once the handler has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::attribution::State;
use crate::batch::{Batch, EventRef};

/// Whose events a count by container is about.
///
/// Totals print an owner as one word: the container's id, or one of the words below. An id that
/// reads like such a word (an LXC container may be called `host`) is printed behind `container:`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A container, by its id.
    Container(Arc<str>),
    /// `host`: no container.
    Host,
    /// `unknown`: a container or the host; there was no evidence for either.
    Unknown,
    /// `forgotten`: containers that are gone and no longer counted one by one.
    Forgotten,
    /// `other`: owners beyond the number that a handler counts one by one.
    Other,
}

impl Owner {
    const WORDS: [(&str, Self); 4] = [
        ("host", Self::Host),
        ("unknown", Self::Unknown),
        ("forgotten", Self::Forgotten),
        ("other", Self::Other),
    ];
    /// Marks an id that reads like one of the words.
    const MARK: &str = "container:";

    /// Reads the printed form. Every text is some owner.
    pub fn parse(text: &str) -> Self {
        match Self::word(text) {
            Some(owner) => owner,
            None => Self::Container(text.strip_prefix(Self::MARK).unwrap_or(text).into()),
        }
    }

    fn word(text: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, owner)| owner)
    }

    /// Whether this is a single container.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Container(_))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Container(id) = self {
            let ambiguous = Self::word(id).is_some() || id.starts_with(Self::MARK);
            return write!(f, "{}{id}", if ambiguous { Self::MARK } else { "" });
        }
        let word = Self::WORDS.iter().find(|(_, owner)| owner == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::parse(&text))
    }
}

/// The counters of one handler. Its own thread writes them, any thread may read them.
#[derive(Debug, Default)]
pub struct HandlerCounters {
    /// Events that came in.
    pub input: AtomicU64,
    /// Events that the handler made itself.
    pub added: AtomicU64,
    /// Events that the handler passed on or, at the end of a chain, delivered.
    pub output: AtomicU64,
    /// Events that the handler left out as configured.
    pub filtered: AtomicU64,
    /// Events that found no room in a full queue.
    pub dropped: AtomicU64,
    /// Events that were lost to an error or a panic.
    pub errors: AtomicU64,
    /// Restarts after a failure.
    pub restarts: AtomicU64,
    containers: Mutex<BTreeMap<Owner, ContainerCounts>>,
    dropped_by: Mutex<DroppedBy>,
}

/// Dropped events by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedBy {
    /// Dropped events that had an attribution. At most 4096 owners; the rest is
    /// [`Owner::Other`].
    pub containers: BTreeMap<Owner, u64>,
    /// Dropped events without an attribution, by cgroup id. Key 0 has the events without a cgroup
    /// and those of cgroups beyond the first 4096.
    pub cgroups: BTreeMap<u64, u64>,
}

/// Bound on the owners that are counted one by one: few hosts have more containers, and counts must
/// not grow for ever.
const MAX_OWNERS: usize = 4096;

impl DroppedBy {
    fn count(&mut self, event: EventRef<'_>) {
        let attribution = event.attribution();
        let owner = match (&attribution.container, attribution.state) {
            (Some(container), _) => Owner::Container(Arc::clone(&container.id)),
            (None, State::Unset) => {
                let cgroup = event.process().map(|process| process.cgroup_id).or(event.cgroup());
                let room = self.cgroups.len() < MAX_OWNERS;
                let known = cgroup.filter(|cgroup| room || self.cgroups.contains_key(cgroup));
                *self.cgroups.entry(known.unwrap_or(0)).or_default() += 1;
                return;
            }
            (None, State::Host) => Owner::Host,
            (None, State::Resolved | State::Pending | State::Unknown) => Owner::Unknown,
        };
        let room = self.containers.len() < MAX_OWNERS || self.containers.contains_key(&owner);
        *self.containers.entry(if room { owner } else { Owner::Other }).or_default() += 1;
    }
}

/// What a container manager counted for one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerCounts {
    /// Name of the container, if known.
    pub name: Option<Arc<str>>,
    /// Events that were attributed to this owner.
    pub events: u64,
    /// Ids of its cgroups. Losses in the kernel are known by cgroup only.
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

    /// Counts every event of a batch as dropped, in total and by owner.
    pub fn drop_batch(&self, batch: &Batch) {
        Self::add(&self.dropped, batch.len() as u64);
        let mut dropped_by = self.dropped_by.lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|event| dropped_by.count(event));
    }

    /// Returns the dropped events by owner.
    pub fn dropped_by(&self) -> DroppedBy {
        self.dropped_by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the counts by owner.
    pub fn set_containers(&self, counts: BTreeMap<Owner, ContainerCounts>) {
        *self.containers.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// Returns the counts by owner; empty for a handler that does not count by container.
    pub fn containers(&self) -> BTreeMap<Owner, ContainerCounts> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_back_from_its_printed_form() {
        let container = |id: &str| Owner::Container(id.into());
        for (owner, text) in [
            (Owner::Host, "host"),
            (Owner::Unknown, "unknown"),
            (Owner::Forgotten, "forgotten"),
            (Owner::Other, "other"),
            (container("ab12"), "ab12"),
            (container("runc/web"), "runc/web"),
            (container("host"), "container:host"),
            (container("container:host"), "container:container:host"),
        ] {
            assert_eq!(owner.to_string(), text);
            assert_eq!(Owner::parse(text), owner);
            let json = serde_json::to_string(&owner).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Owner>(&json).unwrap(), owner);
        }
    }
}
