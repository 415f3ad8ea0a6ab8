//! Learning processes and cgroups from trackers' events.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{
    Change, Container, Context, EventRef, Parents, Process, ProcessKey, Resident, Status,
};

use super::attribute::known_place;
use super::{ContainerManager, Message, Payload, RunningProcess};
use crate::cgroups::{Answer, Identity, container_in, outwards};
use crate::containers::{MAX_FORMER_CGROUPS, Naming, Nesting, Serial};
use crate::event::ContainerEventKind;
use crate::options::RuntimeClient;
use crate::pids::{Entry, Place, Spaces};
use crate::proc::Membership;
use crate::protocol::Request;

impl ContainerManager {
    /// Learns what an event says about processes and cgroups.
    pub(super) fn learn(
        &mut self,
        event: EventRef<'_>,
        now: Duration,
        cx: &mut Context<'_, Message>,
    ) {
        let Some(change) = event.change() else { return };
        match change {
            Change::CgroupMade { id, path } | Change::CgroupRenamed { id, path } => {
                self.learn_cgroup(id, path, cx);
            }
            Change::CgroupRemoved { id, path } => {
                // It was made before the tracker was live and removed before the scan saw it.
                // Events from it may still be waiting.
                if self.cgroups.get(id).is_none_or(|answer| answer == Answer::Silent)
                    && !path.is_empty()
                {
                    self.learn_cgroup(id, path, cx);
                }
                self.remove_cgroup(id, now, cx);
            }
            Change::Moved { process, to } => self.move_process(process, to, cx),
            Change::Existing | Change::Forked { .. } | Change::Executed | Change::Exited => {
                let Some(process) = event.process() else { return };
                match change {
                    Change::Exited => self.end_process(process, now, cx),
                    Change::Forked { parent } => {
                        self.learn_process(process, parent, now, cx);
                    }
                    _ => {
                        let place = self.learn_process(process, process.parent_key(), now, cx);
                        self.set_running(place);
                    }
                }
            }
        }
    }

    fn learn_process(
        &mut self,
        process: &Process,
        parent: ProcessKey,
        now: Duration,
        cx: &mut Context<'_, Message>,
    ) -> Place {
        if process.pid == 0 {
            return Place::Host;
        }
        let place = match self.ask_cgroup(process.cgroup_id, cx) {
            Some(Answer::Container(serial)) => Place::Container(serial),
            Some(Answer::Host) => self.locate_in_host_cgroup(process).0,
            Some(Answer::Doubtful(serial)) => self.locate_in_doubtful_cgroup(serial, process).0,
            Some(Answer::Silent) => self.find_place(process, parent, cx),
            None => Place::Unknown, // the path of its cgroup may still come
        };
        if let Place::Container(serial) = place {
            let before = self.pids.get(process.key()).or_else(|| self.pids.get(parent));
            self.settle_parents(serial, before.map(|entry| entry.place));
        }
        self.pids.insert(process.pid, Entry::new(process, place), now);
        self.learn_namespaces(process.namespaces.into(), place);
        place
    }

    /// Marks the container of a running program as running. Its runtime says so later, when the
    /// first program has been running for a while.
    fn set_running(&mut self, place: Place) {
        if let Place::Container(serial) = place
            && let Some(known) = self.containers.get(serial)
            && matches!(known.snapshot.status, Status::Created | Status::Unknown)
        {
            self.containers.change(serial, |c| c.status = Status::Running);
        }
    }

    /// Finds the place of a process whose cgroup says nothing: from the pid map, by its namespaces,
    /// from `/proc`, or by asking the runtimes.
    fn find_place(
        &mut self,
        process: &Process,
        parent: ProcessKey,
        cx: &mut Context<'_, Message>,
    ) -> Place {
        let spaces = Spaces::from(process.namespaces);
        let known = self.pids.get(process.key()).and_then(|e| known_place(e, spaces));
        let inherited = || {
            let parent = self.pids.get(parent).filter(|_| parent.pid != 0);
            parent.and_then(|e| known_place(e, spaces))
        };
        if let Some(place) = known.or_else(inherited) {
            return place;
        }
        if self.are_host_spaces(spaces) {
            return Place::Host;
        }
        if let Some(serial) = self.container_by_mounts(spaces.mnt) {
            return Place::Container(serial);
        }
        if let Some(place) = self.ask_proc(process.key(), cx) {
            return place;
        }
        self.want_refresh(cx);
        Place::Unknown
    }

