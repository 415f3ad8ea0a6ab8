//! Learning names, states and processes of containers from runtimes' clients.

use rustc_hash::FxHashSet;
use whalewatch_core::{Container, Context, Status};

use super::{ContainerManager, Message};
use crate::containers::{Known, Naming, Serial, newer};
use crate::hold::Missing;
use crate::options::RuntimeClient;
use crate::pids::{Entry, Place};
use crate::proc::ProcEntry;
use crate::protocol::{Report, Reported, Request};

impl ContainerManager {
    /// Takes in what a runtime's client reports.
    pub(super) fn take_in_report(&mut self, reported: Reported, cx: &mut Context<'_, Message>) {
        let Reported { from, report } = reported;
        if report.about().is_some_and(|id| !self.accepts(from, id)) {
            return;
        }
        match report {
            Report::Container(container) => self.take_in_container(*container, from, cx),
            Report::Renamed { id, name } => self.with(&id, |this, serial| {
                let rename = |this: &mut Self| {
                    this.containers.change(serial, |c| c.name = Some(name.into()));
                };
                this.change_name(serial, rename, cx);
            }),
            Report::Status { id, status } => {
                self.with(&id, |this, serial| this.take_in_status(serial, status, cx));
            }
            Report::Removed { id } => self.with(&id, |this, serial| this.remove(serial, cx)),
            Report::NotKnown { id } => self.with(&id, |this, serial| this.deny(serial, from, cx)),
            Report::Processes { id, processes } => {
                self.with(&id, |this, serial| this.take_in_processes(serial, &processes));
            }
            Report::Refreshed { running } => self.reconcile(&running, from, cx),
        }
    }

    /// Whether a client may report this container. Any user can write podman's records, so they
    /// count for nothing where a cgroup's path or an earlier report says that another runtime has
    /// the container.
    fn accepts(&self, from: RuntimeClient, id: &str) -> bool {
        // Both report the same containers.
        const FAMILY: [RuntimeClient; 2] = [RuntimeClient::Containerd, RuntimeClient::Cri];
        let Some(known) = self.containers.by_id(id).and_then(|s| self.containers.get(s)) else {
            return true;
        };
        match known.reported_by {
            Some(teller) => {
                teller == from || [teller, from].iter().all(|client| FAMILY.contains(client))
            }
            None => from.may_know(known.snapshot.runtime),
        }
    }

    fn with(&mut self, id: &str, then: impl FnOnce(&mut Self, Serial)) {
        if let Some(serial) = self.containers.by_id(id) {
            then(self, serial);
        }
    }

    fn take_in_container(
        &mut self,
        container: Container,
        from: RuntimeClient,
        cx: &mut Context<'_, Message>,
    ) {
        let status = container.status;
        if let Some(serial) = self.containers.by_id(&container.id) {
            self.confirm(serial, from);
            self.change_name(serial, |this| this.containers.merge(serial, container), cx);
            self.take_in_status(serial, status, cx);
        } else if is_there(status) {
            let Some(serial) = self.insert_container(container, Naming::Awaited) else { return };
            self.confirm(serial, from);
            self.appear(serial, cx);
            self.take_in_status(serial, status, cx);
        }
    }

    /// Makes a change that may bring the container's name, and follows up if it does.
    fn change_name(
        &mut self,
        serial: Serial,
        change: impl FnOnce(&mut Self),
        cx: &mut Context<'_, Message>,
    ) {
        let named = |this: &Self| this.containers.get(serial).is_some_and(Known::named);
        let before = named(self);
        change(self);
        // Published before the events that waited for the name are released: trackers use the
        // directory to decide what to watch.
        self.publish_container(serial);
        if !before && named(self) {
            self.resolve(serial, cx);
        }
    }

