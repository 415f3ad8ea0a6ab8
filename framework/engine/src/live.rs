//! What runs, and how it becomes what a plan asks for: at the start out of nothing, on a reload out
//! of what ran before.
//!
//! What a plan asks for and what runs already is told by *identity*: name, type and options. A
//! tracker of the same identity stays attached; a chain of which every part is the same goes on
//! untouched; a shared handler of the same identity goes on and gets other chains. All else is
//! brought to its end first, while the trackers that go on keep what happens in their sources, and
//! then made anew. So no event is lost, and what only one can hold (a file, a port) is free for its
//! next holder.

mod change;
mod wires;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Arbiter;
use tokio::time::{Instant, timeout_at};
use whalewatch_core::{Ahead, ChainId, Directory, HandlerCounters, Health, OpenError};

use crate::actors::lane::{Attach, FeedFrom};
use crate::actors::stage::{StageSetup, panic_text};
use crate::actors::tracker::{LinkId, Links, Rewire, Stop, TrackerCounters};
use crate::actors::{ActorId, Report};
use crate::plan::Plan;
use crate::recording::Recorder;
use crate::registry::{OpenedTracker, StageControl, TrackerControl};
use crate::stats::Counters;
use crate::system::RunError;
use change::Change;
use wires::{NewStage, Wires};

/// How long parts that are to go may take to bring what is on its way to its end, before others
/// take their places anyway.
const LONGEST_GOODBYE: Duration = Duration::from_secs(10);

/// A tracker that runs.
pub(crate) struct LiveTracker {
    id: ActorId,
    identity: String,
    control: TrackerControl,
    counters: Arc<TrackerCounters>,
}

/// A handler that runs.
pub(crate) struct LiveStage {
    id: ActorId,
    name: Arc<str>,
    /// `None` if it stands in one chain only, and so goes and stays with that.
    shared: Option<String>,
    control: StageControl,
    counters: Arc<HandlerCounters>,
    /// What it has begun, for the case that it must be brought back.
    ahead: Ahead,
    /// Its own, if it may block.
    thread: Option<Arbiter>,
    /// The trackers that feed it.
    feeds: Vec<(ActorId, LinkId)>,
}

/// A chain that runs.
pub(crate) struct LiveChain {
    /// Its name and the identities of all its parts.
    signature: Vec<String>,
    /// Where its events come in.
    links: Vec<(ActorId, LinkId)>,
    /// Those of its handlers that stand in no other chain.
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
    /// What came in while something else was waited for.
    early: VecDeque<Report>,
    plan: Option<Arc<Plan>>,
    trackers: Vec<LiveTracker>,
    stages: Vec<LiveStage>,
    chains: Vec<LiveChain>,
    alive: HashSet<ActorId>,
    /// The next number that was given to nothing yet.
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
            early: VecDeque::new(),
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

    /// Has every tracker take in nothing new; what is on its way comes to its end.
    pub(crate) fn stop(&self) {
        for tracker in &self.trackers {
            tracker.control.stop.do_send(Stop);
        }
    }

    /// What an actor tells next.
    pub(crate) async fn report(&mut self) -> Report {
        let report = match self.early.pop_front() {
            Some(report) => report,
            None => self.reports.recv_async().await.expect("a sending end is held here"),
        };
        self.take_note(&report);
        report
    }

    /// An actor that has ended is forgotten, but for what it counted.
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