    /// Reads where the process's own cgroup file says it is. The file is in memory, so this does
    /// not wait for a disk. It happens only where cgroups do not answer, for a process in other
    /// namespaces than its parent's.
    fn ask_proc(&mut self, key: ProcessKey, cx: &mut Context<'_, Message>) -> Option<Place> {
        match self.world.kernel.process(key)? {
            Membership::Host => Some(Place::Host),
            Membership::Container(identity) => {
                self.meet(identity.as_identity(), cx).map(Place::Container)
            }
        }
    }

    fn learn_namespaces(&mut self, spaces: Spaces, place: Place) {
        // A container's first process has the host's mounts until it enters its own.
        if let Place::Container(serial) = place
            && spaces.mnt != 0
            && spaces.mnt != self.host.mnt
        {
            self.containers.set_mount_namespace(serial, spaces.mnt);
        }
    }

    fn move_process(&mut self, key: ProcessKey, to: u64, cx: &mut Context<'_, Message>) {
        let place = match self.ask_cgroup(to, cx) {
            Some(Answer::Container(serial)) => Some(Place::Container(serial)),
            Some(Answer::Host) => Some(Place::Host),
            Some(Answer::Doubtful(_) | Answer::Silent) | None => None,
        };
        let before = self.pids.get(key).map(|entry| entry.place);
        if let Some(Place::Container(serial)) = place {
            self.settle_parents(serial, before);
        }
        if let Some(entry) = self.pids.get_mut(key) {
            entry.cgroup = to;
            entry.place = place.unwrap_or(entry.place);
        }
    }

    /// Settles which containers a container runs in, by where its first process comes from: its
    /// runtime runs on the host or in an outer container, whose cgroup may lie beside this one's.
    /// Processes that enter later do not count as evidence.
    fn settle_parents(&mut self, serial: Serial, from: Option<Place>) {
        let unsettled =
            self.containers.get(serial).is_some_and(|known| known.nesting == Nesting::Unknown);
        if !unsettled {
            return;
        }
        let parents = match from {
            Some(Place::Host) => Parents::default(),
            Some(Place::Container(outer)) if outer != serial => {
                let Some(outer) = self.containers.get(outer) else { return };
                Parents::with(&outer.snapshot)
            }
            _ => return,
        };
        self.set_parents(serial, parents);
    }

    fn set_parents(&mut self, serial: Serial, parents: Parents) {
        let Some(known) = self.containers.get_mut(serial).filter(|k| k.nesting == Nesting::Unknown)
        else {
            return;
        };
        known.nesting = Nesting::Known;
        if !parents.is_empty() {
            self.containers.change(serial, |container| container.parents = parents);
            self.publish_container(serial);
        }
    }

    fn end_process(&mut self, process: &Process, now: Duration, cx: &mut Context<'_, Message>) {
        if self.pids.get(process.key()).is_none() {
            // Late events will look for it, and a later snapshot must not revive it.
            self.learn_process(process, process.parent_key(), now, cx);
        }
        if process.namespaced_pid == 1
            && let Some(entry) = self.pids.get(process.key())
            && let Place::Container(serial) = entry.place
        {
            // The kernel kills the rest of the pid namespace and soon reuses the mount namespace's
            // number.
            self.containers.clear_mount_namespace(serial, entry.spaces.mnt);
        }
        self.pids.end(process.key(), now);
    }

