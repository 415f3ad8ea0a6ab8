//! `Tracker<E>`: the actor that drives a source and sends its events on in batches.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context, Handler, Message};
use tokio::io::unix::AsyncFd;
use whalewatch_core::{Batch, Drain, Event, Source, SourceCounts, SourceError, Timestamp};

use super::drain_timer::{DrainTimer, watch};
use super::output::{Output, Sent};
use super::{ActorId, Report};
use crate::queue::QueueSender;
use crate::recording::PartRecorder;

/// The most events in a batch. Measured on a prototype of three actors: 15 M events/s with 16
/// events a batch, 30 M events/s with 256 and more.
const BATCH: usize = 256;
/// Batches taken in one turn before other actors on the thread get theirs.
const TURN: usize = 16;

/// Events that may wait for a chain whose queue is full while other chains take theirs. Beyond
/// this, events are dropped for that chain.
const MAX_WAITING_EVENTS: u64 = 16_384;

/// The shortest time between two warnings of lost events.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// How long a detached source may take to report its end.
const LAST_DRAIN: Duration = Duration::from_secs(1);

/// What a tracker has counted.
#[derive(Debug, Default)]
pub(crate) struct TrackerCounters {
    counts: Mutex<(SourceCounts, u64)>,
    /// The age of the newest event when it was read, in nanoseconds.
    lag: AtomicU64,
    /// Whether a full queue keeps the tracker from draining its source.
    behind: AtomicBool,
}

impl TrackerCounters {
    /// What the source had counted when it was last asked, and how many of its events were sent.
    pub(crate) fn read(&self) -> (SourceCounts, u64) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the source may hold events from a while ago.
    pub(crate) fn behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    /// The age of the newest event when it was read.
    pub(crate) fn lag(&self) -> Duration {
        Duration::from_nanos(self.lag.load(Relaxed))
    }

    pub(crate) fn write(&self, counts: SourceCounts, delivered: u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = (counts, delivered);
    }
}

/// A command for a running tracker.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum TrackerCommand {
    /// Take in no new events, send what there is, end.
    Stop,
    /// Send what existed before watching began to the handler with this feed: it was built again
    /// and knows nothing.
    SendExisting { feed: OutputId },
    /// Change the outputs.
    Rewire(Rewiring),
}

/// A change of a tracker's outputs.
#[derive(Default)]
pub(crate) struct Rewiring {
    /// Outputs to send nothing more to, once what waits for them has gone.
    pub(crate) remove: Vec<OutputId>,
    pub(crate) feeds: Vec<NewOutput>,
    pub(crate) chains: Vec<NewOutput>,
    /// Whether to take nothing more from the source until the next of these commands.
    pub(crate) pause: bool,
}

/// Identifies one output of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OutputId(pub(crate) u64);

/// An output to be added to a tracker.
#[derive(Clone)]
pub(crate) struct NewOutput {
    pub(crate) id: OutputId,
    pub(crate) to: QueueSender,
}

/// Drives a [`Source`] and sends its events on in batches: first to the handlers that need this
/// tracker, then to the chains that name it. It knows nothing of containers.
pub(crate) struct Tracker<E: Event> {
    id: ActorId,
    name: Arc<str>,
    source: Box<dyn Source<E>>,
    feeds: Vec<(OutputId, Output)>,
    chains: Vec<(OutputId, Output)>,
    /// Removed outputs for which batches still wait.
    removed: Vec<Output>,
    /// Whether a reload keeps the tracker from draining its source.
    paused: bool,
    counters: Arc<TrackerCounters>,
    reports: flume::Sender<Report>,
    recorder: Option<PartRecorder>,
    /// `None` until the actor has started.
    timer: Option<DrainTimer>,
    wake: Option<AsyncFd<OwnedFd>>,
    /// Whether the last drain found nothing more, so that the next one waits for a tick.
    waiting: bool,
    stopping: Option<Instant>,
    delivered: u64,
    last_batch: usize,
    /// Losses that a warning has reported, and when.
    reported_losses: u64,
    last_warning: Option<Instant>,
}

/// How many outputs still have batches that wait.
struct Flushed {
    feeds_pending: usize,
    chains_pending: usize,
}

fn output(new: NewOutput) -> (OutputId, Output) {
    (new.id, Output::new(new.to))
}

