//! What goes down the chains besides batches that pass: what was held, and the manager's own
//! events.

use whalewatch_core::{Attribution, Batch, ChainId, Context, Evidence};

use super::{ContainerManager, Message};
use crate::cgroups::Answer;
use crate::containers::{Naming, Serial};
use crate::event::{ContainerEvent, ContainerEventKind};
use crate::hold::{For, Held};

impl ContainerManager {
    /// At the first call: tells of the containers that the scan has found.
    pub(super) fn start(&mut self, cx: &mut Context<'_, Message>) {
        if !self.started {
            self.started = true;
            let mut there: Vec<Serial> = self.containers.iter().map(|(serial, _)| serial).collect();
            there.sort_unstable();
            for serial in there {
                self.appear(serial, cx);
            }
        }
    }

    /// Sends an event of our own down every chain; behind the container's others if those wait.
    pub(super) fn tell(
        &mut self,
        kind: ContainerEventKind,
        serial: Serial,
        cx: &mut Context<'_, Message>,
    ) {
        if self.options.lifecycle {
            for chain in self.chains.clone() {
                self.tell_chain(kind, serial, chain, cx);
            }
        }
    }

    fn tell_chain(
        &mut self,
        kind: ContainerEventKind,
        serial: Serial,
        chain: ChainId,
        cx: &mut Context<'_, Message>,
    ) {
        let Some(known) = self.containers.get_mut(serial) else { return };
        let evidence = if known.cgroups.is_empty() { Evidence::Runtime } else { Evidence::Cgroup };
        let attribution = Attribution::container(known.snapshot.clone(), evidence);
        let waits =
            !known.named() && known.naming == Naming::Awaited && !self.options.hold.0.is_zero();
        if !known.named() && !waits && !known.unnamed_in.contains(&chain) {
            known.unnamed_in.push(chain);
        }
        let event = ContainerEvent { kind, time: self.world.kernel.now() };
        let mut batch = Batch::new(self.name.clone(), vec![event]);
        batch.attribute(|_| attribution.clone());
        if waits {
            let arrival = self.arrive();
            self.wait(For::Name(serial), Held { chain, batch, own: true, arrival });
        } else {
            cx.add_to(chain, batch);
        }
    }

    /// A container's name has come: completes what went without it, and lets on what waited for it.
    pub(super) fn resolve(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.naming = Naming::Awaited;
        for chain in std::mem::take(&mut known.unnamed_in) {
            if self.chains.contains(&chain) {
                self.tell_chain(ContainerEventKind::Resolved, serial, chain, cx);
            }
        }
        self.release(For::Name(serial), cx);
    }

    /// A cgroup's path has come: what waited for it goes on, or waits on for the name.
    pub(super) fn cgroup_told(&mut self, id: u64, cx: &mut Context<'_, Message>) {
        let Some((until, held)) = self.room.take(For::Cgroup(id)) else { return };
        let container = self.cgroups.get(id).and_then(Answer::container);
        let container = container.and_then(|serial| Some((serial, self.containers.get(serial)?)));
        let Some((serial, known)) =
            container.filter(|(_, k)| !k.named() && k.naming == Naming::Awaited)
        else {
            return self.let_on(held, cx);
        };
        let attribution = match self.cgroups.get(id) {
            Some(Answer::Doubtful(_)) => Attribution::unknown(),
            _ => Attribution::container(known.snapshot.clone(), Evidence::Cgroup),
        };
        for mut held in held {
            held.batch.attribute(|_| attribution.clone());
            self.room.put(For::Name(serial), until, held);
        }
    }

    /// What has waited long enough goes on as it is.
    pub(super) fn release_due(&mut self, cx: &mut Context<'_, Message>) {
        while let Some(what) = self.room.due(self.now()) {
            self.wait_no_more(what, cx);
        }
    }

    /// So does what has waited longest, while more wait than there is room for.
    pub(super) fn release_beyond(&mut self, cx: &mut Context<'_, Message>) {
        while let Some(what) = self.room.beyond(self.options.max_held as usize) {
            self.wait_no_more(what, cx);
        }
    }

    fn wait_no_more(&mut self, what: For, cx: &mut Context<'_, Message>) {
        match what {
            For::Name(serial) => {
                if let Some(known) = self.containers.get_mut(serial) {
                    known.naming = Naming::Late;
                }
            }
            For::Cgroup(id) => self.cgroups.silent(id, self.now()),
        }
        self.release(what, cx);
    }

    /// Lets on what waited for this.
    pub(super) fn release(&mut self, what: For, cx: &mut Context<'_, Message>) {
        if let Some((_, held)) = self.room.take(what) {
            self.let_on(held, cx);
        }
    }

    /// A chain has ended: what waits in it goes on now.
    pub(super) fn release_chain(&mut self, chain: ChainId, cx: &mut Context<'_, Message>) {
        let held = self.room.take_chain(chain).into_iter().map(|(_, held)| held).collect();
        self.let_on(held, cx);
    }

    fn let_on(&mut self, held: Vec<Held>, cx: &mut Context<'_, Message>) {
        for Held { chain, mut batch, own, .. } in held {
            batch.attribute(|event| self.settle(event, chain));
            if own {
                cx.add_to(chain, batch);
            } else {
                cx.emit_to(chain, batch);
            }
        }
    }
}
