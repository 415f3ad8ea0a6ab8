//! The handlers of a replay, joined as the plan's chains say.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use whalewatch_core::{Batch, ChainId, Directory, Failure, HandlerCounters, Outside, SourceCounts};

use super::offline::{OfflineHandler, OfflineSetup};
use super::{Collector, ReplayError, Replayed};
use crate::actors::ActorId;
use crate::actors::tracker::TrackerCounters;
use crate::plan::Plan;
use crate::recording::{Answers, Item, Reader, What};
use crate::stats::Counters;

/// Why a replay stops early.
pub(super) enum Stopped {
    Closed,
    Error(ReplayError),
}

impl From<ReplayError> for Stopped {
    fn from(error: ReplayError) -> Self {
        Self::Error(error)
    }
}

/// One handler of the plan, or the place of an output that the collector replaces.
struct Node {
    name: Arc<str>,
    /// The index of the handler in the plan.
    planned: usize,
    /// `None` where the collector takes the batches.
    handler: Option<Box<dyn OfflineHandler>>,
}

/// The handlers of a replay, joined as the plan's chains say.
pub(super) struct Chains<'p, 'c> {
    plan: &'p Plan,
    nodes: Vec<Node>,
    /// For each chain, the nodes that it goes through.
    routes: Vec<Vec<usize>>,
    clock: Arc<AtomicU64>,
    counters: Counters,
    /// For each of the plan's trackers, its counters and the events that it has sent.
    trackers: Vec<(Arc<TrackerCounters>, u64)>,
    left_out: HashMap<String, u64>,
    collector: Option<&'c mut Collector<'c>>,
}

impl<'p, 'c> Chains<'p, 'c> {
    pub(super) fn new(
        plan: &'p Plan,
        reader: &Reader,
        mut answers: Answers,
        clock: Arc<AtomicU64>,
        collector: Option<&'c mut Collector<'_>>,
    ) -> Result<Self, ReplayError> {
        // The collector outlives the chains that borrow it.
        let collector = collector.map(|collector| -> &'c mut Collector<'c> { collector });
        let mut chains = Self {
            plan,
            nodes: Vec::new(),
            routes: Vec::new(),
            clock,
            counters: Counters::default(),
            trackers: plan.trackers.iter().map(|_| Default::default()).collect(),
            left_out: HashMap::new(),
            collector,
        };
        let host_name: Arc<str> = reader.host().into();
        let directory = Directory::default();
        for (number, chain) in (0..).zip(&plan.chains) {
            let mut through = Vec::new();
            for (step, &planned) in chain.through.iter().enumerate() {
                let last = step + 1 == chain.through.len();
                let shared = plan.handlers[planned].shared;
                let known = |node: &Node| shared && node.planned == planned;
                if let Some(known) = chains.nodes.iter().position(known) {
                    through.push(known);
                    continue;
                }
                let answers = answers.remove(&plan.handlers[planned].name).unwrap_or_default();
                let setup = OfflineSetup {
                    name: plan.handlers[planned].name.as_str().into(),
                    host_name: Arc::clone(&host_name),
                    directory: directory.clone(),
                    outside: Outside::replay(answers, Arc::clone(&chains.clock)),
                    chains: chains_of(plan, planned, number),
                    counters: Arc::default(),
                };
                through.push(chains.add_node(planned, setup, last)?);
            }
            chains.routes.push(through);
        }
        for (number, (planned, (counters, _))) in
            plan.trackers.iter().zip(&chains.trackers).enumerate()
        {
            let id = ActorId((chains.nodes.len() + number) as u64);
            chains.counters.add_tracker(id, planned.name.as_str().into(), Arc::clone(counters));
        }
        Ok(chains)
    }

    /// Builds a handler of the plan, unless the collector replaces it. Returns the node's index.
    fn add_node(
        &mut self,
        planned: usize,
        setup: OfflineSetup,
        last: bool,
    ) -> Result<usize, ReplayError> {
        let index = self.nodes.len();
        let (name, counters) = (Arc::clone(&setup.name), Arc::clone(&setup.counters));
        self.counters.add_handler(ActorId(index as u64), Arc::clone(&name), counters);
        let collected = last && self.collector.is_some();
        let build = || self.plan.handlers[planned].handler.build_offline(setup);
        let handler = (!collected).then(build).transpose();
        let handler =
            handler.map_err(|message| ReplayError::Build { name: name.to_string(), message })?;
        self.nodes.push(Node { name, planned, handler });
        Ok(index)
    }

