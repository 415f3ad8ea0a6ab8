//! `Tracker<E>`: drives a source and sends its events on in batches.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context, Handler, Message};
use tokio::io::unix::AsyncFd;
use whalewatch_core::{Batch, Drain, Event, Source, SourceCounts, SourceError, Timestamp};

use super::outlet::{Outlet, Sent};
use super::ticker::{Ticker, watch};
use super::{ActorId, Report};
use crate::queue::Inlet;
use crate::recording::Tap;

/// Events in a batch at most. Measured on a prototype of three actors: 16 a batch 15 M events/s,
/// 256 and more 30 M/s.
const BATCH: usize = 256;
/// Batches taken in one turn before other actors on the thread get theirs.
const TURN: usize = 16;

/// Events in line for a chain whose queue is full, while others take theirs, from which on more are
/// dropped for that chain.
const MOST_WAITING: u64 = 16_384;

/// How often at most a tracker says that events were lost.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long a source that was detached may go without saying that it has ended.
const LAST_DRAIN: Duration = Duration::from_secs(1);

/// What a tracker has counted, for statistics.
#[derive(Debug, Default)]
pub(crate) struct TrackerCounters {
    counts: Mutex<(SourceCounts, u64)>,
    /// How old the newest event was when it was read, in nanoseconds.
    lag: AtomicU64,
    /// Whether a full channel keeps the tracker from taking what its source has.
    behind: AtomicBool,
}

impl TrackerCounters {
    /// What the source counted when it was last asked, and how many of its events went on.
    pub(crate) fn read(&self) -> (SourceCounts, u64) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the source may hold events from a while ago.
    pub(crate) fn behind(&self) -> bool {
        self.behind.load(Relaxed)
    }

    /// How old the newest event was when it was read.
    pub(crate) fn lag(&self) -> Duration {
        Duration::from_nanos(self.lag.load(Relaxed))
    }

    pub(crate) fn write(&self, counts: SourceCounts, delivered: u64) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = (counts, delivered);
    }
}

/// Stop taking in new events, send on what there is, end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

/// Send what existed before watching began to the handler with this feed: it was made anew and
/// knows nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SendExisting {
    pub(crate) feed: LinkId,
}

/// Send to others from now on.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub(crate) struct Rewire {
    /// Links to send no more to, once what is in line for them has gone.
    pub(crate) remove: Vec<LinkId>,
    pub(crate) feeds: Vec<Link>,
    pub(crate) chains: Vec<Link>,
    /// Whether to take nothing more from the source until the next of these messages.
    pub(crate) hold: bool,
}

/// Tells one way out of a tracker from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// A way out of a tracker.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) to: Inlet,
}

/// Drives a [`Source`] and sends its events on in batches: first to the handlers that need this
/// tracker, then to the chains that name it. It knows nothing of containers.
pub(crate) struct Tracker<E: Event> {
    id: ActorId,
    name: Arc<str>,
    source: Box<dyn Source<E>>,
    feeds: Vec<(LinkId, Outlet)>,
    chains: Vec<(LinkId, Outlet)>,
    /// Those that get nothing more, with what is still in line for them.
    leaving: Vec<Outlet>,
    /// Whether nothing is taken from the source for the time being.
    held: bool,
    counters: Arc<TrackerCounters>,
    reports: flume::Sender<Report>,
    tap: Option<Tap>,
    /// There once the actor has started.
    ticker: Option<Ticker>,
    wake: Option<AsyncFd<OwnedFd>>,
    /// Whether there was nothing more at the last drain, so that the next one waits for a tick.
    waiting: bool,
    stopping: Option<Instant>,
    delivered: u64,
    last_batch: usize,
    /// Losses that have been told of, and when that was.
    told: u64,
    last_told: Option<Instant>,
}

/// How many outlets had no room for all that was in line.
struct Flushed {
    feeds_pending: usize,
    chains_pending: usize,
}

fn outlet(link: Link) -> (LinkId, Outlet) {
    (link.id, Outlet::new(link.to))
}

