//! `Stage<H>`: the actor that hosts a handler, with a lane for each chain that it is in.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker, ready};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context, Message};
use futures_util::Stream;
use whalewatch_core::{
    Directory, EarlyWork, Failure, Handler, HandlerCounters, Health, Hosted, Mailbox, OnFailure,
    Outside, Schema, Setup,
};

use super::lane::{Feed, Lane, NewFeed, NewLane, StageCommand};
use super::output::{Output, Sent};
use super::tracker::TrackerCommand;
use super::{ActorId, Report};
use crate::recording::PartRecorder;

/// Batches handled in one turn before other actors on the thread get theirs.
const TURN: usize = 16;

/// Events that may wait for a full queue. A blocked lane takes no input, so these are what the
/// handler makes or releases by itself: on timers, messages and feeds. Beyond this, they are
/// dropped.
const MAX_WAITING_EVENTS: u64 = 16_384;

/// What a stage starts with, beside the handler's options.
pub(crate) struct StageSetup {
    pub(crate) id: ActorId,
    pub(crate) name: Arc<str>,
    pub(crate) host_name: Arc<str>,
    pub(crate) directory: Directory,
    pub(crate) health: Health,
    pub(crate) early_work: EarlyWork,
    /// Records what the handler hears, if there is a recording.
    pub(crate) recorder: Option<PartRecorder>,
    pub(crate) lanes: Vec<NewLane>,
    pub(crate) feeds: Vec<NewFeed>,
    pub(crate) counters: Arc<HandlerCounters>,
    pub(crate) reports: flume::Sender<Report>,
}

/// A message for the handler, from a timer or a helper thread of its `incarnation`.
#[derive(Message)]
#[rtype(result = "()")]
struct Deliver<M: Send + 'static> {
    incarnation: u32,
    message: M,
}

/// Hosts a handler. Batches arrive by lanes (one for each chain) and feeds (one for each tracker
/// that the handler observes); what the handler emits leaves by the lane's output. A lane whose
/// output is full takes no input, while the other lanes go on.
pub(crate) struct Stage<H: Handler> {
    id: ActorId,
    /// `None` before the handler is built and after it has failed for good.
    hosted: Option<Hosted<H>>,
    options: H::Options,
    input: Vec<Schema>,
    name: Arc<str>,
    host_name: Arc<str>,
    directory: Directory,
    health: Health,
    early_work: EarlyWork,
    recorder: Option<PartRecorder>,
    lanes: Vec<Lane>,
    feeds: Vec<Feed>,
    counters: Arc<HandlerCounters>,
    reports: flume::Sender<Report>,
    /// Whether a reload is about to add lanes, so that the stage outlives its last one.
    expects_lanes: bool,
    /// Counts how often the handler was built; messages for an earlier incarnation are void.
    incarnation: u32,
    failures: VecDeque<Instant>,
    unflushed: bool,
    /// Wakes [`Drive`].
    waker: Option<Waker>,
}

impl<H: Handler> Stage<H> {
    pub(crate) fn new(options: H::Options, input: Vec<Schema>, setup: StageSetup) -> Self {
        Self {
            id: setup.id,
            hosted: None,
            options,
            input,
            name: setup.name,
            host_name: setup.host_name,
            directory: setup.directory,
            health: setup.health,
            early_work: setup.early_work,
            recorder: setup.recorder,
            lanes: setup.lanes.into_iter().map(Lane::new).collect(),
            feeds: setup.feeds.into_iter().map(Feed::new).collect(),
            counters: setup.counters,
            reports: setup.reports,
            expects_lanes: false,
            incarnation: 0,
            failures: VecDeque::new(),
            unflushed: false,
            waker: None,
        }
    }

    fn build(&mut self, ctx: &Context<Self>) -> Result<(), String> {
        let (address, incarnation) = (ctx.address(), self.incarnation);
        let mailbox =
            Mailbox::new(move |message| address.do_send(Deliver { incarnation, message }));
        let mut setup = Setup::new(Arc::clone(&self.name), Arc::clone(&self.host_name), mailbox);
        setup.input.clone_from(&self.input);
        let open = self.lanes.iter().filter(|lane| lane.from.is_some());
        setup.chains = open.map(|lane| lane.chain).collect();
        setup.directory = self.directory.clone();
        setup.health = self.health.clone();
        setup.outside = self.recorder.as_ref().map_or_else(Outside::default, PartRecorder::outside);
        setup.early_work = self.early_work.clone();
        let counters = Arc::clone(&self.counters);
        self.hosted = Some(Hosted::build(&self.options, &setup, counters)?);
        Ok(())
    }

    /// Calls the handler and acts on what it asked for. Does nothing once the handler is gone.
    fn call(
        &mut self,
        ctx: &mut Context<Self>,
        call: impl FnOnce(&mut Hosted<H>) -> Result<(), Failure>,
    ) {
        let Some(hosted) = &mut self.hosted else { return };
        match call(hosted) {
            Ok(()) => self.act(ctx),
            Err(failure) if failure.is_closed() => {
                self.hosted = None;
                HandlerCounters::add(&self.counters.dropped, self.unaccounted());
                self.report(Report::Closed);
            }
            Err(failure) => self.fail(failure.to_string(), ctx),
        }
    }

