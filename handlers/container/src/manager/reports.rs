//! What the runtime's client tells of containers.

use rustc_hash::FxHashSet;
use whalewatch_core::{Container, Context, Status};

use super::{ContainerManager, Message};
use crate::containers::{Known, Naming, Serial, newer};
use crate::hold::For;
use crate::options::RuntimeKind;
use crate::pids::{Entry, Place};
use crate::proc::Seen;
use crate::request::{Heard, News, Request};

impl ContainerManager {
    /// Takes in what a runtime's client has learnt.
    pub(super) fn hear(&mut self, heard: Heard, cx: &mut Context<'_, Message>) {
        let from = heard.from;
        if heard.news.about().is_some_and(|id| !self.may_tell(from, id)) {
            return;
        }
        match heard.news {
            News::Container(container) => self.hear_of(*container, from, cx),
            News::Renamed { id, name } => self.with(&id, |this, serial| {
                this.name(
                    serial,
                    |this| {
                        this.containers.change(serial, |c| c.name = Some(name.into()));
                    },
                    cx,
                );
            }),
            News::Status { id, status } => {
                self.with(&id, |this, serial| this.hear_status(serial, status, cx));
            }
            News::Removed { id } => self.with(&id, |this, serial| this.remove(serial, cx)),
            News::NotKnown { id } => self.with(&id, |this, serial| this.deny(serial, from, cx)),
            News::Processes { id, seen } => {
                self.with(&id, |this, serial| this.hear_processes(serial, &seen));
            }
            News::Refreshed { running } => self.reconcile(&running, from, cx),
        }
    }

    /// Whether this runtime is heard about that container. Records of podman's can be written by
    /// any user: what is another runtime's, by its cgroup's path or that one's own word, is none of
    /// theirs.
    fn may_tell(&self, from: RuntimeKind, id: &str) -> bool {
        // Both tell of the same containers.
        const FAMILY: [RuntimeKind; 2] = [RuntimeKind::Containerd, RuntimeKind::Cri];
        let Some(known) = self.containers.by_id(id).and_then(|s| self.containers.get(s)) else {
            return true;
        };
        match known.told_by {
            Some(teller) => teller == from || [teller, from].iter().all(|k| FAMILY.contains(k)),
            None => from.may_know(known.snapshot.runtime),
        }
    }

    fn with(&mut self, id: &str, then: impl FnOnce(&mut Self, Serial)) {
        if let Some(serial) = self.containers.by_id(id) {
            then(self, serial);
        }
    }

    fn hear_of(&mut self, container: Container, from: RuntimeKind, cx: &mut Context<'_, Message>) {
        let status = container.status;
        if let Some(serial) = self.containers.by_id(&container.id) {
            self.told_by(serial, from);
            self.name(serial, |this| this.containers.merge(serial, container), cx);
            self.hear_status(serial, status, cx);
        } else if is_there(status) {
            let now = self.now();
            let Some(serial) = self.containers.insert(container, Naming::Awaited, now) else {
                return;
            };
            self.told_by(serial, from);
            self.appear(serial, cx);
            self.hear_status(serial, status, cx);
        }
    }

    /// Makes a change that may bring the container's name, and follows it up if it has.
    fn name(
        &mut self,
        serial: Serial,
        change: impl FnOnce(&mut Self),
        cx: &mut Context<'_, Message>,
    ) {
        let named = |this: &Self| this.containers.get(serial).is_some_and(Known::named);
        let before = named(self);
        change(self);
        // Before anything that waited for the name goes on: a tracker may be told by it what to
        // watch.
        self.publish_container(serial);
        if !before && named(self) {
            self.resolve(serial, cx);
        }
    }

    fn hear_status(&mut self, serial: Serial, status: Status, cx: &mut Context<'_, Message>) {
        if status == Status::Unknown {
            return; // that says nothing
        }
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.listed = is_there(status);
        let (listed, cgroups) = (known.listed, known.cgroups.len());
        let status = newer(known.snapshot.status, status);
        if known.snapshot.status != status {
            self.containers.change(serial, |c| c.status = status);
        }
        // Where cgroups answer, they say when it comes and goes; what the daemon says may be older.
        if !listed && cgroups == 0 {
            self.depart(serial, cx);
        } else if listed && !self.world.kernel.cgroups_answer() {
            self.appear(serial, cx);
        }
    }

