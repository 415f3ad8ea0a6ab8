//! The queues between parts, made before the parts that they join.

use std::sync::Arc;

use whalewatch_core::HandlerCounters;

use super::change::{Change, signature};
use super::{Live, LiveChain};
use crate::actors::ActorId;
use crate::actors::lane::{FeedSetup, LaneSetup};
use crate::actors::tracker::{Link, LinkId, TrackerCounters};
use crate::plan::Plan;

/// Everything that is to be joined.
pub(super) struct Wires {
    /// Each of the plan's trackers, those that run already among them.
    pub(super) trackers: Vec<TrackerEnd>,
    /// Handlers to be made.
    pub(super) stages: Vec<NewStage>,
    /// Handlers that run already, with their new ways in.
    pub(super) kept: Vec<(ActorId, Vec<LaneSetup>, Vec<FeedSetup>)>,
    pub(super) chains: Vec<LiveChain>,
    /// New feeds: from which tracker to which handler.
    pub(super) feeds: Vec<(ActorId, ActorId, LinkId)>,
}

/// A tracker's new ways out.
pub(super) struct TrackerEnd {
    pub(super) tracker: usize,
    pub(super) id: ActorId,
    pub(super) feeds: Vec<Link>,
    pub(super) chains: Vec<Link>,
    pub(super) counters: Arc<TrackerCounters>,
}

/// A handler to be made.
pub(super) struct NewStage {
    pub(super) handler: usize,
    pub(super) id: ActorId,
    pub(super) counters: Arc<HandlerCounters>,
    pub(super) lanes: Vec<LaneSetup>,
    pub(super) feeds: Vec<FeedSetup>,
}

impl Wires {
    pub(super) fn new(live: &mut Live, plan: &Plan, change: &Change) -> Self {
        let trackers = (0..plan.trackers.len()).map(|tracker| {
            let known = change.trackers[tracker];
            let running = known.and_then(|id| live.trackers.iter().find(|live| live.id == id));
            let counters = running.map(|running| Arc::clone(&running.counters)).unwrap_or_default();
            let id = known.unwrap_or_else(|| live.actor_id());
            TrackerEnd { tracker, id, feeds: Vec::new(), chains: Vec::new(), counters }
        });
        let trackers = trackers.collect();
        let kept = change.kept_stages.iter().map(|&id| (id, Vec::new(), Vec::new())).collect();
        let mut wires =
            Self { trackers, stages: Vec::new(), kept, chains: Vec::new(), feeds: Vec::new() };
        for &chain in &change.new_chains {
            wires.chain(live, plan, change, chain);
        }
        for (tracker, planned) in plan.trackers.iter().enumerate() {
            for &handler in &planned.needed_by {
                wires.feed(live, change, tracker, handler);
            }
        }
        wires
    }

    fn chain(&mut self, live: &mut Live, plan: &Plan, change: &Change, number: usize) {
        let (chain, id) = (&plan.chains[number], live.chain_id());
        let counters = chain.from.iter().map(|&t| Arc::clone(&self.trackers[t].counters));
        let counters: Vec<_> = counters.collect();
        let mut own = Vec::new();
        // From the end, so that each has its way out when it is made.
        let mut to = None;
        for &handler in chain.through.iter().rev() {
            let planned = &plan.handlers[handler];
            let (stage, stage_counters) = self.stage(live, change, plan, handler);
            if !planned.shared {
                own.push(stage);
            }
            let (inlet, from) = planned.queue.open(&stage_counters);
            live.counters().add_queue(stage, inlet.sender().downgrade());
            let lane = LaneSetup { chain: id, from, to, trackers: counters.clone() };
            self.add(stage, |lanes, _| lanes.push(lane));
            to = Some(inlet);
        }
        let Some(first) = to else { return };
        let mut links = Vec::new();
        for &tracker in &chain.from {
            let end = &mut self.trackers[tracker];
            let link = Link { id: live.link_id(), to: first.clone() };
            links.push((end.id, link.id));
            end.chains.push(link);
        }
        self.chains.push(LiveChain { signature: signature(plan, chain), links, own });
    }

    /// The actor for a handler in a chain: one that runs, one that another new chain has it in, or
    /// a new one.
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

    /// Feeds a handler wherever it stands, but for those that the tracker feeds already.
    fn feed(&mut self, live: &mut Live, change: &Change, tracker: usize, handler: usize) {
        let new = self.stages.iter().filter(|stage| stage.handler == handler);
        let mut hungry: Vec<_> = new.map(|stage| (stage.id, Arc::clone(&stage.counters))).collect();
        let from = self.trackers[tracker].id;
        if let Some(id) = change.stages[handler]
            && let Some(running) = live.stages.iter().find(|live| live.id == id)
            && !running.feeds.iter().any(|(tracker, _)| *tracker == from)
        {
            hungry.push((id, Arc::clone(&running.counters)));
        }
        for (stage, counters) in hungry {
            // A feed always waits: what a handler lives on is not to have gaps.
            let (to, receiver) = crate::queue::QueueOptions::default().open(&counters);
            let id = live.link_id();
            let end = &mut self.trackers[tracker];
            end.feeds.push(Link { id, to });
            let counters = Arc::clone(&end.counters);
            let feed = FeedSetup { from: receiver, link: id, counters };
            self.feeds.push((from, stage, id));
            self.add(stage, |_, feeds| feeds.push(feed));
        }
    }

    fn add(&mut self, stage: ActorId, add: impl FnOnce(&mut Vec<LaneSetup>, &mut Vec<FeedSetup>)) {
        if let Some(new) = self.stages.iter_mut().find(|new| new.id == stage) {
            add(&mut new.lanes, &mut new.feeds);
        } else if let Some((_, lanes, feeds)) = self.kept.iter_mut().find(|(id, ..)| *id == stage) {
            add(lanes, feeds);
        }
    }
}