    /// Makes what runs into what `plan` asks for.
    ///
    /// # Errors
    /// If something cannot be made. What ran before runs again then; if even that fails, the error
    /// is [`Failed`](RunError::Failed).
    pub(crate) async fn apply(&mut self, plan: Arc<Plan>) -> Result<(), RunError> {
        let change = Change::new(self, &plan);
        let ahead = begin_ahead(&plan, &change, &BTreeMap::new())?;
        // The old goes on until all that is new in the kernel is there.
        let opened = open(&plan, &change.new_trackers, &self.directory).await?;
        self.hold(&change).await?;
        let begun = self.begun();
        self.release(&change).await;
        let error = match self.build(&plan, &change, ahead, opened).await {
            Ok(()) => {
                self.plan = Some(plan);
                return Ok(());
            }
            Err(error) => error,
        };
        let Some(before) = self.plan.clone() else { return Err(error) };
        let change = Change::new(self, &before);
        // Nothing new was joined, so what goes on still waits.
        match self.bring_back(&before, &change, &begun).await {
            Ok(()) => Err(error),
            Err(again) => Err(RunError::Failed {
                name: String::from("reload"),
                message: format!("{error}; and what ran before could not be brought back: {again}"),
                totals: Box::new(self.counters().totals()),
            }),
        }
    }

    /// Makes what ran before run again, after something new could not be made.
    async fn bring_back(
        &mut self,
        before: &Arc<Plan>,
        change: &Change,
        begun: &BTreeMap<String, Ahead>,
    ) -> Result<(), RunError> {
        let ahead = begin_ahead(before, change, begun)?;
        let opened = open(before, &change.new_trackers, &self.directory).await?;
        self.build(before, change, ahead, opened).await
    }

    /// What the shared handlers have begun, by identity.
    fn begun(&self) -> BTreeMap<String, Ahead> {
        let shared = self.stages.iter().filter_map(|stage| Some((stage.shared.clone()?, stage)));
        shared.map(|(identity, stage)| (identity, stage.ahead.clone())).collect()
    }

    /// Has the shared handlers that go on outlive their last chains. Each must have heard of that
    /// before the first chain ends, and one that is held up by its reader hears of nothing: then
    /// nothing is changed.
    async fn hold(&self, change: &Change) -> Result<(), RunError> {
        let deadline = Instant::now() + LONGEST_GOODBYE;
        let kept = || self.stages.iter().filter(|stage| change.kept_stages.contains(&stage.id));
        for stage in kept() {
            // One that has ended by itself meanwhile needs to hear of nothing.
            if timeout_at(deadline, stage.control.attach.send(Attach::Wait)).await.is_ok() {
                continue;
            }
            for stage in kept() {
                stage.control.attach.do_send(Attach::To { lanes: Vec::new(), feeds: Vec::new() });
            }
            return Err(RunError::Build {
                name: stage.name.to_string(),
                message: format!("it is held up and has not answered for {LONGEST_GOODBYE:?}"),
            });
        }
        Ok(())
    }

    /// Brings to its end what the plan asks for no more.
    async fn release(&mut self, change: &Change) {
        let mut going = change.going(self);
        for tracker in &self.trackers {
            let links = change.links_to_cut(self, tracker.id);
            if !change.kept_trackers.contains(&tracker.id) {
                going.insert(tracker.id);
                tracker.control.stop.do_send(Stop);
            } else if change.touches(self, tracker.id) {
                let rewire = Rewire { remove: links, hold: true, ..Rewire::default() };
                tracker.control.rewire.do_send(rewire);
            }
        }
        self.chains.retain(|chain| change.kept_chains.contains(&chain.signature));
        self.await_end(going).await;
    }

    /// Waits until all of these have ended, but not for ever: one may wait for a reader that never
    /// comes.
    async fn await_end(&mut self, mut going: HashSet<ActorId>) {
        let deadline = Instant::now() + LONGEST_GOODBYE;
        going.retain(|id| self.alive.contains(id));
        while !going.is_empty() {
            let Ok(Ok(report)) = timeout_at(deadline, self.reports.recv_async()).await else {
                tracing::warn!(
                    parts = going.len(),
                    "parts of the old configuration have not ended yet: others take their places"
                );
                return;
            };
            self.take_note(&report);
            match report {
                Report::Ended { id } => drop(going.remove(&id)),
                report => self.early.push_back(report),
            }
        }
    }