/// What a tracker starts with, beside its source.
pub(crate) struct TrackerSetup {
    pub(crate) id: ActorId,
    pub(crate) name: Arc<str>,
    pub(crate) feeds: Vec<NewOutput>,
    pub(crate) chains: Vec<NewOutput>,
    pub(crate) counters: Arc<TrackerCounters>,
    pub(crate) reports: flume::Sender<Report>,
    /// Records what is sent, if there is a recording.
    pub(crate) recorder: Option<PartRecorder>,
}

impl<E: Event> Tracker<E> {
    pub(crate) fn new(source: Box<dyn Source<E>>, setup: TrackerSetup) -> Self {
        Self {
            id: setup.id,
            name: setup.name,
            source,
            feeds: setup.feeds.into_iter().map(output).collect(),
            chains: setup.chains.into_iter().map(output).collect(),
            removed: Vec::new(),
            paused: false,
            counters: setup.counters,
            reports: setup.reports,
            recorder: setup.recorder,
            timer: None,
            wake: None,
            waiting: false,
            stopping: None,
            delivered: 0,
            last_batch: 0,
            reported_losses: 0,
            last_warning: None,
        }
    }

    fn send_existing(&mut self, feeds: std::ops::Range<usize>) -> Result<(), SourceError> {
        if feeds.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        self.source.existing(&mut events)?;
        let batch = Batch::new(Arc::clone(&self.name), events);
        if let Some(recorder) = &self.recorder {
            recorder.batch(&batch, true);
        }
        for (_, feed) in &mut self.feeds[feeds] {
            feed.push(batch.clone());
        }
        Ok(())
    }

    fn send_existing_again(&mut self, feeds: std::ops::Range<usize>) {
        if let Err(error) = self.send_existing(feeds) {
            tracing::warn!(
                tracker = %self.name,
                %error,
                "cannot read again what existed before watching began"
            );
        }
    }

    /// Takes one batch from the source. Returns whether the source goes on.
    fn take(&mut self) -> Result<bool, SourceError> {
        let mut events = Vec::with_capacity(self.last_batch.next_power_of_two().clamp(16, BATCH));
        let drained = self.source.drain(&mut events, BATCH)?;
        self.last_batch = events.len();
        if let Some(newest) = events.last() {
            let age = Timestamp::now().0.saturating_sub(newest.time().0);
            self.counters.lag.store(age, Relaxed);
        }
        self.delivered += events.len() as u64;
        self.send(events);
        // A source that yields nothing has lost nothing: events are lost when there is no room.
        if drained != Drain::More && self.last_batch > 0 {
            self.count();
        }
        if drained != Drain::More {
            self.send_budgets();
        }
        match drained {
            Drain::More => {}
            Drain::Empty if self.stopping.is_some_and(|since| since.elapsed() > LAST_DRAIN) => {
                return Ok(false);
            }
            Drain::Empty => {
                self.waiting = true;
                self.counters.behind.store(false, Relaxed);
            }
            Drain::Ended => return Ok(false),
        }
        Ok(true)
    }

