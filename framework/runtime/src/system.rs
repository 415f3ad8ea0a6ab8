//! Builds what a plan asks for and runs it until its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, Recipient};
use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout_at};
use whalewatch_core::{Batch, ChainId, Directory, HandlerCounters, Health, OpenError};

use crate::actors::Report;
use crate::actors::stage::{FeedFrom, FeedSetup, LaneSetup, StageSetup};
use crate::actors::tracker::{Links, Stop, TrackerCounters};
use crate::plan::Plan;
use crate::registry::{OpenedTracker, TrackerControl};
use crate::stats::{Counters, Totals};

/// Batches that a channel holds. With 256 events a batch this is room for 16 thousand events between two handlers.
const CHANNEL: usize = 64;

/// What a running system can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Take in nothing new, bring what is on its way to its end, stop.
    Stop,
    /// Stop at once, whatever is on its way.
    Abort,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop, its time was over, or its sources had no more; everything was brought to its end.
    Done,
    /// Whoever read the output is gone.
    Closed,
    /// It was told to stop at once.
    Aborted,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A tracker could not be opened.
    #[error("tracker \"{name}\" cannot start: {source}")]
    Open {
        /// Name of the tracker.
        name: String,
        /// Why, and how to mend it.
        source: OpenError,
    },
    /// A handler could not be made.
    #[error("\"{name}\" cannot start: {message}")]
    Build {
        /// Name of the handler.
        name: String,
        /// Why, and how to mend it.
        message: String,
    },
    /// A tracker or handler failed for good; everything else was brought to its end.
    #[error("\"{name}\" failed: {message}")]
    Failed {
        /// Name of the tracker or handler.
        name: String,
        /// Why.
        message: String,
        /// Totals of the run.
        totals: Box<Totals>,
    },
}

/// Runs a plan on the current thread.
pub struct System {
    host: Arc<str>,
    duration: Option<Duration>,
    control: flume::Receiver<Control>,
    controller: flume::Sender<Control>,
}

impl System {
    /// A system on the host named.
    pub fn new(host: impl Into<Arc<str>>) -> Self {
        let (controller, control) = flume::bounded(16);
        Self { host: host.into(), duration: None, control, controller }
    }

    /// Has it stop by itself after `duration`, counted from when everything is watched.
    #[must_use]
    pub fn duration(mut self, duration: Option<Duration>) -> Self {
        self.duration = duration;
        self
    }

    /// Where to send [`Control`] from other threads.
    pub fn controller(&self) -> flume::Sender<Control> {
        self.controller.clone()
    }

    /// Builds and runs `plan`. `watching` is called once, when every tracker is live.
    ///
    /// # Errors
    /// If something cannot be made, or fails for good while running.
    pub fn run(self, plan: &Plan, watching: impl FnOnce()) -> Result<(End, Totals), RunError> {
        actix::System::new().block_on(async {
            let (reports_to, reports) = flume::unbounded();
            let running = Running::build(plan, &self.host, reports_to, &reports).await?;
            watching();
            let deadline = self.duration.map(|duration| Instant::now() + duration);
            running.run(&reports, &self.control, deadline).await
        })
    }
}

/// What was built, and how to reach it.
struct Running {
    trackers: Vec<Recipient<Stop>>,
    actors: usize,
    counters: Counters,
    directory: Directory,
    /// What came in while the rest was still being built.
    early: VecDeque<Report>,
    threads: Vec<Arbiter>,
}

/// Receiving and sending ends by handler, while the plan is being joined.
struct Wires {
    /// For each tracker.
    counters: Vec<Arc<TrackerCounters>>,
    /// For each tracker: where its batches go.
    feeds: Vec<Vec<flume::Sender<Batch>>>,
    chains: Vec<Vec<flume::Sender<Batch>>>,
    /// For each actor: handler, lanes, feeds with the tracker that each comes from.
    stages: Vec<WiredStage>,
}

struct WiredStage {
    handler: usize,
    lanes: Vec<LaneSetup>,
    feeds: Vec<(usize, FeedSetup)>,
}

