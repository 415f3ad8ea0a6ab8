//! What trackers tell of processes and cgroups.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{
    Change, Container, Context, EventRef, Parents, Process, ProcessKey, Resident, Status,
};

use super::attribute::kept;
use super::{ContainerManager, Inner, Message, Running};
use crate::cgroups::{Answer, InPath, container_in, outwards};
use crate::containers::{Naming, Nesting, Serial};
use crate::event::ContainerEventKind;
use crate::options::RuntimeKind;
use crate::pids::{Entry, Place, Spaces};
use crate::proc::Told;
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
            Change::CgroupRemoved { id, path } => {
                // It came before anybody watched, and went before anybody looked: what was done in
                // it may still wait.
                if self.cgroups.get(id).is_none_or(|answer| answer == Answer::Silent)
                    && !path.is_empty()
                {
                    self.learn_cgroup(id, path, cx);
                }
                self.lose_cgroup(id, now, cx);
            }
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
            Some(Answer::Host) => self.place_on_host(process).0,
            Some(Answer::Doubtful(serial)) => self.place_in_doubt(serial, process).0,
            Some(Answer::Silent) => self.find_place(process, parent, cx),
            None => Place::Unknown, // the cgroup is about to be told
        };
        if let Place::Container(serial) = place {
            let before = self.pids.get(process.key()).or_else(|| self.pids.get(parent));
            self.settle_parents(serial, before.map(|entry| entry.place));
        }
        self.pids.insert(process.pid, Entry::new(process, place), now);
        self.learn_namespaces(process.namespaces.into(), place);
        place
    }

    /// A program runs there. The daemon says so only once the container's first program is long
    /// under way.
    fn runs(&mut self, place: Place) {
        if let Place::Container(serial) = place
            && let Some(known) = self.containers.get(serial)
            && matches!(known.snapshot.status, Status::Created | Status::Unknown)
        {
            self.containers.change(serial, |c| c.status = Status::Running);
        }
    }

    /// Where a process is whose cgroup does not answer: it is known, or its parent is, or `/proc`
    /// tells, or the runtime has to.
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
        if let Some(serial) = self.by_mounts(spaces.mnt) {
            return Place::Container(serial);
        }
        if let Some(place) = self.ask_proc(process.key(), cx) {
            return place;
        }
        self.want_refresh(cx);
        Place::Unknown
    }

    /// What the process's own cgroup file says. Read here and now, from memory: only where no
    /// cgroup answers, and once for a process that has entered other namespaces.
    fn ask_proc(&mut self, key: ProcessKey, cx: &mut Context<'_, Message>) -> Option<Place> {
        match self.world.kernel.process(key)? {
            Told::Host => Some(Place::Host),
            Told::Container(home) => self.meet(home.in_path(), cx).map(Place::Container),
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

    /// The first process of a container comes from where its runtime runs: from the host, or from
    /// the container that it runs in, though its cgroup may lie beside that one's. What enters
    /// later says nothing.
    fn settle_parents(&mut self, serial: Serial, from: Option<Place>) {
        let unsettled =
            self.containers.get(serial).is_some_and(|known| known.nesting == Nesting::Untold);
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
        let Some(known) = self.containers.get_mut(serial).filter(|k| k.nesting == Nesting::Untold)
        else {
            return;
        };
        known.nesting = Nesting::Told;
        if !parents.is_empty() {
            self.containers.change(serial, |container| container.parents = parents);
            self.publish_container(serial);
        }
    }

    fn lose_process(&mut self, process: &Process, now: Duration, cx: &mut Context<'_, Message>) {
        if self.pids.get(process.key()).is_none() {
            // So that what comes late finds it, and nobody takes it for running.
            self.learn_process(process, process.parent_key(), now, cx);
        }
        if process.namespaced_pid == 1
            && let Some(entry) = self.pids.get(process.key())
            && let Place::Container(serial) = entry.place
        {
            // The kernel ends all that is left in its pid namespace, and soon gives the mount
            // namespace's number to another.
            self.containers.lives_no_more_in(serial, entry.spaces.mnt);
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
        if let Some(serial) = answer.container() {
            self.appear(serial, cx);
        }
        self.cgroup_told(id, cx);
        answer
    }

    /// Takes in a cgroup's path; gives what it says, also where there is no room to remember it.
    pub(super) fn take_in_cgroup(&mut self, id: u64, path: &[u8]) -> Answer {
        let claim =
            if container_in(path).is_none() { self.world.kernel.claim(id, path) } else { None };
        let answer = match &claim {
            Some(home) => self.take_in(home.in_path()).map(Answer::Container),
            None => self.take_in_path(path),
        };
        // No room for the container: never call it host.
        let answer = answer.unwrap_or(Answer::Silent);
        let serial = answer.container();
        if let Some(before) = self.cgroups.get(id).and_then(Answer::container)
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

    /// The innermost container of a path, and those around it; `None` if there is no room for one
    /// of them.
    fn take_in_path(&mut self, path: &[u8]) -> Option<Answer> {
        let mut answer = Answer::Host;
        let mut parents = Parents::default();
        let all: Vec<InPath<'_>> = outwards(path).collect();
        for (depth, &found) in all.iter().rev().enumerate() {
            let known = self.containers.by_id(found.id).and_then(|s| self.containers.get(s));
            // A container that may make cgroups could name one after another container, and pass
            // for it. One that has a cgroup of its own elsewhere does not run in here: whoever made
            // this one does.
            if depth > 0 && known.is_some_and(|known| known.stands_alone) {
                break;
            }
            let confirmed = known.is_some_and(|known| known.told_by.is_some());
            let serial = self.take_in(found)?;
            if let Some(known) = self.containers.get_mut(serial) {
                known.stands_alone |= depth == 0;
            }
            if depth > 0 {
                self.set_parents(serial, parents);
            }
            parents = Parents::with(&self.containers.get(serial)?.snapshot);
            // What a container makes below its own cgroup is in it either way.
            answer = if found.certain || confirmed || depth > 0 {
                Answer::Container(serial)
            } else {
                Answer::Doubtful(serial)
            };
        }
        Some(answer)
    }

    /// Tells the directory who lives in a cgroup.
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

    /// Tells the directory what is known of a container by now.
    pub(super) fn publish_container(&self, serial: Serial) {
        let Some(known) = self.containers.get(serial) else { return };
        for &id in &known.cgroups {
            self.publish(id, Answer::Container(serial));
        }
    }

    pub(super) fn lose_cgroup(&mut self, id: u64, now: Duration, cx: &mut Context<'_, Message>) {
        self.world.directory.retract(id);
        let Some(serial) = self.cgroups.remove(id, now).and_then(Answer::container) else { return };
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
        let container = Container {
            name: found.name.map(Into::into),
            ..Container::bare(found.id, found.runtime)
        };
        self.containers.insert(container, naming, self.now())
    }

    /// As [`ContainerManager::take_in`], for a process that was seen in it. One whose cgroups are
    /// all gone has ended since.
    fn meet(&mut self, found: InPath<'_>, cx: &mut Context<'_, Message>) -> Option<Serial> {
        let serial = self.take_in(found)?;
        let known = self.containers.get(serial)?;
        if known.present || known.former_cgroups.is_empty() {
            self.appear(serial, cx);
        }
        Some(serial)
    }

    /// A container is there: now, or again.
    pub(super) fn appear(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        self.containers.stay(serial);
        let Some(known) = self.containers.get_mut(serial).filter(|k| !k.present) else { return };
        known.present = true;
        let back = matches!(known.snapshot.status, Status::Exited | Status::Dead);
        // A container whose state told its name has an image and labels as well.
        let bare = !known.named() || known.told_by.is_none();
        if bare && known.naming != Naming::Hopeless {
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
                Told::Host => Some(Place::Host),
                Told::Container(home) => self.meet(home.in_path(), cx).map(Place::Container),
            };
            let place = place.unwrap_or(Place::Unknown);
            self.pids.insert(seen.key.pid, Entry::seen(&seen, place), now);
            self.learn_namespaces(seen.namespaces.into(), place);
        }
    }
}