    /// The runtime has removed it, so its cgroups are gone as well, even if nobody told.
    fn remove(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        let now = self.now();
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.listed = false;
        for id in known.cgroups.clone() {
            self.lose_cgroup(id, now, cx);
        }
        self.depart(serial, cx);
    }

    /// This runtime has it, so it is one.
    fn told_by(&mut self, serial: Serial, from: RuntimeKind) {
        let Some(known) = self.containers.get_mut(serial) else { return };
        if known.told_by.replace(from).is_none() {
            known.cgroups.iter().for_each(|&id| self.cgroups.confirm(id));
        }
    }

    /// This runtime does not know it. Once none does nothing waits for its name any more.
    fn deny(&mut self, serial: Serial, from: RuntimeKind, cx: &mut Context<'_, Message>) {
        let Some(known) = self.containers.get_mut(serial).filter(|k| !k.named()) else { return };
        if !known.denied_by.contains(&from) {
            known.denied_by.push(from);
        }
        let runtime = known.snapshot.runtime;
        let mut askable = self.kinds.iter().filter(|kind| kind.may_know(runtime));
        if askable.all(|kind| known.denied_by.contains(kind)) {
            known.naming = Naming::Hopeless;
            self.release(For::Name(serial), cx);
        }
    }

    fn hear_processes(&mut self, serial: Serial, seen: &[Seen]) {
        let (now, place) = (self.now(), Place::Container(serial));
        let silent = !self.world.kernel.cgroups_answer();
        for seen in seen {
            match self.pids.get_mut(seen.key) {
                // What its cgroup said stands.
                Some(entry) if entry.place == Place::Unknown || silent => entry.place = place,
                Some(_) => {}
                None => self.pids.insert(seen.key.pid, Entry::seen(seen, place), now),
            }
            if seen.namespaces.mnt != 0 && seen.namespaces.mnt != self.host.mnt {
                self.containers.lives_in(serial, seen.namespaces.mnt);
            }
        }
    }

    /// All that this runtime has have been told: those of it that nothing else speaks for are gone,
    /// and those without a name are asked for again.
    fn reconcile(&mut self, running: &[String], from: RuntimeKind, cx: &mut Context<'_, Message>) {
        let running: FxHashSet<&str> = running.iter().map(String::as_str).collect();
        // What is younger than the listing can be is not missing from it.
        let slack = self.options.request_timeout.0 + self.options.grace.0;
        let old = self.now().saturating_sub(slack);
        let mut gone = Vec::new();
        let mut cgroups_gone = Vec::new();
        let of_it = |k: &Known| match k.told_by {
            Some(runtime) => runtime == from,
            None => from.may_know(k.snapshot.runtime),
        };
        for (serial, known) in self.containers.iter().filter(|(_, k)| k.present && of_it(k)) {
            let listed = running.contains(&*known.snapshot.id);
            if !listed && known.cgroups.is_empty() && known.since < old {
                gone.push(serial);
            } else if !known.named() && known.naming != Naming::Hopeless {
                let container = &known.snapshot;
                let ask = Request::Inspect(container.id.clone(), container.runtime);
                self.world.helper.ask(ask);
            }
            if !listed {
                // Removed before the tracepoints were live, or the kernel could not tell.
                let kernel = &self.world.kernel;
                cgroups_gone.extend(known.cgroups.iter().filter(|&&id| kernel.lacks(id)));
            }
        }
        for id in cgroups_gone {
            self.lose_cgroup(id, self.now(), cx);
        }
        for serial in gone {
            self.depart(serial, cx);
        }
    }
}

fn is_there(status: Status) -> bool {
    matches!(status, Status::Created | Status::Running | Status::Paused | Status::Restarting)
}
