//! The law of attribution: which container caused an event.
//!
//! The first evidence that answers decides:
//!
//! 1. **cgroup**: the process's cgroup at the time of the event. The kernel reports a cgroup's path
//!    before any process runs in it, so this is known first and cannot be outdated.
//! 2. **pid**: the process, by pid and start time, is known already.
//! 3. **parent**: its parent is known. A child of a container's process is in the container; a
//!    child of a host process is on the host only if its namespaces have not changed.
//! 4. **namespace**: the mount namespace is that of a known container; or all namespaces are the
//!    host's.
//! 5. **runtime**: a runtime says that this is the first process of its container.
//!
//! If nothing answers, the event's place is *unknown*. It is never *host* by default: only a cgroup
//! or a set of namespaces that is the host's says so.
//!
//! ```text
//!  cgroup says        further evidence                                   place      evidence
//!  ─────────────────  ─────────────────────────────────────────────────  ─────────  ─────────
//!  container          –                                                  container  cgroup
//!  host               mounts are the host's                              host       cgroup
//!                     mounts, or pid, of a container without a cgroup    container  namespace
//!                     any other mounts                                   host       cgroup
//!  container, but no  mounts are not the host's, or unknown              container  cgroup
//!  runtime confirms   mounts are the host's, every runtime denied it     host       namespace
//!                     mounts are the host's, a runtime may yet confirm   unknown    –
//!  nothing            pid, parent, namespace, runtime, in this order     either     each of them
//! ```
//!
//! An event waits in two cases, at most for the hold: for the path of a cgroup that is not known
//! yet, and for the name of a container that a runtime may still report.

use std::sync::Arc;

use whalewatch_core::{
    Attribution, Batch, ChainContext, ChainId, Change, Context, EventRef, Evidence, Process, State,
};

use super::{ContainerManager, Message};
use crate::cgroups::Answer;
use crate::containers::{Naming, Serial};
use crate::hold::{Held, Missing};
use crate::pids::{Entry, Place, Spaces};