    /// Learns a cgroup's path, and releases the events that waited for it.
    pub(super) fn learn_cgroup(
        &mut self,
        id: u64,
        path: &[u8],
        cx: &mut Context<'_, Message>,
    ) -> Answer {
        let answer = self.take_in_cgroup(id, path);
        if let Some(serial) = answer.container() {
            self.appear(serial, cx);
        }
        self.path_arrived(id, cx);
        answer
    }

    /// Adds a cgroup to the table and returns its answer, which is right even if there was no room.
    pub(super) fn take_in_cgroup(&mut self, id: u64, path: &[u8]) -> Answer {
        let claim =
            if container_in(path).is_none() { self.world.kernel.claim(id, path) } else { None };
        let answer = match &claim {
            Some(claimed) => self.take_in(claimed.as_identity()).map(Answer::Container),
            None => self.take_in_path(path),
        };
        // There was no room for the container. It must not read as host.
        let answer = answer.unwrap_or(Answer::Silent);
        let serial = answer.container();
        if let Some(before) = self.cgroups.get(id).and_then(Answer::container)
            && Some(before) != serial
            && let Some(known) = self.containers.get_mut(before)
        {
            known.cgroups.retain(|&c| c != id);
        }
        // A cgroup without room is not published: nothing would ever retract it.
        if self.cgroups.insert(id, answer) {
            if let Some(known) = serial.and_then(|s| self.containers.get_mut(s))
                && !known.cgroups.contains(&id)
            {
                known.cgroups.push(id);
            }
            self.publish(id, answer);
        }
        answer
    }

    /// Adds the containers in a path, the outermost first, and returns the innermost; `None` if
    /// there is no room for one of them.
    fn take_in_path(&mut self, path: &[u8]) -> Option<Answer> {
        let mut answer = Answer::Host;
        let mut parents = Parents::default();
        let all: Vec<Identity<'_>> = outwards(path).collect();
        for (depth, &found) in all.iter().rev().enumerate() {
            let known = self.containers.by_id(found.id).and_then(|s| self.containers.get(s));
            // A container that may create cgroups could name one after another container to pass
            // for it. A container with a top-level cgroup elsewhere is not in here; the container
            // that made this cgroup is.
            if depth > 0 && known.is_some_and(|known| known.has_top_cgroup) {
                break;
            }
            let confirmed = known.is_some_and(|known| known.reported_by.is_some());
            let serial = self.take_in(found)?;
            if let Some(known) = self.containers.get_mut(serial) {
                known.has_top_cgroup |= depth == 0;
            }
            if depth > 0 {
                self.set_parents(serial, parents);
            }
            parents = Parents::with(&self.containers.get(serial)?.snapshot);
            // Below a container's own cgroup there is no doubt: the processes are in it either way.
            answer = if found.certain || confirmed || depth > 0 {
                Answer::Container(serial)
            } else {
                Answer::Doubtful(serial)
            };
        }
        Some(answer)
    }

    /// Publishes a cgroup's container in the directory.
    fn publish(&self, id: u64, answer: Answer) {
        let directory = &self.world.directory;
        match answer {
            Answer::Host => directory.publish(id, Resident::Host),
            Answer::Container(serial) | Answer::Doubtful(serial) => {
                if let Some(known) = self.containers.get(serial) {
                    directory.publish(id, Resident::Container(Arc::clone(&known.snapshot)));
                }
            }
            Answer::Silent => directory.retract(id),
        }
    }

    /// Publishes a container's current snapshot for all its cgroups.
    pub(super) fn publish_container(&self, serial: Serial) {
        let Some(known) = self.containers.get(serial) else { return };
        for &id in &known.cgroups {
            self.publish(id, Answer::Container(serial));
        }
    }

    pub(super) fn remove_cgroup(&mut self, id: u64, now: Duration, cx: &mut Context<'_, Message>) {
        self.world.directory.retract(id);
        let Some(serial) = self.cgroups.remove(id, now).and_then(Answer::container) else { return };
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.cgroups.retain(|&c| c != id);
        if known.former_cgroups.len() < MAX_FORMER_CGROUPS {
            known.former_cgroups.push(id);
        }
        if known.cgroups.is_empty() {
            self.depart(serial, cx);
        }
    }

