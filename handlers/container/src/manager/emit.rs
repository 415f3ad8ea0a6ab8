//! What goes down the chains besides batches that pass at once: held events, and the manager's own.

use whalewatch_core::{Attribution, Batch, ChainId, Context, Evidence};

use super::{ContainerManager, Message};
use crate::cgroups::Answer;
use crate::containers::{Naming, Serial};
use crate::event::{ContainerEvent, ContainerEventKind};
use crate::hold::{Held, Missing};

impl ContainerManager {
    /// Announces, in the first call, the containers that the scan has found.
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

    /// Sends a lifecycle event down every chain, if configured. It queues behind the container's
    /// other events if those wait.
    pub(super) fn announce(
        &mut self,
        kind: ContainerEventKind,
        serial: Serial,
        cx: &mut Context<'_, Message>,
    ) {
        if self.options.lifecycle {
            for chain in self.chains.clone() {
                self.announce_in(chain, kind, serial, cx);
            }
        }
    }

    fn announce_in(
        &mut self,
        chain: ChainId,
        kind: ContainerEventKind,
        serial: Serial,
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
            let arrival = self.next_arrival();
            self.wait(Missing::Name(serial), Held { chain, batch, own: true, arrival });
        } else {
            cx.add_to(chain, batch);
        }
    }

    /// Follows up on a container's name: sends `container.resolved` to the chains that got events
    /// without it, and releases the events that waited for it.
    pub(super) fn resolve(&mut self, serial: Serial, cx: &mut Context<'_, Message>) {
        let Some(known) = self.containers.get_mut(serial) else { return };
        known.naming = Naming::Awaited;
        for chain in std::mem::take(&mut known.unnamed_in) {
            if self.chains.contains(&chain) {
                self.announce_in(chain, ContainerEventKind::Resolved, serial, cx);
            }
        }
        self.release(Missing::Name(serial), cx);
    }

    /// Follows up on a cgroup's path: releases the events that waited for it, or lets them wait for
    /// the container's name, with the deadline that they had.
    pub(super) fn path_arrived(&mut self, id: u64, cx: &mut Context<'_, Message>) {
        let Some((until, held)) = self.room.take(Missing::Path(id)) else { return };
        let container = self.cgroups.get(id).and_then(Answer::container);
        let container = container.and_then(|serial| Some((serial, self.containers.get(serial)?)));
        let Some((serial, known)) =
            container.filter(|(_, k)| !k.named() && k.naming == Naming::Awaited)
        else {
            return self.send(held, cx);
        };
        let attribution = match self.cgroups.get(id) {
            Some(Answer::Doubtful(_)) => Attribution::unknown(),
            _ => Attribution::container(known.snapshot.clone(), Evidence::Cgroup),
        };
        for mut held in held {
            held.batch.attribute(|_| attribution.clone());
            self.room.put(Missing::Name(serial), until, held);
        }
    }

    /// Releases the events whose hold is over.
    pub(super) fn release_due(&mut self, cx: &mut Context<'_, Message>) {
        while let Some(missing) = self.room.due(self.now()) {
            self.give_up(missing, cx);
        }
    }

    /// Releases the events that have waited longest while more than `max_held` wait.
    pub(super) fn release_beyond(&mut self, cx: &mut Context<'_, Message>) {
        while let Some(missing) = self.room.beyond(self.options.max_held as usize) {
            self.give_up(missing, cx);
        }
    }

    fn give_up(&mut self, missing: Missing, cx: &mut Context<'_, Message>) {
        match missing {
            Missing::Name(serial) => {
                if let Some(known) = self.containers.get_mut(serial) {
                    known.naming = Naming::Late;
                }
            }
            Missing::Path(id) => self.cgroups.silence(id, self.now()),
        }
        self.release(missing, cx);
    }

    /// Releases the events that wait for this fact.
    pub(super) fn release(&mut self, missing: Missing, cx: &mut Context<'_, Message>) {
        if let Some((_, held)) = self.room.take(missing) {
            self.send(held, cx);
        }
    }

    /// Releases everything that waits in a chain that ends.
    pub(super) fn release_chain(&mut self, chain: ChainId, cx: &mut Context<'_, Message>) {
        let held = self.room.take_chain(chain);
        self.send(held, cx);
        #[cfg(debug_assertions)]
        self.check_invariants_sometimes();
    }

    fn send(&mut self, held: Vec<Held>, cx: &mut Context<'_, Message>) {
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