impl Wires {
    fn of(plan: &Plan) -> Self {
        let mut wires = Self {
            counters: plan.trackers.iter().map(|_| Arc::default()).collect(),
            feeds: plan.trackers.iter().map(|_| Vec::new()).collect(),
            chains: plan.trackers.iter().map(|_| Vec::new()).collect(),
            stages: Vec::new(),
        };
        for (number, chain) in (0..).zip(&plan.chains) {
            let (mut to, mut from) = flume::bounded(CHANNEL);
            for &tracker in &chain.from {
                wires.chains[tracker].push(to.clone());
            }
            for (place, &handler) in chain.through.iter().enumerate() {
                drop(to);
                let next = flume::bounded(CHANNEL);
                to = next.0;
                let last = place + 1 == chain.through.len();
                let lane = LaneSetup {
                    chain: ChainId(number),
                    from,
                    to: (!last).then(|| to.clone()),
                    trackers: chain.from.iter().map(|&t| Arc::clone(&wires.counters[t])).collect(),
                };
                from = next.1;
                wires.lane(plan, handler, lane);
            }
        }
        for (tracker, planned) in plan.trackers.iter().enumerate() {
            for &handler in &planned.needed_by {
                wires.feed(tracker, handler);
            }
        }
        wires
    }

    fn lane(&mut self, plan: &Plan, handler: usize, lane: LaneSetup) {
        let shared = plan.handlers[handler].shared;
        match self.stages.iter_mut().find(|stage| shared && stage.handler == handler) {
            Some(stage) => stage.lanes.push(lane),
            None => self.stages.push(WiredStage { handler, lanes: vec![lane], feeds: Vec::new() }),
        }
    }

    fn feed(&mut self, tracker: usize, handler: usize) {
        for stage in self.stages.iter_mut().filter(|stage| stage.handler == handler) {
            let (to, from) = flume::bounded(CHANNEL);
            let counters = Arc::clone(&self.counters[tracker]);
            let index = self.feeds[tracker].len();
            stage.feeds.push((tracker, FeedSetup { from, index, tracker: counters }));
            self.feeds[tracker].push(to);
        }
    }
}

impl Running {
    async fn build(
        plan: &Plan,
        host: &Arc<str>,
        reports_to: flume::Sender<Report>,
        reports: &flume::Receiver<Report>,
    ) -> Result<Self, RunError> {
        let directory = Directory::default();
        let opened = open_all(plan, &directory)?;
        let mut running = Self {
            trackers: Vec::new(),
            actors: 0,
            counters: Counters::default(),
            directory,
            early: VecDeque::new(),
            threads: Vec::new(),
        };
        let wires = Wires::of(plan);
        let mut fed = Vec::new();
        for stage in wires.stages {
            let trackers: Vec<usize> = stage.feeds.iter().map(|(tracker, _)| *tracker).collect();
            let address = running.start_stage(plan, stage, host, &reports_to);
            fed.extend((0..).zip(trackers).map(|(feed, t)| (t, feed, address.clone())));
        }
        running.await_built(running.actors, reports).await?;
        let ends = wires.feeds.into_iter().zip(wires.chains);
        for (index, (opened, (feeds, chains))) in opened.into_iter().zip(ends).enumerate() {
            let name: Arc<str> = plan.trackers[index].name.as_str().into();
            let counters = Arc::clone(&wires.counters[index]);
            running.counters.trackers.push((Arc::clone(&name), Arc::clone(&counters)));
            let reports = reports_to.clone();
            let links = Links { name, feeds, chains, counters, reports };
            let TrackerControl { stop, existing } = opened.start(links);
            running.trackers.push(stop);
            running.actors += 1;
            for (_, feed, stage) in fed.iter().filter(|(tracker, ..)| *tracker == index) {
                stage.do_send(FeedFrom { feed: *feed, tracker: existing.clone() });
            }
        }
        running.await_built(running.trackers.len(), reports).await?;
        Ok(running)
    }

