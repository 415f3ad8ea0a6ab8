//! What trackers tell of processes and cgroups.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{
    Change, Container, Context, EventRef, Process, ProcessKey, Resident, Status,
};

use super::attribute::kept;
use super::{ContainerManager, Inner, Message, Running};
use crate::cgroups::{Answer, InPath, container_in, outermost_in};
use crate::containers::{Naming, Serial};
use crate::event::ContainerEventKind;
use crate::kernel::Told;
use crate::options::RuntimeKind;
use crate::pids::{Entry, Place, Spaces};
use crate::request::Request;

impl ContainerManager {
    /// Takes in what an event says of processes and cgroups.
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
            Change::CgroupRemoved { id } => self.lose_cgroup(id, now, cx),
            Change::Moved { process, to } => self.move_process(process, to, cx),
            Change::Existing | Change::Forked { .. } | Change::Executed | Change::Exited => {
                let Some(process) = event.process() else { return };
                match change {
                    Change::Exited => self.lose_process(process, now, cx),
                    Change::Forked { parent } => {
                        self.learn_process(process, parent, now, cx);
                    }
                    _ => {
                        let place = self.learn_process(process, process.parent_key(), now, cx);
                        self.runs(place);
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
            Some(Answer::Host) => Place::Host,
            Some(Answer::Silent) => self.find_place(process, parent, cx),
            None => Place::Unknown, // the cgroup is about to be told
        };
        self.pids.insert(process.pid, Entry::new(process, place), now);
        self.learn_namespaces(process.namespaces.into(), place);
        place
    }

    /// A program runs there. The daemon says so only once the container's first program is long under way.
    fn runs(&mut self, place: Place) {
        if let Place::Container(serial) = place
            && let Some(known) = self.containers.get(serial)
            && matches!(known.snapshot.status, Status::Created | Status::Unknown)
        {
            self.containers.change(serial, |c| c.status = Status::Running);
        }
    }

    /// Where a process is whose cgroup does not answer: it is known, or its parent is, or `/proc` tells, or the runtime
    /// has to.
    fn find_place(
        &mut self,
        process: &Process,
        parent: ProcessKey,
        cx: &mut Context<'_, Message>,
    ) -> Place {
        let spaces = Spaces::from(process.namespaces);
        let known = self.pids.get(process.key()).and_then(|e| kept(e, spaces));
        let inherited = || {
            let parent = self.pids.get(parent).filter(|_| parent.pid != 0);
            parent.and_then(|e| kept(e, spaces))
        };
        if let Some(place) = known.or_else(inherited) {
            return place;
        }
        if self.is_hosts(spaces) {
            return Place::Host;
        }
        if let Some(serial) = self.containers.by_mnt(spaces.mnt).filter(|_| spaces.mnt != 0) {
            return Place::Container(serial);
        }
        if let Some(place) = self.ask_proc(process.key(), cx) {
            return place;
        }
        self.want_refresh(cx);
        Place::Unknown
    }

    /// What the process's own cgroup file says. Read here and now, from memory: only where no cgroup answers, and once
    /// for a process that has entered other namespaces.
    fn ask_proc(&mut self, key: ProcessKey, cx: &mut Context<'_, Message>) -> Option<Place> {
        match self.world.kernel.process(key)? {
            Told::Host => Some(Place::Host),
            Told::Container((id, runtime, nameless)) => {
                let found = InPath { id: &id, runtime, nameless };
                self.meet(found, cx).map(Place::Container)
            }
        }
    }

    fn learn_namespaces(&mut self, spaces: Spaces, place: Place) {
        // Before it enters its own, a container's first process still has the host's.
        if let Place::Container(serial) = place
            && spaces.mnt != 0
            && spaces.mnt != self.host.mnt
        {
            self.containers.lives_in(serial, spaces.mnt);
        }
    }

    fn move_process(&mut self, key: ProcessKey, to: u64, cx: &mut Context<'_, Message>) {
        let place = match self.ask_cgroup(to, cx) {
            Some(Answer::Container(serial)) => Some(Place::Container(serial)),
            Some(Answer::Host) => Some(Place::Host),
            Some(Answer::Silent) | None => None,
        };
        if let Some(entry) = self.pids.get_mut(key) {
            entry.cgroup = to;
            entry.place = place.unwrap_or(entry.place);
        }
    }

    fn lose_process(&mut self, process: &Process, now: Duration, cx: &mut Context<'_, Message>) {
        if self.pids.get(process.key()).is_none() {
            // So that what comes late finds it, and nobody takes it for running.
            self.learn_process(process, process.parent_key(), now, cx);
        }
        self.pids.end(process.key(), now);
    }

    /// Takes in a cgroup's path, and lets on what waited for it.
    pub(super) fn learn_cgroup(
        &mut self,
        id: u64,
        path: &[u8],
        cx: &mut Context<'_, Message>,
    ) -> Answer {
        let answer = self.take_in_cgroup(id, path);
        if let Answer::Container(serial) = answer {
            self.appear(serial, cx);
        }
        self.cgroup_told(id, cx);
        answer
    }

    /// Takes in a cgroup's path; gives what it says, also where there is no room to remember it.
    pub(super) fn take_in_cgroup(&mut self, id: u64, path: &[u8]) -> Answer {
        let (inner, outer) = (container_in(path), outermost_in(path));
        let nested = inner.map(|c| c.id) != outer.map(|c| c.id);
        // A container that may make cgroups could name one after another container, and pass for it. One that has a cgroup
        // of its own elsewhere does not run in here: whoever made this one does.
        let elsewhere = |c: InPath<'_>| {
            let known = self.containers.by_id(c.id).and_then(|serial| self.containers.get(serial));
            known.is_some_and(|known| known.stands_alone)
        };
        let found = if nested && inner.is_some_and(elsewhere) { outer } else { inner };
        let serial = found.and_then(|found| self.take_in(found));
        if let Some(known) = serial.and_then(|s| self.containers.get_mut(s)) {
            known.stands_alone |= !nested;
        }
        let answer = match (found, serial) {
            (Some(_), Some(serial)) => Answer::Container(serial),
            (Some(_), None) => Answer::Silent, // no room for the container: never call it host
            (None, _) => Answer::Host,
        };
        if let Some(Answer::Container(before)) = self.cgroups.get(id)
            && Some(before) != serial
            && let Some(known) = self.containers.get_mut(before)
        {
            known.cgroups.retain(|&c| c != id);
        }
        // What there is no room to remember is not told either: nobody would take it back.
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

    /// Tells the directory who lives in a cgroup.
    fn publish(&self, id: u64, answer: Answer) {
        let directory = &self.world.directory;
        match answer {
            Answer::Host => directory.publish(id, Resident::Host),
            Answer::Container(serial) => {
                if let Some(known) = self.containers.get(serial) {
                    directory.publish(id, Resident::Container(Arc::clone(&known.snapshot)));
                }
            }
            Answer::Silent => directory.retract(id),
        }
    }

    /// Tells the directory what is known of a container by now.
    pub(super) fn publish_container(&self, serial: Serial) {
        let Some(known) = self.containers.get(serial) else { return };
        for &id in &known.cgroups {
            self.publish(id, Answer::Container(serial));
        }
    }

    pub(super) fn lose_cgroup(&mut self, id: u64, now: Duration, cx: &mut Context<'_, Message>) {
        self.world.directory.retract(id);
        let Some(Answer::Container(serial)) = self.cgroups.remove(id, now) else { return };
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.cgroups.retain(|&c| c != id);
        if known.former_cgroups.len() < super::MOST_FORMER_CGROUPS {
            known.former_cgroups.push(id);
        }
        if known.cgroups.is_empty() {
            self.depart(serial, cx);
        }
    }

    /// The container of that path: known, or known from now on and asked for.
    fn take_in(&mut self, found: InPath<'_>) -> Option<Serial> {
        if let Some(serial) = self.containers.by_id(found.id) {
            return Some(serial);
        }
        let may_know = |kind: &RuntimeKind| !found.nameless && kind.may_know(found.runtime);
        let asked = self.kinds.iter().any(may_know);
        let naming = if asked { Naming::Awaited } else { Naming::Hopeless };
        self.containers.insert(Container::bare(found.id, found.runtime), naming, self.now())
    }

    /// As [`ContainerManager::take_in`], for a process that runs in it.
    fn meet(&mut self, found: InPath<'_>, cx: &mut Context<'_, Message>) -> Option<Serial> {
        let serial = self.take_in(found)?;
        self.appear(serial, cx);
        Some(serial)
    }

    /// A container is there: now, or again.
    pub(super) fn appear(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        self.containers.stay(serial);
        let Some(known) = self.containers.get_mut(serial).filter(|k| !k.present) else { return };
        known.present = true;
        let back = matches!(known.snapshot.status, Status::Exited | Status::Dead);
        if !known.named() && known.naming != Naming::Hopeless {
            known.naming = Naming::Awaited;
            known.denied_by.clear();
            let (id, runtime) = (known.snapshot.id.clone(), known.snapshot.runtime);
            self.world.helper.ask(Request::Inspect(id, runtime));
        }
        if back {
            self.containers.change(serial, |c| c.status = Status::Created);
        }
        self.tell(ContainerEventKind::Found, serial, cx);
    }

    /// A container is gone. What it was called is kept for what comes late.
    pub(super) fn depart(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        self.containers.leave(serial, self.now() + self.options.grace.0);
        let Some(known) = self.containers.get_mut(serial).filter(|k| k.present) else { return };
        known.present = false;
        let ended = matches!(
            known.snapshot.status,
            Status::Running | Status::Paused | Status::Restarting | Status::Unknown
        );
        if ended {
            self.containers.change(serial, |c| c.status = Status::Exited);
        }
        self.tell(ContainerEventKind::Gone, serial, cx);
    }

    /// A container may have appeared that nothing told of. Asked at most once an interval.
    pub(super) fn want_refresh(&mut self, cx: &mut Context<'_, Message>) {
        let now = self.now();
        let next = self.refreshed_at.map_or(now, |at| at + self.options.refresh_interval.0);
        let wait = next.saturating_sub(now);
        if wait.is_zero() {
            self.refreshed_at = Some(now);
            self.world.helper.ask(Request::Refresh { processes: true });
        } else if !self.refresh_waits {
            self.refresh_waits = true;
            cx.after(wait, Message(Inner::Refresh));
        }
    }

    /// Processes that ran at start: those that no tracker has told of.
    pub(super) fn take_in_running(&mut self, running: Vec<Running>, cx: &mut Context<'_, Message>) {
        let now = self.now();
        for Running { seen, home } in running {
            if self.pids.get(seen.key).is_some() {
                continue;
            }
            let place = match &home {
                None => Some(Place::Host),
                Some((id, runtime, nameless)) => {
                    let found = InPath { id, runtime: *runtime, nameless: *nameless };
                    self.meet(found, cx).map(Place::Container)
                }
            };
            let place = place.unwrap_or(Place::Unknown);
            self.pids.insert(seen.key.pid, Entry::seen(&seen, place), now);
            self.learn_namespaces(seen.namespaces.into(), place);
        }
    }
}