    /// Makes what is not there yet, and joins it to what is.
    async fn build(
        &mut self,
        plan: &Plan,
        change: &Change,
        ahead: BTreeMap<usize, Ahead>,
        opened: Vec<Box<dyn OpenedTracker>>,
    ) -> Result<(), RunError> {
        let mut wires = Wires::new(self, plan, change);
        let stages = std::mem::take(&mut wires.stages);
        let new: HashSet<ActorId> = stages.iter().map(|stage| stage.id).collect();
        // A shared one that was to go on may have ended by itself meanwhile, and begins anew.
        let ahead = |stage: NewStage| {
            let known = ahead.get(&stage.handler).cloned();
            Ok((known.map_or_else(|| begin(plan, stage.handler), Ok)?, stage))
        };
        for (ahead, stage) in stages.into_iter().map(ahead).collect::<Result<Vec<_>, RunError>>()? {
            self.start_stage(plan, stage, ahead);
        }
        if let Err(error) = self.await_built(new.clone()).await {
            // With nobody to send to them, those that could be made end.
            drop(wires);
            self.await_end(new).await;
            return Err(error);
        }
        for (stage, lanes, feeds) in wires.kept {
            if let Some(stage) = self.stages.iter_mut().find(|live| live.id == stage) {
                stage.control.attach.do_send(Attach::To { lanes, feeds });
            }
        }
        self.chains.extend(wires.chains);
        for (id, stage, link) in wires.feeds {
            if let Some(stage) = self.stages.iter_mut().find(|live| live.id == stage) {
                stage.feeds.push((id, link));
            }
        }
        let mut starting = HashSet::new();
        let mut opened = opened.into_iter();
        for end in wires.trackers {
            let planned = &plan.trackers[end.tracker];
            let name: Arc<str> = planned.name.as_str().into();
            let links = Links {
                id: end.id,
                tap: self.recorder.as_ref().map(|to| to.tap(&name, &planned.type_name)),
                name,
                feeds: end.feeds,
                chains: end.chains,
                counters: Arc::clone(&end.counters),
                reports: self.reports_to.clone(),
            };
            if let Some(live) = self.trackers.iter().find(|live| live.id == end.id) {
                let (feeds, chains) = (links.feeds, links.chains);
                let rewire = Rewire { feeds, chains, ..Rewire::default() };
                live.control.rewire.do_send(rewire);
                continue;
            }
            let Some(opened) = opened.next() else { continue };
            self.counters().add_tracker(end.id, Arc::clone(&links.name), Arc::clone(&end.counters));
            self.alive.insert(end.id);
            starting.insert(end.id);
            let control = opened.start(links);
            let identity = planned.identity();
            let counters = end.counters;
            self.trackers.push(LiveTracker { id: end.id, identity, control, counters });
        }
        self.introduce();
        self.await_built(starting).await
    }

    /// Tells every stage which trackers feed it.
    fn introduce(&self) {
        for stage in &self.stages {
            for (tracker, link) in &stage.feeds {
                let tracker = self.trackers.iter().find(|live| live.id == *tracker);
                if let Some(tracker) = tracker {
                    let tracker = tracker.control.existing.clone();
                    stage.control.feed_from.do_send(FeedFrom { feed: *link, tracker });
                }
            }
        }
    }

