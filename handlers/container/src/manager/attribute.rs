//! Which container did it: cgroup, pid, parent, namespace, runtime, in this order.

use std::sync::Arc;

use whalewatch_core::{
    Attribution, Batch, ChainContext, ChainId, Change, Context, EventRef, Evidence, Process, State,
};

use super::{ContainerManager, Message};
use crate::cgroups::Answer;
use crate::containers::{Naming, Serial};
use crate::hold::{For, Held};
use crate::pids::{Entry, Place, Spaces};

impl ContainerManager {
    /// Attributes a batch and passes it on, but for what has to wait.
    pub(super) fn attribute_batch(&mut self, mut batch: Batch, cx: &mut ChainContext<'_, Message>) {
        let chain = cx.chain();
        let mut waits = std::mem::take(&mut self.waits);
        let mut any_waits = false;
        waits.clear();
        self.untold = 0;
        batch.attribute(|event| {
            let (mut attribution, wait) = self.attribute(event, chain, cx);
            if let Some(target) = event.target() {
                self.attribute_target(&mut attribution, target, cx);
            }
            any_waits |= wait.is_some();
            waits.push(wait);
            attribution
        });
        if any_waits {
            self.hold(&mut batch, &mut waits, chain);
        }
        self.waits = waits;
        cx.emit(batch);
    }

    /// Takes out what has to wait, each container's events together.
    fn hold(&mut self, batch: &mut Batch, waits: &mut Vec<Option<For>>, chain: ChainId) {
        let arrival = self.arrive();
        while let Some(what) = waits.iter().flatten().next().copied() {
            let mut each = waits.iter();
            let part = batch.split(|_| each.next() == Some(&Some(what)));
            waits.retain(|w| *w != Some(what));
            self.wait(what, Held { chain, batch: part, own: false, arrival });
        }
    }

    pub(super) fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    pub(super) fn wait(&mut self, what: For, held: Held) {
        let until = self.now() + self.options.hold.0;
        self.room.put(what, until, held);
    }

    /// An event's attribution, and what it has to wait for before it may go on.
    fn attribute(
        &mut self,
        event: EventRef<'_>,
        chain: ChainId,
        cx: &mut Context<'_, Message>,
    ) -> (Attribution, Option<For>) {
        let Some(process) = event.process() else {
            return match self.place_without_process(event, cx) {
                Ok((place, evidence)) => self.in_place(place, evidence, chain, true),
                Err(cgroup) => (Attribution::unknown(), Some(For::Cgroup(cgroup))),
            };
        };
        match self.place(process, cx) {
            Some((Place::Unknown, _)) if let Some(serial) = self.doubts(process) => {
                (Attribution::unknown(), Some(For::Name(serial)))
            }
            Some(found) => self.done_by(process, found, chain, true),
            None => (Attribution::unknown(), Some(For::Cgroup(process.cgroup_id))),
        }
    }

    /// Which container an event was done to, as far as that is known now: nothing waits for it.
    fn attribute_target(
        &mut self,
        attribution: &mut Attribution,
        target: &Process,
        cx: &mut Context<'_, Message>,
    ) {
        let place = self.place(target, cx).map_or(Place::Unknown, |(place, _)| place);
        let container = match place {
            Place::Container(serial) => self.containers.get(serial).map(|k| k.snapshot.clone()),
            Place::Host | Place::Unknown => None,
        };
        attribution.target_state = match (&container, place) {
            (Some(container), _) if container.name.is_some() => State::Resolved,
            (Some(_), _) => State::Pending,
            (None, Place::Host) => State::Host,
            (None, _) => State::Unknown,
        };
        attribution.target = container;
    }