    /// Calls a handler, and brings what it emits to the next handlers.
    fn call(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut dyn OfflineHandler) -> Result<(), Failure>,
    ) -> Result<(), Stopped> {
        let Some(handler) = &mut self.nodes[index].handler else { return Ok(()) };
        let result = call(&mut **handler);
        let outgoing = handler.take_outgoing();
        for (chain, batch) in outgoing {
            let count = batch.len() as u64;
            let through = self.routes.get(chain.number() as usize);
            let next = through.and_then(|through| {
                let step = through.iter().position(|&other| other == index)?;
                through.get(step + 1).copied()
            });
            if let Some(handler) = &self.nodes[index].handler {
                let (counters, taken) = (handler.counters(), next.is_some() || handler.passes_on());
                let counter = if taken { &counters.output } else { &counters.dropped };
                HandlerCounters::add(counter, count);
            }
            if let Some(next) = next {
                self.bring(chain, next, batch)?;
            }
        }
        result.map_err(|failure| {
            if failure.is_closed() {
                return Stopped::Closed;
            }
            let name = self.nodes[index].name.to_string();
            ReplayError::Failed { name, message: failure.to_string() }.into()
        })
    }

    fn bring(&mut self, chain: ChainId, index: usize, batch: Batch) -> Result<(), Stopped> {
        if self.nodes[index].handler.is_some() {
            return self.call(index, |handler| handler.handle(chain, batch));
        }
        let name = &self.plan.chains[chain.number() as usize].name;
        if let Some(collector) = &mut self.collector {
            collector(name, &batch);
        }
        Ok(())
    }

    /// Takes the next item of the recording, after all timers that are due before it.
    pub(super) fn take(&mut self, item: Item) -> Result<(), Stopped> {
        self.advance(item.at.0)?;
        match item.what {
            // Answers were read before anything else.
            What::Answer => {}
            What::Heard { handler, text } => {
                let named = |node: &Node| *node.name == *handler;
                if let Some(index) = self.nodes.iter().position(named) {
                    let mut known = true;
                    self.call(index, |handler| {
                        handler.recall(&text).map(|recalled| known = recalled)
                    })?;
                    if !known {
                        tracing::warn!(
                            handler,
                            "the recording has a message that this handler does not know"
                        );
                    }
                }
            }
            What::Batch { tracker, type_name, existing, batch } => {
                self.take_batch(&tracker, &type_name, existing, &batch)?;
            }
        }
        self.deliver_messages()
    }

    fn take_batch(
        &mut self,
        tracker: &str,
        type_name: &str,
        existing: bool,
        batch: &Batch,
    ) -> Result<(), Stopped> {
        let Some(number) = self.tracker(tracker, type_name) else {
            *self.left_out.entry(tracker.to_owned()).or_default() += batch.len() as u64;
            return Ok(());
        };
        let planned = &self.plan.trackers[number];
        for &handler in &planned.needed_by {
            let fed = self.nodes.iter().enumerate().filter(|(_, node)| node.planned == handler);
            for index in fed.map(|(index, _)| index).collect::<Vec<_>>() {
                self.call(index, |handler| handler.observe(batch))?;
            }
        }
        if existing {
            return Ok(());
        }
        self.trackers[number].1 += batch.len() as u64;
        for (chain, planned) in (0..).zip(&self.plan.chains) {
            if planned.from.contains(&number) {
                let first = self.routes[chain as usize][0];
                self.bring(ChainId::new(chain), first, batch.clone())?;
            }
        }
        Ok(())
    }

    /// The plan's tracker for a recorded one: that with its name and type, or else the first of its
    /// type.
    fn tracker(&self, name: &str, type_name: &str) -> Option<usize> {
        let trackers = &self.plan.trackers;
        let same = |both: bool| {
            trackers.iter().position(|t| t.type_name == type_name && (!both || t.name == name))
        };
        same(true).or_else(|| same(false))
    }

    /// Moves the clock on, and fires the timers that are due by then.
    fn advance(&mut self, to: u64) -> Result<(), Stopped> {
        loop {
            let due = |(index, node): (usize, &Node)| Some((node.handler.as_ref()?.due()?, index));
            let next = self.nodes.iter().enumerate().filter_map(due).min();
            let Some((due, index)) = next.filter(|(due, _)| *due <= to) else { break };
            self.clock.fetch_max(due, Relaxed);
            self.call(index, |handler| handler.fire())?;
        }
        self.clock.fetch_max(to, Relaxed);
        Ok(())
    }

    /// Delivers what the handlers' own helper threads have sent.
    pub(super) fn deliver_messages(&mut self) -> Result<(), Stopped> {
        for index in 0..self.nodes.len() {
            self.call(index, |handler| handler.deliver_messages())?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        self.each(|handler, chain| handler.flush(chain))
    }

    pub(super) fn end(&mut self) -> Result<(), Stopped> {
        self.each(|handler, chain| handler.end(chain).and_then(|()| handler.flush(chain)))?;
        self.deliver_messages()?;
        for index in 0..self.nodes.len() {
            self.call(index, |handler| handler.finish())?;
        }
        Ok(())
    }

    /// Calls every handler for each chain that it is in, from the start of the chain to its end.
    fn each(
        &mut self,
        call: impl Fn(&mut dyn OfflineHandler, ChainId) -> Result<(), Failure>,
    ) -> Result<(), Stopped> {
        for (chain, through) in (0..).zip(self.routes.clone()) {
            for index in through {
                self.call(index, |handler| call(handler, ChainId::new(chain)))?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Replayed {
        for (counters, events) in &self.trackers {
            let counts = SourceCounts { generated: *events, ..SourceCounts::default() };
            counters.write(counts, *events);
        }
        Replayed { totals: self.counters.totals(), left_out: self.left_out }
    }
}

/// The chains that a handler is in: all that name a shared one, else the chain `number` alone.
fn chains_of(plan: &Plan, handler: usize, number: u32) -> Vec<ChainId> {
    if !plan.handlers[handler].shared {
        return vec![ChainId::new(number)];
    }
    let numbered = (0..).zip(&plan.chains);
    let through = numbered.filter(|(_, chain)| chain.through.contains(&handler));
    through.map(|(number, _)| ChainId::new(number)).collect()
}
