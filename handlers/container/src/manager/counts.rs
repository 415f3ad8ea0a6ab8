//! Counts of events by container.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{ContainerCounts, Context, Owner};

use super::{ContainerManager, Message};
use crate::cgroups::Answer;
use crate::containers::Known;
use crate::protocol::Request;

/// Bound on the forgotten containers whose counts are kept one by one: about 300 bytes each, twice.
const MAX_FORMER: usize = 1024;
/// Least time between two publications of the counts: those of ten thousand containers take
/// milliseconds to collect.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);

/// Events that were attributed to no known container. Each container counts its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) host: u64,
    pub(super) unknown: u64,
    /// Events of forgotten containers beyond [`MAX_FORMER`].
    pub(super) forgotten: u64,
}

impl ContainerManager {
    /// Returns the events of each owner, and the cgroups that it has or had.
    pub fn counts(&self) -> BTreeMap<Owner, ContainerCounts> {
        let mut all = self.former.clone();
        all.entry(Owner::Host).or_default().events += self.counts.host;
        for (owner, events) in
            [(Owner::Unknown, self.counts.unknown), (Owner::Forgotten, self.counts.forgotten)]
        {
            if events > 0 {
                all.entry(owner).or_default().events += events;
            }
        }
        for (_, known) in self.containers.iter() {
            let counts = all.entry(Owner::Container(Arc::clone(&known.snapshot.id))).or_default();
            counts.name.clone_from(&known.snapshot.name);
            counts.events += known.events;
        }
        for (cgroup, answer) in self.cgroups.iter() {
            let owner = match answer {
                Answer::Container(serial) | Answer::Doubtful(serial) => {
                    let known = self.containers.get(serial);
                    known.map(|known| Owner::Container(Arc::clone(&known.snapshot.id)))
                }
                Answer::Host => Some(Owner::Host),
                Answer::Silent => None,
            };
            if let Some(owner) = owner {
                all.entry(owner).or_default().cgroups.push(cgroup);
            }
        }
        all
    }

    pub(super) fn publish_counts(&mut self, cx: &mut Context<'_, Message>) {
        let now = self.now();
        if self.counted_at.is_none_or(|at| now.saturating_sub(at) >= PUBLISH_EVERY) {
            self.counted_at = Some(now);
            cx.count_containers(self.counts());
        }
    }

    /// Follows up on a container that was taken out of the table: keeps its counts, and tells the
    /// runtimes' clients that nobody asks for it any more.
    pub(super) fn forgotten(&mut self, known: Known) {
        let id = Arc::clone(&known.snapshot.id);
        tracing::debug!(%id, events = known.events, "container is forgotten");
        self.world.runtimes.ask(Request::Forget(Arc::clone(&id)));
        let owner = Owner::Container(id);
        if self.former.len() >= MAX_FORMER && !self.former.contains_key(&owner) {
            self.counts.forgotten += known.events;
            return;
        }
        let former = self.former.entry(owner).or_default();
        former.name = known.snapshot.name.clone().or(former.name.take());
        former.events += known.events;
        former.cgroups.extend(known.former_cgroups);
    }

    /// Counts an event of a forgotten container.
    pub(super) fn count_forgotten(&mut self, id: &Arc<str>) {
        match self.former.get_mut(&Owner::Container(Arc::clone(id))) {
            Some(former) => former.events += 1,
            None => self.counts.forgotten += 1,
        }
    }

    pub(super) fn log_counts(&self) {
        tracing::debug!(
            host = self.counts.host,
            unknown = self.counts.unknown,
            containers = self.containers.len(),
            containers_refused = self.containers.refused(),
            processes = self.pids.len(),
            processes_evicted = self.pids.evicted(),
            cgroups = self.cgroups.len(),
            cgroups_refused = self.cgroups.refused(),
            held = self.room.len(),
            "container manager"
        );
    }
}