    /// Where a process is; `None` while its cgroup may yet be told.
    fn place(
        &mut self,
        process: &Process,
        cx: &mut Context<'_, Message>,
    ) -> Option<(Place, Evidence)> {
        // The idle task is the kernel's own, on every processor: it is the host.
        if process.pid == 0 {
            return Some((Place::Host, Evidence::Pid));
        }
        match self.ask_cgroup(process.cgroup_id, cx)? {
            Answer::Container(serial) => Some((Place::Container(serial), Evidence::Cgroup)),
            Answer::Host => Some(self.place_on_host(process)),
            Answer::Doubtful(serial) => Some(self.place_in_doubt(serial, process)),
            Answer::Silent => Some(self.place_without_cgroup(process)),
        }
    }

    fn never_had_a_cgroup(&self, serial: Serial) -> bool {
        let known = self.containers.get(serial);
        known.is_some_and(|known| known.cgroups.is_empty() && known.former_cgroups.is_empty())
    }

    /// The container that lives among these mounts. Where cgroups answer, one that has a cgroup is
    /// told by that alone: what is in another is not in it, and the number of its mount namespace
    /// may be another's by now.
    pub(super) fn by_mounts(&self, mnt: u32) -> Option<Serial> {
        let answer = self.world.kernel.cgroups_answer();
        self.containers.by_mnt(mnt).filter(|&serial| !answer || self.never_had_a_cgroup(serial))
    }

    /// Where a process is that is in a cgroup of the host's: there, or in a container that never
    /// had a cgroup of its own, as rootless podman makes them. Such a container lives in its mount
    /// namespace.
    #[inline]
    pub(super) fn place_on_host(&self, process: &Process) -> (Place, Evidence) {
        if process.namespaces.mnt == self.host.mnt {
            return (Place::Host, Evidence::Cgroup);
        }
        self.place_among_other_mounts(process)
    }

    fn place_among_other_mounts(&self, process: &Process) -> (Place, Evidence) {
        // A process that ends has no namespaces any more; and one that has made itself another is
        // where it was.
        let known = || match self.pids.get(process.key())?.place {
            Place::Container(serial) => Some(serial),
            Place::Host | Place::Unknown => None,
        };
        let mnt = process.namespaces.mnt;
        let found = self.containers.by_mnt(mnt).or_else(known);
        match found.filter(|&serial| self.never_had_a_cgroup(serial)) {
            Some(serial) => (Place::Container(serial), Evidence::Namespace),
            None => (Place::Host, Evidence::Cgroup),
        }
    }

    /// Where a process is whose cgroup is called like a container that no runtime has spoken for:
    /// what lives among the host's mounts is in no container once all runtimes have denied it.
    pub(super) fn place_in_doubt(&self, serial: Serial, process: &Process) -> (Place, Evidence) {
        let mnt = process.namespaces.mnt;
        if mnt == 0 || mnt != self.host.mnt {
            return (Place::Container(serial), Evidence::Cgroup);
        }
        match self.containers.get(serial) {
            Some(known) if known.naming == Naming::Hopeless => (Place::Host, Evidence::Namespace),
            _ => (Place::Unknown, Evidence::None),
        }
    }

    /// The container whose name has to come, or not, before it can be told where this process is.
    fn doubts(&self, process: &Process) -> Option<Serial> {
        let Some(Answer::Doubtful(serial)) = self.cgroups.get(process.cgroup_id) else {
            return None;
        };
        let awaited = self.containers.get(serial)?.naming == Naming::Awaited;
        (awaited && !self.options.hold.0.is_zero()).then_some(serial)
    }

    /// Where what is told of a cgroup is, no process being known.
    fn place_of_cgroup(answer: Option<Answer>) -> (Place, Evidence) {
        match answer {
            Some(Answer::Container(serial) | Answer::Doubtful(serial)) => {
                (Place::Container(serial), Evidence::Cgroup)
            }
            Some(Answer::Host) => (Place::Host, Evidence::Cgroup),
            Some(Answer::Silent) | None => (Place::Unknown, Evidence::None),
        }
    }