    /// Returns the container with this identity; adds it if it is not known.
    fn take_in(&mut self, found: Identity<'_>) -> Option<Serial> {
        if let Some(serial) = self.containers.by_id(found.id) {
            return Some(serial);
        }
        let may_know = |client: &RuntimeClient| !found.nameless && client.may_know(found.runtime);
        let asked = self.clients.iter().any(may_know);
        let naming = if asked { Naming::Awaited } else { Naming::Hopeless };
        let container = Container {
            name: found.name.map(Into::into),
            ..Container::bare(found.id, found.runtime)
        };
        self.insert_container(container, naming)
    }

    /// As [`ContainerManager::take_in`], for a process that was seen in the container. The
    /// container is there, unless all its cgroups have been removed since.
    fn meet(&mut self, found: Identity<'_>, cx: &mut Context<'_, Message>) -> Option<Serial> {
        let serial = self.take_in(found)?;
        let known = self.containers.get(serial)?;
        if known.present || known.former_cgroups.is_empty() {
            self.appear(serial, cx);
        }
        Some(serial)
    }

    /// Marks a container as present, for the first time or again.
    pub(super) fn appear(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        self.containers.keep(serial);
        let Some(known) = self.containers.get_mut(serial).filter(|k| !k.present) else { return };
        known.present = true;
        let back = matches!(known.snapshot.status, Status::Exited | Status::Dead);
        // One whose name came from its state folder still lacks its image and labels.
        let bare = !known.named() || known.reported_by.is_none();
        if bare && known.naming != Naming::Hopeless {
            known.naming = Naming::Awaited;
            known.denied_by.clear();
            let (id, runtime) = (known.snapshot.id.clone(), known.snapshot.runtime);
            self.world.runtimes.ask(Request::Inspect(id, runtime));
        }
        if back {
            self.containers.change(serial, |c| c.status = Status::Created);
        }
        self.announce(ContainerEventKind::Found, serial, cx);
    }

    /// Marks a container as gone. It is remembered for the grace period, for late events.
    pub(super) fn depart(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        self.containers.schedule_forget(serial, self.now() + self.options.grace.0);
        let Some(known) = self.containers.get_mut(serial).filter(|k| k.present) else { return };
        known.present = false;
        let ended = matches!(
            known.snapshot.status,
            Status::Running | Status::Paused | Status::Restarting | Status::Unknown
        );
        if ended {
            self.containers.change(serial, |c| c.status = Status::Exited);
        }
        self.announce(ContainerEventKind::Gone, serial, cx);
    }

    /// Requests a listing, because a container may have appeared unnoticed; at most once an
    /// interval.
    pub(super) fn want_refresh(&mut self, cx: &mut Context<'_, Message>) {
        let now = self.now();
        let next = self.refreshed_at.map_or(now, |at| at + self.options.refresh_interval.0);
        let wait = next.saturating_sub(now);
        if wait.is_zero() {
            self.refreshed_at = Some(now);
            self.world.runtimes.ask(Request::Refresh { processes: true });
        } else if !self.refresh_waits {
            self.refresh_waits = true;
            cx.after(wait, Message(Payload::Refresh));
        }
    }

    /// Adds the processes that were running at start, unless a tracker has reported them.
    pub(super) fn take_in_running(
        &mut self,
        running: Vec<RunningProcess>,
        cx: &mut Context<'_, Message>,
    ) {
        let now = self.now();
        for RunningProcess { entry, membership } in running {
            if self.pids.get(entry.key).is_some() {
                continue;
            }
            let place = match &membership {
                Membership::Host => Some(Place::Host),
                Membership::Container(identity) => {
                    self.meet(identity.as_identity(), cx).map(Place::Container)
                }
            };
            let place = place.unwrap_or(Place::Unknown);
            self.pids.insert(entry.key.pid, Entry::from_proc(&entry, place), now);
            self.learn_namespaces(entry.namespaces.into(), place);
        }
    }
}
