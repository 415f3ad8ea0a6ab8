//! What runs, and how a reload turns it into what a new plan asks for. The start is a reload from
//! nothing.
//!
//! Parts of the old and the new plan are matched by *identity*: name, type and options. A tracker
//! with the same identity stays attached. A chain of which every part is the same goes on
//! untouched. A shared handler with the same identity goes on and joins other chains. Every other
//! part ends first and is then built again, while the trackers that go on leave their events in
//! their sources. So no event is lost, and whatever only one part can hold (a file, a port) is free
//! for the next.
//!
//! ```text
//!             apply(plan)
//!                  │
//!   compare plan with what runs ── start early work ── open new trackers ─fails─► nothing changed
//!                  │
//!        expect: kept stages outlive their last lane ─a stage does not answer─► nothing changed
//!                  │
//!        release: kept trackers pause, the other trackers and stages end
//!                  │
//!        build: new stages start, kept stages and trackers join them ──fails──► the old plan is
//!                  │                                                            built again
//!                runs
//! ```
//!
//! An actor's own states: a **tracker** drains its source, waits for its timer, is paused by a
//! reload, or is stopping and drains what is left. A **stage** runs until its last lane
//! has ended, unless a reload has announced more lanes.

mod change;
mod connections;
mod opening;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Arbiter, Recipient};
use tokio::time::{Instant, timeout_at};
use whalewatch_core::{ChainId, Directory, EarlyWork, HandlerCounters, Health};

use crate::actors::lane::StageCommand;
use crate::actors::stage::StageSetup;
use crate::actors::tracker::{OutputId, Rewiring, TrackerCommand, TrackerCounters, TrackerSetup};
use crate::actors::{ActorId, Report};
use crate::plan::Plan;
use crate::recording::Recorder;
use crate::registry::OpenTracker;
use crate::stats::Counters;
use crate::system::RunError;
use change::Change;
use connections::{Connections, NewStage, TrackerOutputs};
use opening::{open, start_early_work, start_early_work_of};

/// How long ending parts may take to deliver what they hold, before others take their places
/// anyway.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A tracker that runs.
pub(crate) struct LiveTracker {
    id: ActorId,
    identity: String,
    commands: Recipient<TrackerCommand>,
    counters: Arc<TrackerCounters>,
}

/// A handler that runs.
pub(crate) struct LiveStage {
    id: ActorId,
    name: Arc<str>,
    /// The identity of a shared handler. `None` if the handler is in one chain only, and ends with
    /// it.
    shared: Option<String>,
    commands: Recipient<StageCommand>,
    counters: Arc<HandlerCounters>,
    /// Kept in case a failed reload has to build the handler again.
    early_work: EarlyWork,
    /// The thread of a blocking handler.
    thread: Option<Arbiter>,
    /// The trackers that feed it, with the output that does.
    feeds: Vec<(ActorId, OutputId)>,
}

/// A chain that runs.
pub(crate) struct LiveChain {
    /// The chain's name and the identities of all its parts.
    signature: Vec<String>,
    /// The trackers that its events come from, with the output that leads here.
    inputs: Vec<(ActorId, OutputId)>,
    /// The handlers that are in no other chain.
    own: Vec<ActorId>,
}

/// Everything that runs.
pub(crate) struct Live {
    host_name: Arc<str>,
    recorder: Option<Recorder>,
    directory: Directory,
    counters: Arc<Mutex<Counters>>,
    reports: flume::Receiver<Report>,
    reports_to: flume::Sender<Report>,
    /// Reports that arrived while the reload waited for others.
    deferred: VecDeque<Report>,
    plan: Option<Arc<Plan>>,
    trackers: Vec<LiveTracker>,
    stages: Vec<LiveStage>,
    chains: Vec<LiveChain>,
    alive: HashSet<ActorId>,
    /// The last number given to an actor or an output.
    number: u64,
    next_chain: u32,
}