    fn take_in_status(&mut self, serial: Serial, status: Status, cx: &mut Context<'_, Message>) {
        if status == Status::Unknown {
            return; // no information
        }
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.listed = is_there(status);
        let (listed, cgroups) = (known.listed, known.cgroups.len());
        let status = newer(known.snapshot.status, status);
        if known.snapshot.status != status {
            self.containers.change(serial, |c| c.status = status);
        }
        // Where cgroups answer, they say when a container comes and goes. A report may be older.
        if !listed && cgroups == 0 {
            self.depart(serial, cx);
        } else if listed && !self.world.kernel.cgroups_answer() {
            self.appear(serial, cx);
        }
    }

    /// Follows up on a removal by the runtime: the cgroups are gone as well, reported or not.
    fn remove(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        let now = self.now();
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.listed = false;
        for id in known.cgroups.clone() {
            self.remove_cgroup(id, now, cx);
        }
        self.depart(serial, cx);
    }

    /// Notes which runtime has the container, which ends any doubt that it is one.
    fn confirm(&mut self, serial: Serial, from: RuntimeClient) {
        let Some(known) = self.containers.get_mut(serial) else { return };
        if known.reported_by.replace(from).is_none() {
            // The removed ones, too: events from them may still be on their way.
            let cgroups = known.cgroups.iter().chain(&known.former_cgroups);
            cgroups.for_each(|&id| self.cgroups.confirm(id, serial));
        }
    }

    /// Notes that a runtime does not know the container. Once none does, nothing waits for its
    /// name.
    fn deny(&mut self, serial: Serial, from: RuntimeClient, cx: &mut Context<'_, Message>) {
        let Some(known) = self.containers.get_mut(serial).filter(|k| !k.named()) else { return };
        if !known.denied_by.contains(&from) {
            known.denied_by.push(from);
        }
        let runtime = known.snapshot.runtime;
        let mut askable = self.clients.iter().filter(|client| client.may_know(runtime));
        if askable.all(|client| known.denied_by.contains(client)) {
            known.naming = Naming::Hopeless;
            self.release(Missing::Name(serial), cx);
        }
    }

    fn take_in_processes(&mut self, serial: Serial, processes: &[ProcEntry]) {
        let (now, place) = (self.now(), Place::Container(serial));
        let silent = !self.world.kernel.cgroups_answer();
        for process in processes {
            match self.pids.get_mut(process.key) {
                // The answer of its cgroup stands.
                Some(entry) if entry.place == Place::Unknown || silent => entry.place = place,
                Some(_) => {}
                None => self.pids.insert(process.key.pid, Entry::from_proc(process, place), now),
            }
            if process.namespaces.mnt != 0 && process.namespaces.mnt != self.host.mnt {
                self.containers.set_mount_namespace(serial, process.namespaces.mnt);
            }
        }
    }

    /// Compares the table with a complete listing: a container of this runtime that is not listed
    /// and has no cgroup is gone; one without a name is asked for again.
    fn reconcile(
        &mut self,
        running: &[String],
        from: RuntimeClient,
        cx: &mut Context<'_, Message>,
    ) {
        let running: FxHashSet<&str> = running.iter().map(String::as_str).collect();
        // A listing may have begun before the youngest containers were made.
        let slack = self.options.request_timeout.0 + self.options.grace.0;
        let old = self.now().saturating_sub(slack);
        let mut gone = Vec::new();
        let mut cgroups_gone = Vec::new();
        let of_it = |k: &Known| match k.reported_by {
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
                self.world.runtimes.ask(ask);
            }
            if !listed {
                // Removed before the tracepoints were live, or the removal was lost.
                let kernel = &self.world.kernel;
                cgroups_gone.extend(known.cgroups.iter().filter(|&&id| kernel.lacks(id)));
            }
        }
        for id in cgroups_gone {
            self.remove_cgroup(id, self.now(), cx);
        }
        for serial in gone {
            self.depart(serial, cx);
        }
    }
}

fn is_there(status: Status) -> bool {
    matches!(status, Status::Created | Status::Running | Status::Paused | Status::Restarting)
}