    /// What a cgroup answers; `None` while it may yet be told. One never heard of is asked of the
    /// kernel.
    #[inline]
    pub(super) fn ask_cgroup(&mut self, id: u64, cx: &mut Context<'_, Message>) -> Option<Answer> {
        match self.cgroups.get(id) {
            Some(answer) => Some(answer),
            None => self.ask_kernel(id, cx),
        }
    }

    #[cold]
    fn ask_kernel(&mut self, id: u64, cx: &mut Context<'_, Message>) -> Option<Answer> {
        if id == 0 || !self.world.kernel.cgroups_answer() {
            return Some(Answer::Silent);
        }
        if self.untold != id && !self.room.holds(For::Cgroup(id)) {
            if let Some(path) = self.world.kernel.path_of(id) {
                return Some(self.learn_cgroup(id, &path, cx));
            }
            self.untold = id;
        }
        if self.options.hold.0.is_zero() { Some(Answer::Silent) } else { None }
    }

    /// Where a process is whose cgroup does not answer.
    pub(super) fn place_without_cgroup(&self, process: &Process) -> (Place, Evidence) {
        let spaces = Spaces::from(process.namespaces);
        if let Some(place) = self.pids.get(process.key()).and_then(|e| kept(e, spaces)) {
            return (place, Evidence::Pid);
        }
        let parent = self.pids.get(process.parent_key()).filter(|_| process.parent_pid != 0);
        if let Some(place) = parent.and_then(|e| kept(e, spaces)) {
            return (place, Evidence::Parent);
        }
        if let Some(serial) = self.by_mounts(spaces.mnt) {
            return (Place::Container(serial), Evidence::Namespace);
        }
        if self.is_hosts(spaces) {
            return (Place::Host, Evidence::Namespace);
        }
        match self.containers.by_init(process.pid) {
            Some(serial) => (Place::Container(serial), Evidence::Runtime),
            None => (Place::Unknown, Evidence::None),
        }
    }

    /// Whether these are the host's namespaces: all known, all the same.
    pub(super) fn is_hosts(&self, spaces: Spaces) -> bool {
        spaces == self.host && spaces.user != 0 && spaces.pid != 0 && spaces.mnt != 0
    }

    /// An event that no process did: that of a cgroup, or what is told of one. The error is a
    /// cgroup that may yet be told.
    fn place_without_process(
        &mut self,
        event: EventRef<'_>,
        cx: &mut Context<'_, Message>,
    ) -> Result<(Place, Evidence), u64> {
        let Some(cgroup) = event.cgroup() else { return Ok(self.place_of_change(event)) };
        let answer = self.ask_cgroup(cgroup, cx).ok_or(cgroup)?;
        Ok(Self::place_of_cgroup(Some(answer)))
    }

    /// What an event says of a cgroup is that cgroup's; of a process that moved, where it went.
    fn place_of_change(&self, event: EventRef<'_>) -> (Place, Evidence) {
        let Some(
            Change::CgroupMade { id, .. }
            | Change::CgroupRemoved { id, .. }
            | Change::CgroupRenamed { id, .. }
            | Change::Moved { to: id, .. },
        ) = event.change()
        else {
            return (Place::Unknown, Evidence::None);
        };
        Self::place_of_cgroup(self.cgroups.get(id))
    }

    /// The attribution of what a process did that is there, and whether it has to wait for a name
    /// first.
    #[inline]
    fn done_by(
        &mut self,
        process: &Process,
        (place, evidence): (Place, Evidence),
        chain: ChainId,
        may_wait: bool,
    ) -> (Attribution, Option<For>) {
        let (mut attribution, wait) = self.in_place(place, evidence, chain, may_wait);
        let mnt = process.namespaces.mnt;
        if place == Place::Host && mnt != self.host.mnt && mnt != 0 {
            let entered = self.containers.by_mnt(mnt).and_then(|s| self.containers.get(s));
            attribution.entered = entered.map(|known| Arc::clone(&known.snapshot));
        }
        (attribution, wait)
    }