    fn start_stage(&mut self, plan: &Plan, stage: NewStage, ahead: Ahead) {
        let planned = &plan.handlers[stage.handler];
        let name: Arc<str> = planned.name.as_str().into();
        self.counters().add_handler(stage.id, Arc::clone(&name), Arc::clone(&stage.counters));
        let (counters, known_as) = (Arc::clone(&self.counters), Arc::clone(&name));
        let setup = StageSetup {
            id: stage.id,
            name,
            host_name: Arc::clone(&self.host_name),
            directory: self.directory.clone(),
            health: Health::new(move || {
                counters.lock().unwrap_or_else(PoisonError::into_inner).health()
            }),
            ahead: ahead.clone(),
            tap: self.recorder.as_ref().map(|to| to.tap(&known_as, &planned.type_name)),
            lanes: stage.lanes,
            feeds: stage.feeds,
            counters: Arc::clone(&stage.counters),
            reports: self.reports_to.clone(),
        };
        self.alive.insert(stage.id);
        let thread = planned.handler.blocking().then(Arbiter::new);
        let control = planned.handler.start(setup, thread.as_ref().map(Arbiter::handle).as_ref());
        self.stages.push(LiveStage {
            id: stage.id,
            name: known_as,
            shared: planned.shared.then(|| planned.identity()),
            control,
            counters: stage.counters,
            ahead,
            thread,
            feeds: Vec::new(),
        });
    }

    /// Waits until these are ready.
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
                report => self.early.push_back(report),
            }
        }
        Ok(())
    }

    fn actor_id(&mut self) -> ActorId {
        ActorId(self.count())
    }

    fn link_id(&mut self) -> LinkId {
        LinkId(self.count())
    }

    fn count(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn chain_id(&mut self) -> ChainId {
        self.next_chain += 1;
        ChainId(self.next_chain - 1)
    }
}

/// Has the plan's new handlers begin what is to watch before trackers do, but for those that have
/// `begun` it already.
fn begin_ahead(
    plan: &Plan,
    change: &Change,
    begun: &BTreeMap<String, Ahead>,
) -> Result<BTreeMap<usize, Ahead>, RunError> {
    let ahead = |handler: usize| {
        let known = begun.get(&plan.handlers[handler].identity());
        Ok((handler, known.map_or_else(|| begin(plan, handler), |ahead| Ok(ahead.clone()))?))
    };
    change.new_handlers(plan).into_iter().map(ahead).collect()
}

fn begin(plan: &Plan, handler: usize) -> Result<Ahead, RunError> {
    let planned = &plan.handlers[handler];
    catch_unwind(AssertUnwindSafe(|| planned.handler.ahead())).map_err(|panic| RunError::Build {
        name: planned.name.clone(),
        message: format!("panicked: {}", panic_text(&*panic)),
    })
}

/// Opens trackers and gives them in the plan's order, each opened on a thread of its own: loading
/// into the kernel takes most of the time of a start, and what runs already is not to wait for it.
/// Those that handlers need first are open before any other is.
async fn open(
    plan: &Arc<Plan>,
    trackers: &[usize],
    directory: &Directory,
) -> Result<Vec<Box<dyn OpenedTracker>>, RunError> {
    let (first, others): (Vec<usize>, Vec<usize>) =
        trackers.iter().partition(|&&tracker| plan.opens_first(tracker));
    let mut all = BTreeMap::new();
    for together in [first, others] {
        let opening: Vec<_> = together
            .into_iter()
            .map(|tracker| (tracker, open_apart(plan, tracker, directory)))
            .collect();
        for (tracker, opened) in opening {
            let result = opened
                .recv_async()
                .await
                .unwrap_or_else(|_| Err(OpenError::new("it panicked while it was being opened")));
            let name = || plan.trackers[tracker].name.clone();
            let opened = result.map_err(|source| RunError::Open { name: name(), source })?;
            all.insert(tracker, opened);
        }
    }
    Ok(all.into_values().collect())
}

/// Opens a tracker on a thread of its own. What it sends is lost if nobody waits any more, when
/// another has failed.
fn open_apart(
    plan: &Arc<Plan>,
    tracker: usize,
    directory: &Directory,
) -> flume::Receiver<Result<Box<dyn OpenedTracker>, OpenError>> {
    let (plan, directory) = (Arc::clone(plan), directory.clone());
    let (done, opened) = flume::bounded(1);
    std::thread::spawn(move || {
        let result = plan.trackers[tracker].tracker.open(&directory);
        done.send(result).ok();
    });
    opened
}