/// Where a tracker sends to and reports to.
pub(crate) struct Links {
    pub(crate) id: ActorId,
    pub(crate) name: Arc<str>,
    pub(crate) feeds: Vec<Link>,
    pub(crate) chains: Vec<Link>,
    pub(crate) counters: Arc<TrackerCounters>,
    pub(crate) reports: flume::Sender<Report>,
    /// Takes down what is sent, if that is asked for.
    pub(crate) tap: Option<Tap>,
}

impl<E: Event> Tracker<E> {
    pub(crate) fn new(source: Box<dyn Source<E>>, links: Links) -> Self {
        Self {
            id: links.id,
            name: links.name,
            source,
            feeds: links.feeds.into_iter().map(outlet).collect(),
            chains: links.chains.into_iter().map(outlet).collect(),
            leaving: Vec::new(),
            held: false,
            counters: links.counters,
            reports: links.reports,
            tap: links.tap,
            ticker: None,
            wake: None,
            waiting: false,
            stopping: None,
            delivered: 0,
            last_batch: 0,
            told: 0,
            last_told: None,
        }
    }

    fn send_existing(&mut self, feeds: std::ops::Range<usize>) -> Result<(), SourceError> {
        if feeds.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        self.source.existing(&mut events)?;
        let batch = Batch::new(Arc::clone(&self.name), events);
        if let Some(tap) = &self.tap {
            tap.batch(&batch, true);
        }
        for (_, feed) in &mut self.feeds[feeds] {
            feed.push(batch.clone());
        }
        Ok(())
    }

    fn send_existing_again(&mut self, feeds: std::ops::Range<usize>) {
        if let Err(error) = self.send_existing(feeds) {
            tracing::warn!(tracker = %self.name, %error, "what was there before could not be read again");
        }
    }

    /// Takes one batch from the source. Ready with whether it goes on.
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
        // A source that yields nothing has lost nothing either: loss is for want of room.
        if drained != Drain::More && self.last_batch > 0 {
            self.count();
        }
        if drained != Drain::More {
            self.tell_budgets();
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

    /// Publishes the counters; loss is never silent.
    fn count(&mut self) {
        let counts = self.source.counts();
        let gone = counts.lost + counts.invalid;
        if gone > self.told && self.last_told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            tracing::warn!(
                tracker = %self.name,
                lost = counts.lost,
                unreadable = counts.invalid,
                "events were lost between the kernel and this program"
            );
            self.told = gone;
            self.last_told = Some(Instant::now());
        }
        self.counters.write(counts, self.delivered);
    }

    /// Sends what there is to tell of budgets, if there is anything.
    fn tell_budgets(&mut self) {
        let mut told = Vec::new();
        self.source.budgets(&mut told);
        if !told.is_empty() {
            self.delivered += told.len() as u64;
            self.send(told);
            self.count();
        }
    }

    fn send<T: Event>(&mut self, events: Vec<T>) {
        if events.is_empty() {
            return;
        }
        let batch = Batch::new(Arc::clone(&self.name), events);
        if let Some(tap) = &self.tap {
            tap.batch(&batch, false);
        }
        for (_, feed) in &mut self.feeds {
            feed.push(batch.clone());
        }
        for (_, chain) in &mut self.chains {
            chain.push_or_drop(batch.clone(), MOST_WAITING);
        }
    }

