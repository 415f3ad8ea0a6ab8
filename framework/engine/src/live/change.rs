//! The difference between a plan and what runs.

use std::collections::{BTreeSet, HashSet};

use super::Live;
use crate::actors::ActorId;
use crate::actors::tracker::OutputId;
use crate::plan::{Plan, PlannedChain};

/// Which parts go on, and which are new.
pub(super) struct Change {
    pub(super) kept_trackers: HashSet<ActorId>,
    /// For each of the plan's trackers, the running one with the same identity.
    pub(super) trackers: Vec<Option<ActorId>>,
    /// The plan's trackers that must be opened.
    pub(super) new_trackers: Vec<usize>,
    /// The shared handlers that go on.
    pub(super) kept_stages: HashSet<ActorId>,
    /// For each of the plan's handlers, the running one with the same identity; shared ones only.
    pub(super) stages: Vec<Option<ActorId>>,
    /// The signatures of the chains that go on.
    pub(super) kept_chains: HashSet<Vec<String>>,
    /// The plan's chains that must be built.
    pub(super) new_chains: Vec<usize>,
}

impl Change {
    pub(super) fn new(live: &Live, plan: &Plan) -> Self {
        let tracker = |identity: String| {
            live.trackers.iter().find(|live| live.identity == identity).map(|live| live.id)
        };
        let trackers: Vec<_> = plan.trackers.iter().map(|t| tracker(t.identity())).collect();
        let stage = |identity: String| {
            let same = |shared: &Option<String>| shared.as_ref() == Some(&identity);
            live.stages.iter().find(|live| same(&live.shared)).map(|live| live.id)
        };
        let handlers = plan.handlers.iter();
        let stages: Vec<_> =
            handlers.map(|h| h.shared.then(|| stage(h.identity())).flatten()).collect();
        let (mut kept_chains, mut new_chains) = (HashSet::new(), Vec::new());
        for (number, chain) in plan.chains.iter().enumerate() {
            let signature = signature(plan, chain);
            // A tracker that has ended by itself is opened again, and its chains with it.
            let whole = sources(plan, chain).all(|tracker| trackers[tracker].is_some());
            if whole && live.chains.iter().any(|live| live.signature == signature) {
                kept_chains.insert(signature);
            } else {
                new_chains.push(number);
            }
        }
        let unknown = trackers.iter().enumerate().filter(|(_, known)| known.is_none());
        Self {
            kept_trackers: trackers.iter().flatten().copied().collect(),
            new_trackers: unknown.map(|(tracker, _)| tracker).collect(),
            kept_stages: stages.iter().flatten().copied().collect(),
            trackers,
            stages,
            kept_chains,
            new_chains,
        }
    }

    /// The plan's handlers that must be built.
    pub(super) fn new_handlers(&self, plan: &Plan) -> BTreeSet<usize> {
        let chains = self.new_chains.iter().map(|&chain| &plan.chains[chain]);
        let used = chains.flat_map(|chain| chain.through.iter().copied());
        used.filter(|&handler| self.stages[handler].is_none()).collect()
    }

    /// The handlers that end.
    pub(super) fn ending_stages(&self, live: &Live) -> HashSet<ActorId> {
        let gone = live.chains.iter().filter(|chain| !self.kept_chains.contains(&chain.signature));
        let own = gone.flat_map(|chain| chain.own.iter().copied());
        let shared = live.stages.iter().filter(|stage| stage.shared.is_some());
        let shared = shared.map(|stage| stage.id).filter(|id| !self.kept_stages.contains(id));
        own.chain(shared).collect()
    }

    /// The outputs of a tracker that lead to parts that end.
    pub(super) fn outputs_to_remove(&self, live: &Live, tracker: ActorId) -> Vec<OutputId> {
        let ending = self.ending_stages(live);
        let gone = live.chains.iter().filter(|chain| !self.kept_chains.contains(&chain.signature));
        let chains = gone.flat_map(|chain| &chain.inputs);
        let stages = live.stages.iter().filter(|stage| ending.contains(&stage.id));
        let feeds = stages.flat_map(|stage| &stage.feeds);
        let of = chains.chain(feeds).filter(|(from, _)| *from == tracker);
        of.map(|(_, output)| *output).collect()
    }

    /// Whether the change concerns a tracker that goes on.
    pub(super) fn concerns(&self, live: &Live, tracker: ActorId) -> bool {
        // Any new part may use the tracker. What happens meanwhile waits in its source.
        !self.outputs_to_remove(live, tracker).is_empty() || !self.new_chains.is_empty()
    }
}

/// The trackers that a chain's events come from, and those that feed the handlers that are in this
/// chain only.
fn sources<'a>(plan: &'a Plan, chain: &'a PlannedChain) -> impl Iterator<Item = usize> + 'a {
    let own = |handler: &usize| !plan.handlers[*handler].shared && chain.through.contains(handler);
    let fed = plan.trackers.iter().enumerate().filter(move |(_, t)| t.needed_by.iter().any(own));
    chain.from.iter().copied().chain(fed.map(|(tracker, _)| tracker))
}

/// The chain's name and the identities of all its parts.
pub(super) fn signature(plan: &Plan, chain: &PlannedChain) -> Vec<String> {
    let from = sources(plan, chain).map(|tracker| plan.trackers[tracker].identity());
    let through = chain.through.iter().map(|&handler| plan.handlers[handler].identity());
    std::iter::once(chain.name.clone()).chain(from).chain(through).collect()
}