    fn start_stage(
        &mut self,
        plan: &Plan,
        stage: WiredStage,
        host: &Arc<str>,
        reports: &flume::Sender<Report>,
    ) -> Recipient<FeedFrom> {
        let planned = &plan.handlers[stage.handler];
        let name: Arc<str> = planned.name.as_str().into();
        let counters = Arc::new(HandlerCounters::default());
        self.counters.handlers.push((Arc::clone(&name), Arc::clone(&counters)));
        let setup = StageSetup {
            name,
            host: Arc::clone(host),
            directory: self.directory.clone(),
            health: Health::default(),
            lanes: stage.lanes,
            feeds: stage.feeds.into_iter().map(|(_, feed)| feed).collect(),
            counters,
            reports: reports.clone(),
        };
        self.actors += 1;
        if planned.handler.blocking() {
            let thread = Arbiter::new();
            let address = planned.handler.start(setup, Some(&thread.handle()));
            self.threads.push(thread);
            address
        } else {
            planned.handler.start(setup, None)
        }
    }

    /// Waits until that many more actors are ready.
    async fn await_built(
        &mut self,
        mut count: usize,
        reports: &flume::Receiver<Report>,
    ) -> Result<(), RunError> {
        while count > 0 {
            match reports.recv_async().await {
                Ok(Report::Built { name, result: Err(message) }) => {
                    return Err(RunError::Build { name: name.to_string(), message });
                }
                Ok(Report::Built { .. }) => count -= 1,
                Ok(report) => self.early.push_back(report),
                // `build` holds a sending end.
                Err(flume::RecvError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// Waits for the end: of all actors, or by order.
    async fn run(
        mut self,
        reports: &flume::Receiver<Report>,
        control: &flume::Receiver<Control>,
        deadline: Option<Instant>,
    ) -> Result<(End, Totals), RunError> {
        let mut left = self.actors;
        let mut end = End::Done;
        let mut failed = None;
        let mut deadline = deadline;
        while left > 0 {
            let next = match self.early.pop_front() {
                Some(report) => Next::Report(report),
                None => next(reports, control, deadline).await,
            };
            match next {
                Next::Report(Report::Ended) => left -= 1,
                Next::Report(Report::Built { .. }) => {}
                Next::Report(Report::Closed) => {
                    end = End::Closed;
                    self.stop();
                }
                Next::Report(Report::Fatal { name, message }) => {
                    failed.get_or_insert((name, message));
                    self.stop();
                }
                Next::Deadline => {
                    deadline = None;
                    self.stop();
                }
                Next::Control(Control::Stop) => self.stop(),
                Next::Control(Control::Abort) => return Ok((End::Aborted, self.counters.totals())),
            }
        }
        let totals = self.counters.totals();
        match failed {
            None => Ok((end, totals)),
            Some((name, message)) => {
                let (name, totals) = (name.to_string(), Box::new(totals));
                Err(RunError::Failed { name, message, totals })
            }
        }
    }

    fn stop(&self) {
        for tracker in &self.trackers {
            tracker.do_send(Stop);
        }
    }
}

/// Opens all trackers, each on a thread of its own: loading into the kernel takes most of the time of a start.
fn open_all(plan: &Plan, directory: &Directory) -> Result<Vec<Box<dyn OpenedTracker>>, RunError> {
    std::thread::scope(|scope| {
        let opening: Vec<_> = plan
            .trackers
            .iter()
            .map(|planned| scope.spawn(move || planned.tracker.open(directory)))
            .collect();
        let opened = opening.into_iter().zip(&plan.trackers).map(|(thread, planned)| {
            let result = thread
                .join()
                .unwrap_or_else(|_| Err(OpenError::new("it panicked while it was being opened")));
            result.map_err(|source| RunError::Open { name: planned.name.clone(), source })
        });
        opened.collect()
    })
}

enum Next {
    Report(Report),
    Control(Control),
    Deadline,
}

/// The next thing that happens. The channels stay open as long as the system runs.
async fn next(
    reports: &flume::Receiver<Report>,
    control: &flume::Receiver<Control>,
    deadline: Option<Instant>,
) -> Next {
    let report = async { reports.recv_async().await.map(Next::Report) };
    let control = async { control.recv_async().await.map(Next::Control) };
    let either = async {
        match select(std::pin::pin!(report), std::pin::pin!(control)).await {
            Either::Left((next, _)) | Either::Right((next, _)) => {
                next.unwrap_or(Next::Control(Control::Stop))
            }
        }
    };
    match deadline {
        None => either.await,
        Some(deadline) => timeout_at(deadline, either).await.unwrap_or(Next::Deadline),
    }
}