    /// Sends what the last call emitted and sets its timers.
    fn act(&mut self, ctx: &mut Context<Self>) {
        let Some(hosted) = &mut self.hosted else { return };
        // What one call emits is taken as a whole or not at all.
        for lane in &mut self.lanes {
            lane.full = lane.to.as_ref().is_some_and(|to| to.waiting() >= MAX_WAITING_EVENTS);
        }
        let properties = H::DECLARATION.properties();
        for (chain, batch) in hosted.outgoing.drain(..) {
            match self.lanes.iter_mut().find(|lane| lane.chain == chain) {
                Some(Lane { to: Some(output), full: false, .. }) => output.push(batch),
                // A passive handler at the end of its chain delivers what it emits.
                Some(Lane { last: true, .. }) if properties.output && properties.passes_on => {
                    HandlerCounters::add(&self.counters.output, batch.len() as u64);
                }
                // Nobody follows: the end of a chain, or a chain that has ended. Or a reader has
                // stopped, and there is no room for what the handler adds meanwhile.
                _ => HandlerCounters::add(&self.counters.dropped, batch.len() as u64),
            }
        }
        let incarnation = self.incarnation;
        for (delay, message) in hosted.timers.drain(..) {
            ctx.run_later(delay, move |stage, ctx| {
                stage.deliver(Deliver { incarnation, message }, ctx);
            });
        }
    }

    /// Events that the handler took or added and that are counted nowhere yet.
    fn unaccounted(&self) -> u64 {
        let waiting = self.lanes.iter().filter_map(|lane| lane.to.as_ref()).map(Output::waiting);
        self.counters.unaccounted(waiting.sum())
    }

    /// The events that the handler held are lost. Builds it again, or stops the run.
    fn fail(&mut self, message: String, ctx: &mut Context<Self>) {
        self.hosted = None;
        let lost = self.unaccounted();
        HandlerCounters::add(&self.counters.errors, lost);
        tracing::error!(handler = %self.name, lost, "handler failed: {message}");
        if !self.may_restart() {
            self.report(Report::Fatal { name: Arc::clone(&self.name), message });
            return;
        }
        self.incarnation += 1;
        match self.build(ctx) {
            Ok(()) => {
                HandlerCounters::add(&self.counters.restarts, 1);
                for feed in &self.feeds {
                    if let Some(tracker) = &feed.tracker {
                        tracker.do_send(TrackerCommand::SendExisting { feed: feed.id });
                    }
                }
            }
            Err(again) => {
                let message = format!("{message}; building it again failed: {again}");
                self.report(Report::Fatal { name: Arc::clone(&self.name), message });
            }
        }
    }

    fn may_restart(&mut self) -> bool {
        let on_failure = H::DECLARATION.properties().on_failure;
        let OnFailure::Restart { max_per_minute } = on_failure else { return false };
        self.failures.retain(|at| at.elapsed() < Duration::from_mins(1));
        self.failures.push_back(Instant::now());
        self.failures.len() <= max_per_minute as usize
    }

