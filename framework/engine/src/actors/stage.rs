//! `Stage<H>`: hosts a handler, with a lane for each chain it stands in.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context as Task, Poll, Waker, ready};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context, Message};
use futures_util::Stream;
use whalewatch_core::handler::Context as Call;
use whalewatch_core::{
    Ahead, Batch, ChainId, Directory, Handler, HandlerCounters, HandlerError, Health, Mailbox,
    OnFailure, Schema, Setup,
};

use super::lane::{Attach, Feed, FeedFrom, FeedSetup, Lane, LaneSetup};
use super::outlet::{Outlet, Sent};
use super::tracker::SendExisting;
use super::{ActorId, Report};
use crate::recording::Tap;

/// Batches handled in one turn before other actors on the thread get theirs.
const TURN: usize = 16;

/// Events in line for a full channel from which on no more are taken. A lane that is held up takes
/// in none, so these are what the handler makes or lets go by itself: on timers, messages, feeds.
const MOST_WAITING: u64 = 16_384;

/// What a stage is made with.
pub(crate) struct StageSetup {
    pub(crate) id: ActorId,
    pub(crate) name: Arc<str>,
    pub(crate) host_name: Arc<str>,
    pub(crate) directory: Directory,
    pub(crate) health: Health,
    pub(crate) ahead: Ahead,
    /// Takes down what is heard, if that is asked for.
    pub(crate) tap: Option<Tap>,
    pub(crate) lanes: Vec<LaneSetup>,
    pub(crate) feeds: Vec<FeedSetup>,
    pub(crate) counters: Arc<HandlerCounters>,
    pub(crate) reports: flume::Sender<Report>,
}

/// A message for the handler, from a timer or a helper of the handler's incarnation `life`.
#[derive(Message)]
#[rtype(result = "()")]
struct Deliver<M: Send + 'static> {
    life: u32,
    message: M,
}

/// Hosts a handler. Batches come in by lanes (a chain each) and feeds (trackers that the handler
/// needs); what the handler emits goes out by the lane's outlet. A lane whose outlet is full takes
/// in nothing more, while other lanes go on.
pub(crate) struct Stage<H: Handler> {
    id: ActorId,
    handler: Option<H>,
    options: H::Options,
    /// What events come in.
    input: Vec<Schema>,
    name: Arc<str>,
    host_name: Arc<str>,
    directory: Directory,
    health: Health,
    ahead: Ahead,
    tap: Option<Tap>,
    lanes: Vec<Lane>,
    feeds: Vec<Feed>,
    counters: Arc<HandlerCounters>,
    reports: flume::Sender<Report>,
    /// Whether more lanes are on their way, so that the end of the last one is not its end.
    waits: bool,
    /// Counts the handler's incarnations; messages for an earlier one are void.
    life: u32,
    failures: VecDeque<Instant>,
    unflushed: bool,
    outgoing: Vec<(ChainId, Batch)>,
    timers: Vec<(Duration, H::Message)>,
    /// Wakes the pump.
    pump: Option<Waker>,
}

impl<H: Handler> Stage<H> {
    pub(crate) fn new(options: H::Options, input: Vec<Schema>, setup: StageSetup) -> Self {
        Self {
            id: setup.id,
            handler: None,
            options,
            input,
            name: setup.name,
            host_name: setup.host_name,
            directory: setup.directory,
            health: setup.health,
            ahead: setup.ahead,
            tap: setup.tap,
            lanes: setup.lanes.into_iter().map(Lane::new).collect(),
            feeds: setup.feeds.into_iter().map(Feed::new).collect(),
            counters: setup.counters,
            reports: setup.reports,
            waits: false,
            life: 0,
            failures: VecDeque::new(),
            unflushed: false,
            outgoing: Vec::new(),
            timers: Vec::new(),
            pump: None,
        }
    }

