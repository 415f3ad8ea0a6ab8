//! What a handler can do while it is called.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::Never;
use crate::batch::Batch;
use crate::stats::{ContainerCounts, HandlerCounters, Owner};

/// Identifies one of the chains that a handler is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(u32);

impl ChainId {
    /// The chain with this number. For hosts of handlers, which number the chains of a run.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The chain's number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// What a handler can do in a call that concerns no chain: pass events on to chains by name, count,
/// set timers.
///
/// A context only collects; the host acts on it when the call returns. So a handler can be tested
/// with a context and nothing else.
pub struct Context<'a, M = Never> {
    counters: &'a HandlerCounters,
    outgoing: &'a mut Vec<(ChainId, Batch)>,
    timers: &'a mut Vec<(Duration, M)>,
    behind: bool,
}

impl<'a, M> Context<'a, M> {
    /// A context for one call. For hosts of handlers.
    pub fn new(
        counters: &'a HandlerCounters,
        outgoing: &'a mut Vec<(ChainId, Batch)>,
        timers: &'a mut Vec<(Duration, M)>,
    ) -> Self {
        Self { counters, outgoing, timers, behind: false }
    }

    /// Sets whether events are waiting to reach the handler. For hosts of handlers.
    #[must_use]
    pub fn with_behind(mut self, behind: bool) -> Self {
        self.behind = behind;
        self
    }

    /// Whether events that happened a while ago may still be on their way to this handler: a slow
    /// reader further down blocks a chain, or a tracker has not caught up. A handler that keeps
    /// state for late events keeps it while this is true.
    pub fn behind(&self) -> bool {
        self.behind
    }

    /// Passes a batch on along `chain`. An empty batch goes nowhere.
    pub fn emit_to(&mut self, chain: ChainId, batch: Batch) {
        if !batch.is_empty() {
            self.outgoing.push((chain, batch));
        }
    }

    /// Sends events that the handler made itself down `chain`, and counts them as added.
    pub fn add_to(&mut self, chain: ChainId, batch: Batch) {
        HandlerCounters::add(&self.counters.added, batch.len() as u64);
        self.emit_to(chain, batch);
    }

    /// Counts events that were left out as requested.
    pub fn filtered(&self, count: u64) {
        HandlerCounters::add(&self.counters.filtered, count);
    }

    /// Counts events that were refused because there was no room.
    pub fn dropped(&self, count: u64) {
        HandlerCounters::add(&self.counters.dropped, count);
    }

    /// As [`Context::dropped`], for all events of a batch, also by container.
    pub fn dropped_batch(&self, batch: &Batch) {
        self.counters.drop_batch(batch);
    }

    /// Counts events that this handler, at the end of its chain, has delivered.
    pub fn delivered(&self, count: u64) {
        HandlerCounters::add(&self.counters.output, count);
    }

    /// Replaces what this handler has counted by owner.
    pub fn count_containers(&self, counts: BTreeMap<Owner, ContainerCounts>) {
        self.counters.set_containers(counts);
    }

    /// Delivers `message` to the handler after `delay`.
    pub fn after(&mut self, delay: Duration, message: M) {
        self.timers.push((delay, message));
    }
}

/// What a handler can do in a call that concerns one chain: all that a [`Context`] can, and pass
/// events on along that chain.
pub struct ChainContext<'a, M = Never> {
    chain: ChainId,
    context: Context<'a, M>,
}

impl<'a, M> ChainContext<'a, M> {
    /// A context for one call that concerns `chain`. For hosts of handlers.
    pub fn new(chain: ChainId, context: Context<'a, M>) -> Self {
        Self { chain, context }
    }

    /// The chain that the call concerns.
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// Passes a batch on along the chain. An empty batch goes nowhere.
    pub fn emit(&mut self, batch: Batch) {
        self.context.emit_to(self.chain, batch);
    }

    /// Sends events that the handler made itself down the chain, and counts them as added.
    pub fn add(&mut self, batch: Batch) {
        self.context.add_to(self.chain, batch);
    }
}

impl<'a, M> Deref for ChainContext<'a, M> {
    type Target = Context<'a, M>;

    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

impl<M> DerefMut for ChainContext<'_, M> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.context
    }
}