impl Live {
    pub(crate) fn new(host_name: Arc<str>, recorder: Option<Recorder>) -> Self {
        let (reports_to, reports) = flume::unbounded();
        Self {
            host_name,
            recorder,
            directory: Directory::default(),
            counters: Arc::default(),
            reports,
            reports_to,
            deferred: VecDeque::new(),
            plan: None,
            trackers: Vec::new(),
            stages: Vec::new(),
            chains: Vec::new(),
            alive: HashSet::new(),
            number: 0,
            next_chain: 0,
        }
    }

    pub(crate) fn counters(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything still runs.
    pub(crate) fn runs(&self) -> bool {
        !self.alive.is_empty()
    }

    /// Stops every tracker. What has happened before still goes through the chains.
    pub(crate) fn stop(&self) {
        for tracker in &self.trackers {
            tracker.commands.do_send(TrackerCommand::Stop);
        }
    }

    /// Waits for the next report of an actor.
    pub(crate) async fn report(&mut self) -> Report {
        let report = match self.deferred.pop_front() {
            Some(report) => report,
            None => self.reports.recv_async().await.expect("a sending end is held here"),
        };
        self.take_note(&report);
        report
    }

    /// Forgets an actor that has ended; what it counted is kept.
    fn take_note(&mut self, report: &Report) {
        let Report::Ended { id } = report else { return };
        self.alive.remove(id);
        self.trackers.retain(|tracker| tracker.id != *id);
        for stage in self.stages.extract_if(.., |stage| stage.id == *id) {
            if let Some(thread) = stage.thread {
                thread.stop();
            }
        }
        self.counters().retire(*id);
    }

    /// Turns what runs into what `plan` asks for.
    ///
    /// # Errors
    /// If a part cannot be opened or built. What ran before then runs again; if even that fails,
    /// the error is [`Failed`](RunError::Failed).
    pub(crate) async fn apply(&mut self, plan: Arc<Plan>) -> Result<(), RunError> {
        let change = Change::new(self, &plan);
        let early_work = start_early_work(&plan, &change, &BTreeMap::new())?;
        // What runs goes on until all new programs are in the kernel.
        let opened = open(&plan, &change.new_trackers, &self.directory).await?;
        self.expect_lanes(&change).await?;
        let kept_work = self.early_work();
        self.release(&change).await;
        let error = match self.build(&plan, &change, early_work, opened).await {
            Ok(()) => {
                self.plan = Some(plan);
                return Ok(());
            }
            Err(error) => error,
        };
        let Some(before) = self.plan.clone() else { return Err(error) };
        let change = Change::new(self, &before);
        // Nothing new was joined, so what goes on still waits.
        match self.restore(&before, &change, &kept_work).await {
            Ok(()) => Err(error),
            Err(again) => Err(RunError::Failed {
                name: String::from("reload"),
                message: format!(
                    "{error}; and restoring the previous configuration failed: {again}"
                ),
                totals: Box::new(self.counters().totals()),
            }),
        }
    }

    /// Builds the previous plan again, after a part of the new one could not be built.
    async fn restore(
        &mut self,
        before: &Arc<Plan>,
        change: &Change,
        kept_work: &BTreeMap<String, EarlyWork>,
    ) -> Result<(), RunError> {
        let early_work = start_early_work(before, change, kept_work)?;
        let opened = open(before, &change.new_trackers, &self.directory).await?;
        self.build(before, change, early_work, opened).await
    }

    /// The early work of the shared handlers, by identity.
    fn early_work(&self) -> BTreeMap<String, EarlyWork> {
        let shared = self.stages.iter().filter_map(|stage| Some((stage.shared.clone()?, stage)));
        shared.map(|(identity, stage)| (identity, stage.early_work.clone())).collect()
    }

    /// Tells the stages that go on to outlive their last lane. Each must have heard that before the
    /// first chain ends. If one does not answer, because its reader blocks it, nothing is changed.
    async fn expect_lanes(&mut self, change: &Change) -> Result<(), RunError> {
        let deadline = Instant::now() + END_TIMEOUT;
        let kept = || self.stages.iter().filter(|stage| change.kept_stages.contains(&stage.id));
        for stage in kept() {
            // A stage that has ended by itself meanwhile need not hear it.
            let told = stage.commands.send(StageCommand::ExpectLanes);
            if timeout_at(deadline, told).await.is_ok() {
                continue;
            }
            for stage in kept() {
                let (lanes, feeds) = (Vec::new(), Vec::new());
                stage.commands.do_send(StageCommand::Join { lanes, feeds });
            }
            return Err(RunError::Build {
                name: stage.name.to_string(),
                message: format!("its reader blocks it: no answer within {END_TIMEOUT:?}"),
            });
        }
        Ok(())
    }

    /// Ends the parts that the plan no longer asks for.
    async fn release(&mut self, change: &Change) {
        let mut ending = change.ending_stages(self);
        for tracker in &self.trackers {
            if !change.kept_trackers.contains(&tracker.id) {
                ending.insert(tracker.id);
                tracker.commands.do_send(TrackerCommand::Stop);
            } else if change.concerns(self, tracker.id) {
                let remove = change.outputs_to_remove(self, tracker.id);
                let rewiring = Rewiring { remove, pause: true, ..Rewiring::default() };
                tracker.commands.do_send(TrackerCommand::Rewire(rewiring));
            }
        }
        self.chains.retain(|chain| change.kept_chains.contains(&chain.signature));
        self.await_end(ending).await;
    }

    /// Waits until these actors have ended, but not for ever: one may wait for a reader that never
    /// comes.
    async fn await_end(&mut self, mut ending: HashSet<ActorId>) {
        let deadline = Instant::now() + END_TIMEOUT;
        ending.retain(|id| self.alive.contains(id));
        while !ending.is_empty() {
            let Ok(Ok(report)) = timeout_at(deadline, self.reports.recv_async()).await else {
                tracing::warn!(
                    parts = ending.len(),
                    "parts of the old configuration have not ended yet: the new ones start anyway"
                );
                return;
            };
            self.take_note(&report);
            match report {
                Report::Ended { id } => drop(ending.remove(&id)),
                report => self.deferred.push_back(report),
            }
        }
    }

    /// Builds the parts that are not there yet, and joins them to those that are.
    async fn build(
        &mut self,
        plan: &Plan,
        change: &Change,
        early_work: BTreeMap<usize, EarlyWork>,
        opened: Vec<Box<dyn OpenTracker>>,
    ) -> Result<(), RunError> {
        let mut connections = Connections::new(self, plan, change);
        let new = self.start_stages(plan, std::mem::take(&mut connections.stages), &early_work)?;
        if let Err(error) = self.await_built(new.clone()).await {
            // Without anybody who sends to them, the stages that could be built end.
            drop(connections);
            self.await_end(new).await;
            return Err(error);
        }
        for (stage, lanes, feeds) in connections.kept {
            if let Some(stage) = self.stages.iter_mut().find(|live| live.id == stage) {
                stage.commands.do_send(StageCommand::Join { lanes, feeds });
            }
        }
        self.chains.extend(connections.chains);
        for (tracker, stage, output) in connections.feeds {
            if let Some(stage) = self.stages.iter_mut().find(|live| live.id == stage) {
                stage.feeds.push((tracker, output));
            }
        }
        let starting = self.connect_trackers(plan, connections.trackers, opened);
        self.introduce_trackers();
        self.await_built(starting).await
    }

    /// Starts new stages. Returns their ids.
    fn start_stages(
        &mut self,
        plan: &Plan,
        stages: Vec<NewStage>,
        early_work: &BTreeMap<usize, EarlyWork>,
    ) -> Result<HashSet<ActorId>, RunError> {
        // A shared handler that was to go on may have ended by itself meanwhile: its early work
        // starts again.
        let with_work = |stage: NewStage| {
            let known = early_work.get(&stage.handler).cloned();
            let work = known.map_or_else(|| start_early_work_of(plan, stage.handler), Ok)?;
            Ok((stage, work))
        };
        let stages = stages.into_iter().map(with_work).collect::<Result<Vec<_>, RunError>>()?;
        let ids = stages.iter().map(|(stage, _)| stage.id).collect();
        for (stage, work) in stages {
            self.start_stage(plan, stage, work);
        }
        Ok(ids)
    }

    /// Gives the trackers their new outputs, and starts the trackers that have just been opened.
    /// Returns the ids of these.
    fn connect_trackers(
        &mut self,
        plan: &Plan,
        trackers: Vec<TrackerOutputs>,
        opened: Vec<Box<dyn OpenTracker>>,
    ) -> HashSet<ActorId> {
        let mut starting = HashSet::new();
        let mut opened = opened.into_iter();
        for TrackerOutputs { tracker, id, feeds, chains, counters } in trackers {
            if let Some(live) = self.trackers.iter().find(|live| live.id == id) {
                let rewiring = Rewiring { feeds, chains, ..Rewiring::default() };
                live.commands.do_send(TrackerCommand::Rewire(rewiring));
                continue;
            }
            let Some(opened) = opened.next() else { continue };
            let planned = &plan.trackers[tracker];
            let name: Arc<str> = planned.name.as_str().into();
            self.counters().add_tracker(id, Arc::clone(&name), Arc::clone(&counters));
            self.alive.insert(id);
            starting.insert(id);
            let commands = opened.start(TrackerSetup {
                id,
                recorder: self.recorder.as_ref().map(|all| all.part(&name, &planned.type_name)),
                name,
                feeds,
                chains,
                counters: Arc::clone(&counters),
                reports: self.reports_to.clone(),
            });
            let identity = planned.identity();
            self.trackers.push(LiveTracker { id, identity, commands, counters });
        }
        starting
    }

    /// Tells every stage which trackers feed it.
    fn introduce_trackers(&self) {
        for stage in &self.stages {
            for &(tracker, feed) in &stage.feeds {
                if let Some(tracker) = self.trackers.iter().find(|live| live.id == tracker) {
                    let tracker = tracker.commands.clone();
                    stage.commands.do_send(StageCommand::Introduce { feed, tracker });
                }
            }
        }
    }

    fn start_stage(&mut self, plan: &Plan, stage: NewStage, early_work: EarlyWork) {
        let planned = &plan.handlers[stage.handler];
        let name: Arc<str> = planned.name.as_str().into();
        self.counters().add_handler(stage.id, Arc::clone(&name), Arc::clone(&stage.counters));
        let counters = Arc::clone(&self.counters);
        let setup = StageSetup {
            id: stage.id,
            name: Arc::clone(&name),
            host_name: Arc::clone(&self.host_name),
            directory: self.directory.clone(),
            health: Health::new(move || {
                counters.lock().unwrap_or_else(PoisonError::into_inner).health()
            }),
            early_work: early_work.clone(),
            recorder: self.recorder.as_ref().map(|all| all.part(&name, &planned.type_name)),
            lanes: stage.lanes,
            feeds: stage.feeds,
            counters: Arc::clone(&stage.counters),
            reports: self.reports_to.clone(),
        };
        self.alive.insert(stage.id);
        let thread = planned.handler.properties().blocking.then(Arbiter::new);
        let commands = planned.handler.start(setup, thread.as_ref().map(Arbiter::handle).as_ref());
        self.stages.push(LiveStage {
            id: stage.id,
            name,
            shared: planned.shared.then(|| planned.identity()),
            commands,
            counters: stage.counters,
            early_work,
            thread,
            feeds: Vec::new(),
        });
    }

    /// Waits until these actors are ready.
    async fn await_built(&mut self, mut starting: HashSet<ActorId>) -> Result<(), RunError> {
        while !starting.is_empty() {
            let report = self.reports.recv_async().await.expect("a sending end is held here");
            self.take_note(&report);
            match report {
                Report::Built { id, name, result } => {
                    starting.remove(&id);
                    if let Err(message) = result {
                        return Err(RunError::Build { name: name.to_string(), message });
                    }
                }
                report => self.deferred.push_back(report),
            }
        }
        Ok(())
    }

    fn actor_id(&mut self) -> ActorId {
        ActorId(self.count())
    }

    fn output_id(&mut self) -> OutputId {
        OutputId(self.count())
    }

    fn count(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn chain_id(&mut self) -> ChainId {
        self.next_chain += 1;
        ChainId::new(self.next_chain - 1)
    }
}