impl ContainerManager {
    /// Attributes a batch and emits it, except for the events that have to wait.
    pub(super) fn attribute_batch(&mut self, mut batch: Batch, cx: &mut ChainContext<'_, Message>) {
        let chain = cx.chain();
        let mut waits = std::mem::take(&mut self.waits);
        let mut any_waits = false;
        waits.clear();
        self.unknown_cgroup = 0;
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

    /// Moves the events that have to wait into the waiting room, those for the same fact together.
    fn hold(&mut self, batch: &mut Batch, waits: &mut Vec<Option<Missing>>, chain: ChainId) {
        let arrival = self.next_arrival();
        while let Some(missing) = waits.iter().flatten().next().copied() {
            let mut each = waits.iter();
            let part = batch.split(|_| each.next() == Some(&Some(missing)));
            waits.retain(|wait| *wait != Some(missing));
            self.wait(missing, Held { chain, batch: part, own: false, arrival });
        }
    }

    pub(super) fn next_arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    pub(super) fn wait(&mut self, missing: Missing, held: Held) {
        let until = self.now() + self.options.hold.0;
        self.room.put(missing, until, held);
    }

    /// Returns an event's attribution, and the fact that it has to wait for.
    fn attribute(
        &mut self,
        event: EventRef<'_>,
        chain: ChainId,
        cx: &mut Context<'_, Message>,
    ) -> (Attribution, Option<Missing>) {
        let Some(process) = event.process() else {
            return match self.locate_without_process(event, cx) {
                Ok((place, evidence)) => self.attribute_place(place, evidence, chain, true),
                Err(cgroup) => (Attribution::unknown(), Some(Missing::Path(cgroup))),
            };
        };
        match self.locate(process, cx) {
            Some((Place::Unknown, _)) if let Some(serial) = self.unconfirmed(process) => {
                (Attribution::unknown(), Some(Missing::Name(serial)))
            }
            Some(found) => self.attribute_process(process, found, chain, true),
            None => (Attribution::unknown(), Some(Missing::Path(process.cgroup_id))),
        }
    }

    /// Fills in the container that an event was done to, as far as it is known now. Nothing waits
    /// for it.
    fn attribute_target(
        &mut self,
        attribution: &mut Attribution,
        target: &Process,
        cx: &mut Context<'_, Message>,
    ) {
        let place = self.locate(target, cx).map_or(Place::Unknown, |(place, _)| place);
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

    /// Returns where a process is; `None` while the path of its cgroup may still come.
    fn locate(
        &mut self,
        process: &Process,
        cx: &mut Context<'_, Message>,
    ) -> Option<(Place, Evidence)> {
        // The idle task of each processor belongs to the kernel, and so to the host.
        if process.pid == 0 {
            return Some((Place::Host, Evidence::Pid));
        }
        let answer = self.ask_cgroup(process.cgroup_id, cx)?;
        Some(self.locate_by(answer, process))
    }

    /// Returns where a process is whose cgroup gives this answer.
    #[inline]
    fn locate_by(&self, answer: Answer, process: &Process) -> (Place, Evidence) {
        match answer {
            Answer::Container(serial) => (Place::Container(serial), Evidence::Cgroup),
            Answer::Host => self.locate_in_host_cgroup(process),
            Answer::Doubtful(serial) => self.locate_in_doubtful_cgroup(serial, process),
            Answer::Silent => self.locate_without_cgroup(process),
        }
    }

    fn never_had_a_cgroup(&self, serial: Serial) -> bool {
        let known = self.containers.get(serial);
        known.is_some_and(|known| known.cgroups.is_empty() && known.former_cgroups.is_empty())
    }

    /// Returns the container that has this mount namespace.
    ///
    /// Where cgroups answer, this is evidence only for a container that never had a cgroup. For any
    /// other its cgroup decides: a process in another cgroup is not in the container, and the
    /// kernel may have given the namespace's number away again.
    pub(super) fn container_by_mounts(&self, mnt: u32) -> Option<Serial> {
        let answer = self.world.kernel.cgroups_answer();
        self.containers.by_mnt(mnt).filter(|&serial| !answer || self.never_had_a_cgroup(serial))
    }

    /// Returns where a process is whose cgroup is the host's: on the host, or in a container that
    /// never had a cgroup, as rootless podman starts them. Such a container is known by its mount
    /// namespace.
    #[inline]
    pub(super) fn locate_in_host_cgroup(&self, process: &Process) -> (Place, Evidence) {
        if process.namespaces.mnt == self.host.mnt {
            return (Place::Host, Evidence::Cgroup);
        }
        self.locate_by_other_mounts(process)
    }

    fn locate_by_other_mounts(&self, process: &Process) -> (Place, Evidence) {
        // The pid map answers for a process that has left its container's mount namespace: one that
        // exits has none any more, and one that made itself another is still where it was.
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

    /// Returns where a process is whose cgroup has the name of a container that no runtime has
    /// confirmed. A process with the host's mounts may be there because somebody chose that name;
    /// it is on the host once every runtime has denied the container.
    pub(super) fn locate_in_doubtful_cgroup(
        &self,
        serial: Serial,
        process: &Process,
    ) -> (Place, Evidence) {
        let mnt = process.namespaces.mnt;
        if mnt == 0 || mnt != self.host.mnt {
            return (Place::Container(serial), Evidence::Cgroup);
        }
        match self.containers.get(serial) {
            Some(known) if known.naming == Naming::Hopeless => (Place::Host, Evidence::Namespace),
            _ => (Place::Unknown, Evidence::None),
        }
    }

    /// Returns the container that a runtime has yet to confirm or deny before this process can be
    /// located.
    fn unconfirmed(&self, process: &Process) -> Option<Serial> {
        let Some(Answer::Doubtful(serial)) = self.cgroups.get(process.cgroup_id) else {
            return None;
        };
        let awaited = self.containers.get(serial)?.naming == Naming::Awaited;
        (awaited && !self.options.hold.0.is_zero()).then_some(serial)
    }

    /// Returns the place of a cgroup itself, without a process in it.
    fn place_of_cgroup(answer: Option<Answer>) -> (Place, Evidence) {
        match answer {
            Some(Answer::Container(serial) | Answer::Doubtful(serial)) => {
                (Place::Container(serial), Evidence::Cgroup)
            }
            Some(Answer::Host) => (Place::Host, Evidence::Cgroup),
            Some(Answer::Silent) | None => (Place::Unknown, Evidence::None),
        }
    }

    /// Returns what a cgroup says; `None` while its path may still come. Asks the kernel for the
    /// path of an unknown one.
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
        if self.unknown_cgroup != id && !self.room.holds(Missing::Path(id)) {
            if let Some(path) = self.world.kernel.path_of(id) {
                return Some(self.learn_cgroup(id, &path, cx));
            }
            self.unknown_cgroup = id;
        }
        if self.options.hold.0.is_zero() { Some(Answer::Silent) } else { None }
    }

    /// Returns where a process is whose cgroup says nothing.
    pub(super) fn locate_without_cgroup(&self, process: &Process) -> (Place, Evidence) {
        let spaces = Spaces::from(process.namespaces);
        if let Some(place) = self.pids.get(process.key()).and_then(|e| known_place(e, spaces)) {
            return (place, Evidence::Pid);
        }
        let parent = self.pids.get(process.parent_key()).filter(|_| process.parent_pid != 0);
        if let Some(place) = parent.and_then(|e| known_place(e, spaces)) {
            return (place, Evidence::Parent);
        }
        if let Some(serial) = self.container_by_mounts(spaces.mnt) {
            return (Place::Container(serial), Evidence::Namespace);
        }
        if self.are_host_spaces(spaces) {
            return (Place::Host, Evidence::Namespace);
        }
        match self.containers.by_init(process.pid) {
            Some(serial) => (Place::Container(serial), Evidence::Runtime),
            None => (Place::Unknown, Evidence::None),
        }
    }

    /// Whether these are the host's namespaces: all known, and all the same.
    pub(super) fn are_host_spaces(&self, spaces: Spaces) -> bool {
        spaces == self.host && spaces.user != 0 && spaces.pid != 0 && spaces.mnt != 0
    }

    /// Returns the place of an event that no process caused: that of its cgroup. The error is a
    /// cgroup whose path may still come.
    fn locate_without_process(
        &mut self,
        event: EventRef<'_>,
        cx: &mut Context<'_, Message>,
    ) -> Result<(Place, Evidence), u64> {
        let Some(cgroup) = event.cgroup() else { return Ok(self.place_of_change(event)) };
        let answer = self.ask_cgroup(cgroup, cx).ok_or(cgroup)?;
        Ok(Self::place_of_cgroup(Some(answer)))
    }

    /// Returns the place of a change to a cgroup, or of the cgroup that a process moved to.
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

    /// Returns the attribution of an event that a process in this place caused, and the name that
    /// it has to wait for.
    #[inline]
    fn attribute_process(
        &mut self,
        process: &Process,
        (place, evidence): (Place, Evidence),
        chain: ChainId,
        may_wait: bool,
    ) -> (Attribution, Option<Missing>) {
        let (mut attribution, wait) = self.attribute_place(place, evidence, chain, may_wait);
        let mnt = process.namespaces.mnt;
        if place == Place::Host && mnt != self.host.mnt && mnt != 0 {
            let entered = self.containers.by_mnt(mnt).and_then(|s| self.containers.get(s));
            attribution.entered = entered.map(|known| Arc::clone(&known.snapshot));
        }
        (attribution, wait)
    }

    /// Returns the attribution of an event in this place, and the name that it has to wait for.
    #[inline]
    fn attribute_place(
        &mut self,
        place: Place,
        evidence: Evidence,
        chain: ChainId,
        may_wait: bool,
    ) -> (Attribution, Option<Missing>) {
        match place {
            Place::Container(serial) => self.attribute_container(serial, evidence, chain, may_wait),
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
    fn attribute_container(
        &mut self,
        serial: Serial,
        evidence: Evidence,
        chain: ChainId,
        may_wait: bool,
    ) -> (Attribution, Option<Missing>) {
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
            return (attribution, Some(Missing::Name(serial)));
        }
        known.events += 1;
        if !known.unnamed_in.contains(&chain) {
            known.unnamed_in.push(chain);
        }
        (attribution, None)
    }

    /// Returns the final attribution of an event that has waited, by what is known now.
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
            if let Some(serial) = self.containers.by_id(&container.id) {
                return self.attribute_container(serial, so_far.evidence, chain, false).0;
            }
            self.count_forgotten(&container.id);
            return so_far.clone();
        }
        let Some(process) = event.process() else {
            let Some(cgroup) = event.cgroup() else { return so_far.clone() };
            let (place, evidence) = Self::place_of_cgroup(self.cgroups.get(cgroup));
            return self.attribute_place(place, evidence, chain, false).0;
        };
        let answer = self.cgroups.get(process.cgroup_id).unwrap_or(Answer::Silent);
        let found = self.locate_by(answer, process);
        self.attribute_process(process, found, chain, false).0
    }
}

/// Returns the place of a known process, or of a process's known parent, for a process that is seen
/// in these namespaces now.
///
/// A process in a container stays in it, whatever namespaces it makes (a sandbox is still there).
/// One from the host may have entered a container if its namespaces have changed.
pub(super) fn known_place(entry: &Entry, spaces: Spaces) -> Option<Place> {
    match entry.place {
        Place::Container(_) => Some(entry.place),
        Place::Host if entry.spaces.agrees(spaces) => Some(entry.place),
        Place::Host | Place::Unknown => None,
    }
}