    /// Publishes the counters, and warns of losses.
    fn count(&mut self) {
        let counts = self.source.counts();
        let losses = counts.lost + counts.invalid;
        if losses > self.reported_losses
            && self.last_warning.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL)
        {
            tracing::warn!(
                tracker = %self.name,
                lost = counts.lost,
                unreadable = counts.invalid,
                "events were lost between the kernel and this program"
            );
            self.reported_losses = losses;
            self.last_warning = Some(Instant::now());
        }
        self.counters.write(counts, self.delivered);
    }

    /// Sends the budget events that are due.
    fn send_budgets(&mut self) {
        let mut events = Vec::new();
        self.source.budgets(&mut events);
        if !events.is_empty() {
            self.delivered += events.len() as u64;
            self.send(events);
            self.count();
        }
    }

    fn send<T: Event>(&mut self, events: Vec<T>) {
        if events.is_empty() {
            return;
        }
        let batch = Batch::new(Arc::clone(&self.name), events);
        if let Some(recorder) = &self.recorder {
            recorder.batch(&batch, false);
        }
        for (_, feed) in &mut self.feeds {
            feed.push(batch.clone());
        }
        for (_, chain) in &mut self.chains {
            chain.push_or_drop(batch.clone(), MAX_WAITING_EVENTS);
        }
    }

    /// Sends what waits. While the queues of all chains are full, nothing more is taken from the
    /// source. While only some are full, the other chains go on, and the excess of the full ones is
    /// dropped.
    fn poll_outputs(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let flushed = self.poll_each(task);
        if flushed.chains_pending > 0 || flushed.feeds_pending > 0 {
            self.counters.behind.store(true, Relaxed);
        }
        let stuck = flushed.chains_pending > 0 && flushed.chains_pending == self.chains.len();
        if stuck || flushed.feeds_pending > 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    /// As [`Tracker::poll_outputs`], but ready only when nothing waits for any output.
    fn poll_all_outputs(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let flushed = self.poll_each(task);
        let pending = flushed.chains_pending + flushed.feeds_pending + self.removed.len();
        if pending > 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    fn poll_each(&mut self, task: &mut Task<'_>) -> Flushed {
        // A chain that has ended early has counted what was on its way; a tracker counts only what
        // it handed over.
        let mut pending =
            |output: &mut Output| output.poll_flush(task, &mut Sent::default()).is_pending();
        self.removed.retain_mut(&mut pending);
        let mut count = |outputs: &mut Vec<(OutputId, Output)>| {
            outputs.iter_mut().map(|(_, output)| usize::from(pending(output))).sum()
        };
        Flushed { feeds_pending: count(&mut self.feeds), chains_pending: count(&mut self.chains) }
    }

    fn poll_wait(&mut self, task: &mut Task<'_>) -> Poll<()> {
        if let Some(wake) = &self.wake
            && let Poll::Ready(Ok(mut guard)) = wake.poll_read_ready(task)
        {
            guard.clear_ready();
            self.waiting = false;
            return Poll::Ready(());
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.poll(task));
        }
        self.waiting = false;
        Poll::Ready(())
    }

    fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        for _ in 0..TURN {
            ready!(self.poll_outputs(task));
            if self.paused {
                return Poll::Pending; // The next command wakes this.
            }
            if self.waiting {
                ready!(self.poll_wait(task));
            }
            match self.take() {
                Ok(true) => {}
                Ok(false) => {
                    ready!(self.poll_all_outputs(task));
                    return Poll::Ready(());
                }
                Err(error) => {
                    self.report(Report::Fatal {
                        name: Arc::clone(&self.name),
                        message: error.to_string(),
                    });
                    return Poll::Ready(());
                }
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    fn stop(&mut self) {
        if self.stopping.is_none() {
            self.source.detach();
            self.stopping = Some(Instant::now());
            self.waiting = false;
            self.paused = false;
        }
    }

    fn rewire(&mut self, change: Rewiring) {
        for outputs in [&mut self.feeds, &mut self.chains] {
            let removed = outputs.extract_if(.., |(id, _)| change.remove.contains(id));
            self.removed.extend(removed.map(|(_, output)| output));
        }
        let known = self.feeds.len();
        self.feeds.extend(change.feeds.into_iter().map(output));
        self.chains.extend(change.chains.into_iter().map(output));
        self.send_existing_again(known..self.feeds.len());
        self.paused = change.pause && self.stopping.is_none();
    }

    fn report(&self, report: Report) {
        // The system outlives its actors; if it is gone, there is nobody to report to.
        self.reports.send(report).ok();
    }
}

impl<E: Event> Actor for Tracker<E> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let wake = self.source.wake().and_then(|fd| fd.try_clone_to_owned().ok());
        self.wake = wake.and_then(|fd| watch(fd).ok());
        let timer = DrainTimer::new(self.source.interval().max(Duration::from_millis(1)));
        let existing = self.send_existing(0..self.feeds.len()).map_err(|e| e.to_string());
        let result = match timer {
            Ok(timer) => {
                self.timer = Some(timer);
                existing
            }
            Err(error) => Err(format!("cannot create a timer for its drains: {error}")),
        };
        self.report(Report::Built { id: self.id, name: Arc::clone(&self.name), result });
        ctx.spawn(Drive);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.count();
        self.report(Report::Ended { id: self.id });
    }
}

/// Drives the tracker until its source has ended.
struct Drive;

impl<E: Event> ActorFuture<Tracker<E>> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        tracker: &mut Tracker<E>,
        ctx: &mut Context<Tracker<E>>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        ready!(tracker.poll(task));
        ctx.stop();
        Poll::Ready(())
    }
}

impl<E: Event> Handler<TrackerCommand> for Tracker<E> {
    type Result = ();

    fn handle(&mut self, command: TrackerCommand, _: &mut Self::Context) {
        match command {
            TrackerCommand::Stop => self.stop(),
            TrackerCommand::SendExisting { feed } => {
                let place = self.feeds.iter().position(|(id, _)| *id == feed);
                if let Some(feed) = place {
                    self.send_existing_again(feed..feed + 1);
                }
            }
            TrackerCommand::Rewire(change) => self.rewire(change),
        }
    }
}