    fn deliver(&mut self, deliver: Deliver<H::Message>, ctx: &mut Context<Self>) {
        if deliver.incarnation == self.incarnation {
            let (message, behind) = (deliver.message, self.behind());
            self.call(ctx, |hosted| hosted.message(message, behind));
            // A timer may go off after this turn of `Drive`; what its message emitted must not wait
            // until something else happens.
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Whether events that happened a while ago may still be on their way here.
    fn behind(&self) -> bool {
        self.lanes.iter().any(Lane::behind) || self.feeds.iter().any(Feed::behind)
    }

    /// Lets the handler observe all that its trackers have sent. They send to feeds before they
    /// send to chains, so the handler has observed a batch before any chain brings it.
    fn poll_feeds(&mut self, ctx: &mut Context<Self>, task: &mut Task<'_>) -> bool {
        let mut progress = false;
        for i in 0..self.feeds.len() {
            while !self.feeds[i].ended {
                match Pin::new(&mut self.feeds[i].from).poll_next(task) {
                    Poll::Pending => break,
                    Poll::Ready(None) => self.feeds[i].ended = true,
                    Poll::Ready(Some(batch)) => {
                        progress = true;
                        self.call(ctx, |hosted| hosted.observe(&batch));
                    }
                }
            }
        }
        progress
    }

    fn poll_output(&mut self, lane: usize, task: &mut Task<'_>) -> Poll<()> {
        let Some(output) = &mut self.lanes[lane].to else { return Poll::Ready(()) };
        let mut left = Sent::default();
        let flushed = output.poll_flush(task, &mut left);
        HandlerCounters::add(&self.counters.output, left.sent);
        HandlerCounters::add(&self.counters.dropped, left.dropped);
        flushed
    }

    /// Takes at most one batch from a lane. Returns whether the lane made progress.
    fn poll_lane(&mut self, lane: usize, ctx: &mut Context<Self>, task: &mut Task<'_>) -> bool {
        if self.poll_output(lane, task).is_pending() {
            return false;
        }
        let Some(from) = &mut self.lanes[lane].from else {
            self.lanes[lane].to = None;
            return false;
        };
        let Poll::Ready(next) = Pin::new(from).poll_next(task) else { return false };
        self.poll_feeds(ctx, task);
        let chain = self.lanes[lane].chain;
        match next {
            Some(batch) if self.hosted.is_some() => {
                self.unflushed = true;
                self.call(ctx, |hosted| hosted.handle(chain, batch));
            }
            Some(batch) => {
                let count = batch.len() as u64;
                HandlerCounters::add(&self.counters.input, count);
                HandlerCounters::add(&self.counters.dropped, count);
            }
            None => {
                self.lanes[lane].from = None;
                self.call(ctx, |hosted| hosted.end(chain));
                self.call(ctx, |hosted| hosted.flush(chain));
            }
        }
        true
    }

    fn ended(&self) -> bool {
        !self.expects_lanes && self.lanes.iter().all(Lane::ended)
    }

    /// Makes the handler's last call. It is not built again if that fails.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        let Some(hosted) = &mut self.hosted else { return };
        let result = hosted.finish();
        self.act(ctx);
        self.hosted = None;
        if let Err(failure) = result
            && !failure.is_closed()
        {
            tracing::error!(handler = %self.name, "handler failed at its end: {failure}");
        }
    }

    fn poll(&mut self, ctx: &mut Context<Self>, task: &mut Task<'_>) -> Poll<()> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(task.waker()),
            None => self.waker = Some(task.waker().clone()),
        }
        for _ in 0..TURN {
            let mut progress = self.poll_feeds(ctx, task);
            for lane in 0..self.lanes.len() {
                progress |= self.poll_lane(lane, ctx, task);
            }
            if self.ended() {
                self.finish(ctx);
                return Poll::Ready(());
            }
            if !progress {
                if std::mem::take(&mut self.unflushed) {
                    for lane in 0..self.lanes.len() {
                        let chain = self.lanes[lane].chain;
                        self.call(ctx, |hosted| hosted.flush(chain));
                    }
                    continue;
                }
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn report(&self, report: Report) {
        // The system outlives its actors; if it is gone, there is nobody to report to.
        self.reports.send(report).ok();
    }
}

/// Nothing in a stage is pinned in place: the handler's own types are moved like any others.
impl<H: Handler> Unpin for Stage<H> {}

impl<H: Handler> Actor for Stage<H> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let result = self.build(ctx);
        let built = result.is_ok();
        self.report(Report::Built { id: self.id, name: Arc::clone(&self.name), result });
        if built {
            ctx.spawn(Drive);
        } else {
            ctx.stop();
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.hosted = None;
        let lost = self.unaccounted();
        if lost > 0 {
            tracing::error!(
                handler = %self.name,
                lost,
                "handler ended with events that it neither passed on nor counted"
            );
            HandlerCounters::add(&self.counters.errors, lost);
        }
        self.report(Report::Ended { id: self.id });
    }
}

/// Drives a stage until all its lanes have ended.
struct Drive;

impl<H: Handler> ActorFuture<Stage<H>> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        stage: &mut Stage<H>,
        ctx: &mut Context<Stage<H>>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        ready!(stage.poll(ctx, task));
        ctx.stop();
        Poll::Ready(())
    }
}

impl<H: Handler> actix::Handler<Deliver<H::Message>> for Stage<H> {
    type Result = ();

    fn handle(&mut self, message: Deliver<H::Message>, ctx: &mut Self::Context) {
        if let Some(recorder) = &self.recorder
            && let Some(text) = H::DECLARATION.record(&message.message)
        {
            recorder.message(text);
        }
        self.deliver(message, ctx);
    }
}

impl<H: Handler> actix::Handler<StageCommand> for Stage<H> {
    type Result = ();

    fn handle(&mut self, command: StageCommand, ctx: &mut Self::Context) {
        match command {
            StageCommand::Introduce { feed, tracker } => {
                if let Some(feed) = self.feeds.iter_mut().find(|known| known.id == feed) {
                    feed.tracker = Some(tracker);
                }
            }
            StageCommand::ExpectLanes => self.expects_lanes = true,
            StageCommand::Join { lanes, feeds } => {
                self.expects_lanes = false;
                self.lanes.retain(|lane| !lane.ended());
                self.feeds.retain(|feed| !feed.ended);
                self.feeds.extend(feeds.into_iter().map(Feed::new));
                for lane in lanes {
                    let chain = lane.chain;
                    self.lanes.push(Lane::new(lane));
                    self.call(ctx, |hosted| hosted.begin(chain));
                }
            }
        }
    }
}
