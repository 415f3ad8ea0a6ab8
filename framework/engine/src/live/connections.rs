//! The queues that join trackers and handlers, made before what they join.

use std::sync::Arc;

use whalewatch_core::HandlerCounters;

use super::change::{Change, signature};
use super::{Live, LiveChain};
use crate::actors::ActorId;
use crate::actors::lane::{NewFeed, NewLane};
use crate::actors::tracker::{NewOutput, OutputId, TrackerCounters};
use crate::plan::Plan;

/// The connections that a plan needs and that are not there yet.
pub(super) struct Connections {
    /// The new outputs of each of the plan's trackers, also of those that run already.
    pub(super) trackers: Vec<TrackerOutputs>,
    /// The handlers to be built.
    pub(super) stages: Vec<NewStage>,
    /// The handlers that run already, with their new lanes and feeds.
    pub(super) kept: Vec<(ActorId, Vec<NewLane>, Vec<NewFeed>)>,
    pub(super) chains: Vec<LiveChain>,
    /// The new feeds: the tracker, the handler, and the output that joins them.
    pub(super) feeds: Vec<(ActorId, ActorId, OutputId)>,
}

/// The new outputs of a tracker.
pub(super) struct TrackerOutputs {
    pub(super) tracker: usize,
    pub(super) id: ActorId,
    pub(super) feeds: Vec<NewOutput>,
    pub(super) chains: Vec<NewOutput>,
    pub(super) counters: Arc<TrackerCounters>,
}

/// A handler to be built.
pub(super) struct NewStage {
    pub(super) handler: usize,
    pub(super) id: ActorId,
    pub(super) counters: Arc<HandlerCounters>,
    pub(super) lanes: Vec<NewLane>,
    pub(super) feeds: Vec<NewFeed>,
}

impl Connections {
    pub(super) fn new(live: &mut Live, plan: &Plan, change: &Change) -> Self {
        let trackers = (0..plan.trackers.len()).map(|tracker| {
            let known = change.trackers[tracker];
            let running = known.and_then(|id| live.trackers.iter().find(|live| live.id == id));
            let counters = running.map(|running| Arc::clone(&running.counters)).unwrap_or_default();
            let id = known.unwrap_or_else(|| live.actor_id());
            TrackerOutputs { tracker, id, feeds: Vec::new(), chains: Vec::new(), counters }
        });
        let trackers = trackers.collect();
        let kept = change.kept_stages.iter().map(|&id| (id, Vec::new(), Vec::new())).collect();
        let mut connections =
            Self { trackers, stages: Vec::new(), kept, chains: Vec::new(), feeds: Vec::new() };
        for &chain in &change.new_chains {
            connections.chain(live, plan, change, chain);
        }
        for (tracker, planned) in plan.trackers.iter().enumerate() {
            for &handler in &planned.needed_by {
                connections.feed(live, change, tracker, handler);
            }
        }
        connections
    }

    fn chain(&mut self, live: &mut Live, plan: &Plan, change: &Change, number: usize) {
        let (chain, id) = (&plan.chains[number], live.chain_id());
        let counters = chain.from.iter().map(|&t| Arc::clone(&self.trackers[t].counters));
        let counters: Vec<_> = counters.collect();
        let mut own = Vec::new();
        // From the end, so that the queue that each handler sends to is there already.
        let mut to = None;
        for &handler in chain.through.iter().rev() {
            let planned = &plan.handlers[handler];
            let (stage, stage_counters) = self.stage(live, change, plan, handler);
            if !planned.shared {
                own.push(stage);
            }
            let (sender, from) = planned.queue.open(&stage_counters);
            live.counters().add_queue(stage, sender.sender().downgrade());
            let lane = NewLane { chain: id, from, to, trackers: counters.clone() };
            self.add(stage, |lanes, _| lanes.push(lane));
            to = Some(sender);
        }
        let Some(first) = to else { return };
        let mut inputs = Vec::new();
        for &tracker in &chain.from {
            let end = &mut self.trackers[tracker];
            let output = NewOutput { id: live.output_id(), to: first.clone() };
            inputs.push((end.id, output.id));
            end.chains.push(output);
        }
        self.chains.push(LiveChain { signature: signature(plan, chain), inputs, own });
    }

    /// The stage of a handler in a chain: one that runs, one that another new chain shares, or a
    /// new one.
    fn stage(
        &mut self,
        live: &mut Live,
        change: &Change,
        plan: &Plan,
        handler: usize,
    ) -> (ActorId, Arc<HandlerCounters>) {
        if let Some(id) = change.stages[handler]
            && let Some(running) = live.stages.iter().find(|live| live.id == id)
        {
            return (id, Arc::clone(&running.counters));
        }
        let shared = plan.handlers[handler].shared;
        if let Some(stage) = self.stages.iter().find(|stage| shared && stage.handler == handler) {
            return (stage.id, Arc::clone(&stage.counters));
        }
        let (id, counters) = (live.actor_id(), Arc::<HandlerCounters>::default());
        let (lanes, feeds) = (Vec::new(), Vec::new());
        let new = NewStage { handler, id, counters: Arc::clone(&counters), lanes, feeds };
        self.stages.push(new);
        (id, counters)
    }

    /// Feeds every stage of a handler that the tracker does not feed yet.
    fn feed(&mut self, live: &mut Live, change: &Change, tracker: usize, handler: usize) {
        let new = self.stages.iter().filter(|stage| stage.handler == handler);
        let mut unfed: Vec<_> = new.map(|stage| (stage.id, Arc::clone(&stage.counters))).collect();
        let from = self.trackers[tracker].id;
        if let Some(id) = change.stages[handler]
            && let Some(running) = live.stages.iter().find(|live| live.id == id)
            && !running.feeds.iter().any(|(tracker, _)| *tracker == from)
        {
            unfed.push((id, Arc::clone(&running.counters)));
        }
        for (stage, counters) in unfed {
            // A feed always waits: what a handler observes must have no gaps.
            let (to, receiver) = crate::queue::QueueOptions::default().open(&counters);
            let id = live.output_id();
            let end = &mut self.trackers[tracker];
            end.feeds.push(NewOutput { id, to });
            let counters = Arc::clone(&end.counters);
            let feed = NewFeed { from: receiver, id, counters };
            self.feeds.push((from, stage, id));
            self.add(stage, |_, feeds| feeds.push(feed));
        }
    }

    fn add(&mut self, stage: ActorId, add: impl FnOnce(&mut Vec<NewLane>, &mut Vec<NewFeed>)) {
        if let Some(new) = self.stages.iter_mut().find(|new| new.id == stage) {
            add(&mut new.lanes, &mut new.feeds);
        } else if let Some((_, lanes, feeds)) = self.kept.iter_mut().find(|(id, ..)| *id == stage) {
            add(lanes, feeds);
        }
    }
}