    fn build(&mut self, ctx: &Context<Self>) -> Result<(), String> {
        let (address, life) = (ctx.address(), self.life);
        let open = self.lanes.iter().filter(|lane| lane.from.is_some());
        let setup = Setup {
            name: Arc::clone(&self.name),
            host_name: Arc::clone(&self.host_name),
            directory: self.directory.clone(),
            health: self.health.clone(),
            ahead: self.ahead.clone(),
            outside: self.tap.as_ref().map(Tap::outside).unwrap_or_default(),
            mailbox: Mailbox::new(move |message| address.do_send(Deliver { life, message })),
            chains: open.map(|lane| lane.chain).collect(),
        };
        let built =
            catch_unwind(AssertUnwindSafe(|| H::build_for(&self.options, &self.input, &setup)))
                .map_err(|panic| format!("panicked: {}", panic_text(&*panic)))?;
        self.handler = Some(built.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Calls the handler and carries out what it asked for. Does nothing once the handler is gone.
    fn call(
        &mut self,
        chain: ChainId,
        ctx: &mut Context<Self>,
        call: impl FnOnce(&mut H, &mut Call<'_, H::Message>) -> Result<(), HandlerError>,
    ) {
        self.call_behind(chain, false, ctx, call);
    }

    /// As [`Stage::call`], told whether events from a while ago may still come.
    fn call_behind(
        &mut self,
        chain: ChainId,
        behind: bool,
        ctx: &mut Context<Self>,
        call: impl FnOnce(&mut H, &mut Call<'_, H::Message>) -> Result<(), HandlerError>,
    ) {
        let Some(handler) = &mut self.handler else { return };
        let cx = Call::new(chain, &self.counters, &mut self.outgoing, &mut self.timers);
        let mut cx = cx.with_behind(behind);
        match catch_unwind(AssertUnwindSafe(|| call(handler, &mut cx))) {
            Ok(Ok(())) => self.carry_out(ctx),
            Ok(Err(HandlerError::Closed)) => {
                self.handler = None;
                self.outgoing.clear();
                HandlerCounters::add(&self.counters.dropped, self.unaccounted());
                self.report(Report::Closed);
            }
            Ok(Err(error)) => self.fail(chain_of_causes(&error), ctx),
            Err(panic) => self.fail(format!("panicked: {}", panic_text(&*panic)), ctx),
        }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        // What one call gives is taken whole or not at all.
        for lane in &mut self.lanes {
            lane.full = lane.to.as_ref().is_some_and(|to| to.waiting() >= MOST_WAITING);
        }
        for (chain, batch) in self.outgoing.drain(..) {
            match self.lanes.iter_mut().find(|lane| lane.chain == chain) {
                Some(Lane { to: Some(outlet), full: false, .. }) => outlet.push(batch),
                // One that only looks at events has no more to do for them.
                Some(Lane { last: true, .. }) if H::OUTPUT && H::PASSES_ON => {
                    HandlerCounters::add(&self.counters.output, batch.len() as u64);
                }
                // The end of a chain, or a chain that has ended: nobody is there to take it. Or a
                // reader has stopped, and what the handler adds meanwhile has no room.
                _ => HandlerCounters::add(&self.counters.dropped, batch.len() as u64),
            }
        }
        let life = self.life;
        for (delay, message) in self.timers.drain(..) {
            ctx.run_later(delay, move |stage, ctx| stage.deliver(Deliver { life, message }, ctx));
        }
    }

    /// Events that came in or were made and were counted nowhere since: they are with the handler.
    fn unaccounted(&self) -> u64 {
        let c = &self.counters;
        let left = [&c.output, &c.filtered, &c.dropped, &c.errors];
        let left: u64 = left.iter().map(|counter| counter.load(Relaxed)).sum();
        let waiting: u64 =
            self.lanes.iter().filter_map(|l| l.to.as_ref()).map(Outlet::waiting).sum();
        (c.input.load(Relaxed) + c.added.load(Relaxed)).saturating_sub(left + waiting)
    }

    /// What the handler had with it is lost; a new one takes its place, or the run stops.
    fn fail(&mut self, message: String, ctx: &mut Context<Self>) {
        self.handler = None;
        self.outgoing.clear();
        self.timers.clear();
        let lost = self.unaccounted();
        HandlerCounters::add(&self.counters.errors, lost);
        tracing::error!(handler = %self.name, lost, "handler failed: {message}");
        if !self.may_restart() {
            self.report(Report::Fatal { name: Arc::clone(&self.name), message });
            return;
        }
        self.life += 1;
        match self.build(ctx) {
            Ok(()) => {
                HandlerCounters::add(&self.counters.restarts, 1);
                for feed in &self.feeds {
                    if let Some(tracker) = &feed.tracker {
                        tracker.do_send(SendExisting { feed: feed.link });
                    }
                }
            }
            Err(again) => {
                let message = format!("{message}; it could not be made anew: {again}");
                self.report(Report::Fatal { name: Arc::clone(&self.name), message });
            }
        }
    }

    fn may_restart(&mut self) -> bool {
        let OnFailure::Restart { max_per_minute } = H::ON_FAILURE else { return false };
        self.failures.retain(|at| at.elapsed() < Duration::from_mins(1));
        self.failures.push_back(Instant::now());
        self.failures.len() <= max_per_minute as usize
    }

    fn deliver(&mut self, deliver: Deliver<H::Message>, ctx: &mut Context<Self>) {
        if deliver.life == self.life {
            let behind = self.behind();
            let message = deliver.message;
            self.call_behind(ChainId(0), behind, ctx, |handler, cx| handler.message(message, cx));
            // A timer's turn may come after the pump's, and what it sends must not lie until
            // something else happens.
            if let Some(pump) = &self.pump {
                pump.wake_by_ref();
            }
        }
    }

    /// Whether events that happened a while ago may still be on their way here.
    fn behind(&self) -> bool {
        self.lanes.iter().any(Lane::behind) || self.feeds.iter().any(Feed::behind)
    }

    /// Lets the handler see all that the trackers it needs have sent: they send to it before they
    /// send to a chain, so it has seen a batch before the same batch comes along any chain.
    fn poll_feeds(&mut self, ctx: &mut Context<Self>, task: &mut Task<'_>) -> bool {
        let mut progress = false;
        for i in 0..self.feeds.len() {
            while !self.feeds[i].ended {
                match Pin::new(&mut self.feeds[i].from).poll_next(task) {
                    Poll::Pending => break,
                    Poll::Ready(None) => self.feeds[i].ended = true,
                    Poll::Ready(Some(batch)) => {
                        progress = true;
                        self.call(ChainId(0), ctx, |handler, cx| handler.observe(&batch, cx));
                    }
                }
            }
        }
        progress
    }

    fn poll_outlet(&mut self, lane: usize, task: &mut Task<'_>) -> Poll<()> {
        let Some(outlet) = &mut self.lanes[lane].to else { return Poll::Ready(()) };
        let mut left = Sent::default();
        let through = outlet.poll_flush(task, &mut left);
        HandlerCounters::add(&self.counters.output, left.sent);
        HandlerCounters::add(&self.counters.dropped, left.dropped);
        through
    }

    /// Moves a lane on by one batch at most. Says whether it moved.
    fn poll_lane(&mut self, lane: usize, ctx: &mut Context<Self>, task: &mut Task<'_>) -> bool {
        if self.poll_outlet(lane, task).is_pending() {
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
            Some(batch) => {
                let count = batch.len() as u64;
                HandlerCounters::add(&self.counters.input, count);
                if self.handler.is_some() {
                    self.unflushed = true;
                    self.call(chain, ctx, |handler, cx| handler.handle(batch, cx));
                } else {
                    HandlerCounters::add(&self.counters.dropped, count);
                }
            }
            None => {
                self.lanes[lane].from = None;
                self.call(chain, ctx, Handler::end);
                self.call(chain, ctx, Handler::flush);
            }
        }
        true
    }

    fn ended(&self) -> bool {
        !self.waits && self.lanes.iter().all(Lane::ended)
    }

    /// The handler's last call. It is not made anew if that fails.
    fn finish(&mut self, ctx: &mut Context<Self>) {
        let Some(mut handler) = self.handler.take() else { return };
        let mut cx = Call::new(ChainId(0), &self.counters, &mut self.outgoing, &mut self.timers);
        let result = catch_unwind(AssertUnwindSafe(|| handler.finish(&mut cx)));
        self.carry_out(ctx);
        let error = match result {
            Ok(Ok(()) | Err(HandlerError::Closed)) => return,
            Ok(Err(error)) => chain_of_causes(&error),
            Err(panic) => format!("panicked: {}", panic_text(&*panic)),
        };
        tracing::error!(handler = %self.name, "handler failed at its end: {error}");
    }

    fn poll_pump(&mut self, ctx: &mut Context<Self>, task: &mut Task<'_>) -> Poll<()> {
        match &mut self.pump {
            Some(pump) => pump.clone_from(task.waker()),
            None => self.pump = Some(task.waker().clone()),
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
                        self.call(chain, ctx, Handler::flush);
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
        // The system outlives its actors; if it is gone, nobody is left to be told.
        self.reports.send(report).ok();
    }
}

/// Nothing in it is ever pinned in place: the handler's own types are moved like any others.
impl<H: Handler> Unpin for Stage<H> {}

impl<H: Handler> Actor for Stage<H> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let result = self.build(ctx);
        let built = result.is_ok();
        self.report(Report::Built { id: self.id, name: Arc::clone(&self.name), result });
        if built {
            ctx.spawn(Pump);
        } else {
            ctx.stop();
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.handler = None;
        let lost = self.unaccounted();
        if lost > 0 {
            tracing::error!(handler = %self.name, lost, "handler ended with events that it neither passed on nor counted");
            HandlerCounters::add(&self.counters.errors, lost);
        }
        self.report(Report::Ended { id: self.id });
    }
}

/// Drives the stage until all its lanes have ended.
struct Pump;

impl<H: Handler> ActorFuture<Stage<H>> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        stage: &mut Stage<H>,
        ctx: &mut Context<Stage<H>>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        ready!(stage.poll_pump(ctx, task));
        ctx.stop();
        Poll::Ready(())
    }
}

impl<H: Handler> actix::Handler<Deliver<H::Message>> for Stage<H> {
    type Result = ();

    fn handle(&mut self, message: Deliver<H::Message>, ctx: &mut Self::Context) {
        if let Some(tap) = &self.tap
            && let Some(text) = H::record(&message.message)
        {
            tap.heard(text);
        }
        self.deliver(message, ctx);
    }
}

impl<H: Handler> actix::Handler<FeedFrom> for Stage<H> {
    type Result = ();

    fn handle(&mut self, message: FeedFrom, _: &mut Self::Context) {
        if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.link == message.feed) {
            feed.tracker = Some(message.tracker);
        }
    }
}

impl<H: Handler> actix::Handler<Attach> for Stage<H> {
    type Result = ();

    fn handle(&mut self, message: Attach, ctx: &mut Self::Context) {
        let Attach::To { lanes, feeds } = message else {
            self.waits = true;
            return;
        };
        self.waits = false;
        self.lanes.retain(|lane| !lane.ended());
        self.feeds.retain(|feed| !feed.ended);
        self.feeds.extend(feeds.into_iter().map(Feed::new));
        for lane in lanes {
            let chain = lane.chain;
            self.lanes.push(Lane::new(lane));
            self.call(chain, ctx, Handler::begin);
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn chain_of_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