    /// The attribution of what happened there, and whether it has to wait for a name first.
    #[inline]
    fn in_place(
        &mut self,
        place: Place,
        evidence: Evidence,
        chain: ChainId,
        may_wait: bool,
    ) -> (Attribution, Option<For>) {
        match place {
            Place::Container(serial) => self.in_container(serial, evidence, chain, may_wait),
            Place::Host => {
                self.counts.host += 1;
                (Attribution::host(evidence), None)
            }
            Place::Unknown => {
                self.counts.unknown += 1;
                (Attribution::unknown(), None)
            }
        }
    }

    #[inline]
    fn in_container(
        &mut self,
        serial: Serial,
        evidence: Evidence,
        chain: ChainId,
        may_wait: bool,
    ) -> (Attribution, Option<For>) {
        let hold = may_wait && !self.options.hold.0.is_zero();
        let Some(known) = self.containers.get_mut(serial) else {
            self.counts.unknown += 1;
            return (Attribution::unknown(), None);
        };
        let container = Some(known.snapshot.clone());
        if known.snapshot.name.is_some() {
            known.events += 1;
            let state = State::Resolved;
            return (Attribution { container, state, evidence, ..Attribution::default() }, None);
        }
        let state = State::Pending;
        let attribution = Attribution { container, state, evidence, ..Attribution::default() };
        if hold && known.naming == Naming::Awaited {
            return (attribution, Some(For::Name(serial)));
        }
        known.events += 1;
        if !known.unnamed_in.contains(&chain) {
            known.unnamed_in.push(chain);
        }
        (attribution, None)
    }

    /// The attribution of an event that has waited: with what is known now.
    pub(super) fn settle(&mut self, event: EventRef<'_>, chain: ChainId) -> Attribution {
        let mut settled = self.settle_actor(event, chain);
        let so_far = event.attribution();
        settled.target_state = so_far.target_state;
        let target = so_far.target.as_ref();
        settled.target = target.map(|container| {
            let known = self.containers.by_id(&container.id).and_then(|s| self.containers.get(s));
            let container = known.map_or(container, |known| &known.snapshot);
            if container.name.is_some() {
                settled.target_state = State::Resolved;
            }
            Arc::clone(container)
        });
        settled
    }

    fn settle_actor(&mut self, event: EventRef<'_>, chain: ChainId) -> Attribution {
        let so_far = event.attribution();
        if let Some(container) = &so_far.container {
            return match self.containers.by_id(&container.id) {
                Some(serial) => self.in_container(serial, so_far.evidence, chain, false).0,
                None => so_far.clone(),
            };
        }
        let Some(process) = event.process() else {
            let Some(cgroup) = event.cgroup() else { return so_far.clone() };
            let (place, evidence) = Self::place_of_cgroup(self.cgroups.get(cgroup));
            return self.in_place(place, evidence, chain, false).0;
        };
        let (place, evidence) = match self.cgroups.get(process.cgroup_id) {
            Some(Answer::Container(serial)) => (Place::Container(serial), Evidence::Cgroup),
            Some(Answer::Host) => self.place_on_host(process),
            Some(Answer::Doubtful(serial)) => self.place_in_doubt(serial, process),
            Some(Answer::Silent) | None => self.place_without_cgroup(process),
        };
        self.done_by(process, (place, evidence), chain, false).0
    }
}

/// Where a process is that was known, or whose parent was, seen now in these namespaces. What is in
/// a container stays in it (a sandbox there is still there); what was on the host may have entered
/// one if its namespaces have changed.
pub(super) fn kept(entry: &Entry, spaces: Spaces) -> Option<Place> {
    match entry.place {
        Place::Container(_) => Some(entry.place),
        Place::Host if entry.spaces.agrees(spaces) => Some(entry.place),
        Place::Host | Place::Unknown => None,
    }
}