    /// Sends what is in line. While every chain's queue is full, nothing more is taken from the
    /// source; while only some are, the others go on, and for these what is too much is dropped.
    fn poll_outlets(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let flushed = self.poll_each(task);
        if flushed.chains_pending > 0 || flushed.feeds_pending > 0 {
            self.counters.behind.store(true, Relaxed);
        }
        let stuck = flushed.chains_pending > 0 && flushed.chains_pending == self.chains.len();
        if stuck || flushed.feeds_pending > 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    /// As [`Tracker::poll_outlets`], but ready only when nothing is left in any line.
    fn poll_all_outlets(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let flushed = self.poll_each(task);
        let pending = flushed.chains_pending + flushed.feeds_pending + self.leaving.len();
        if pending > 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    fn poll_each(&mut self, task: &mut Task<'_>) -> Flushed {
        // A chain that has ended early has counted what was on its way; a tracker only counts what
        // it handed over.
        let mut pending =
            |outlet: &mut Outlet| outlet.poll_flush(task, &mut Sent::default()).is_pending();
        self.leaving.retain_mut(&mut pending);
        let mut count = |outlets: &mut Vec<(LinkId, Outlet)>| {
            outlets.iter_mut().map(|(_, outlet)| usize::from(pending(outlet))).sum()
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
        if let Some(ticker) = &mut self.ticker {
            ready!(ticker.poll(task));
        }
        self.waiting = false;
        Poll::Ready(())
    }

    fn poll_pump(&mut self, task: &mut Task<'_>) -> Poll<()> {
        for _ in 0..TURN {
            ready!(self.poll_outlets(task));
            if self.held {
                return Poll::Pending; // The message that lets it go wakes this.
            }
            if self.waiting {
                ready!(self.poll_wait(task));
            }
            match self.take() {
                Ok(true) => {}
                Ok(false) => {
                    ready!(self.poll_all_outlets(task));
                    // Nothing is left in line: what comes next would be another drain, which finds
                    // the same end.
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

    fn report(&self, report: Report) {
        // The system outlives its actors; if it is gone, nobody is left to be told.
        self.reports.send(report).ok();
    }
}

impl<E: Event> Actor for Tracker<E> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let wake = self.source.wake().and_then(|fd| fd.try_clone_to_owned().ok());
        self.wake = wake.and_then(|fd| watch(fd).ok());
        let ticker = Ticker::new(self.source.interval().max(Duration::from_millis(1)));
        let existing = self.send_existing(0..self.feeds.len()).map_err(|e| e.to_string());
        let result = match ticker {
            Ok(ticker) => {
                self.ticker = Some(ticker);
                existing
            }
            Err(error) => Err(format!("no timer for its drains: {error}")),
        };
        self.report(Report::Built { id: self.id, name: Arc::clone(&self.name), result });
        ctx.spawn(Pump);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.count();
        self.report(Report::Ended { id: self.id });
    }
}

/// Drives the tracker until its source has ended.
struct Pump;

impl<E: Event> ActorFuture<Tracker<E>> for Pump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        tracker: &mut Tracker<E>,
        ctx: &mut Context<Tracker<E>>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        ready!(tracker.poll_pump(task));
        ctx.stop();
        Poll::Ready(())
    }
}

impl<E: Event> Handler<Stop> for Tracker<E> {
    type Result = ();

    fn handle(&mut self, _: Stop, _: &mut Self::Context) {
        if self.stopping.is_none() {
            self.source.detach();
            self.stopping = Some(Instant::now());
            self.waiting = false;
            self.held = false;
        }
    }
}

impl<E: Event> Handler<SendExisting> for Tracker<E> {
    type Result = ();

    fn handle(&mut self, message: SendExisting, _: &mut Self::Context) {
        let Some(feed) = self.feeds.iter().position(|(id, _)| *id == message.feed) else { return };
        self.send_existing_again(feed..feed + 1);
    }
}

impl<E: Event> Handler<Rewire> for Tracker<E> {
    type Result = ();

    fn handle(&mut self, message: Rewire, _: &mut Self::Context) {
        for outlets in [&mut self.feeds, &mut self.chains] {
            let gone = outlets.extract_if(.., |(id, _)| message.remove.contains(id));
            self.leaving.extend(gone.map(|(_, outlet)| outlet));
        }
        let known = self.feeds.len();
        self.feeds.extend(message.feeds.into_iter().map(outlet));
        self.chains.extend(message.chains.into_iter().map(outlet));
        self.send_existing_again(known..self.feeds.len());
        self.held = message.hold && self.stopping.is_none();
    }
}
