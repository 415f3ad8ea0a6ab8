//! Puts the events of several trackers in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use whalewatch_core::{Batch, ChainId, Timestamp};

/// Where a batch came from. For the same time, what was observed comes before what a chain brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A tracker that the handler needs.
    Observed,
    /// A chain.
    Chain(ChainId),
}

/// A batch that waits, from its event at `next` on.
#[derive(Debug)]
struct Waiting {
    batch: Batch,
    origin: Origin,
    next: usize,
}

/// Time of a waiting batch's next event, where it came from, which in turn it came, and where it
/// waits.
type Head = (Timestamp, Origin, u64, usize);

/// Batches that wait for others with earlier events. A batch keeps its own order.
#[derive(Debug)]
pub(crate) struct Order {
    /// How long an event waits for earlier ones.
    window: Duration,
    most: usize,
    heads: BinaryHeap<Reverse<Head>>,
    waiting: Vec<Option<Waiting>>,
    free: Vec<usize>,
    events: usize,
    arrivals: u64,
    /// The latest time that came in.
    newest: Timestamp,
    /// The latest time that was let go.
    passed: Timestamp,
    /// What `newest` was at the last tick.
    mark: Timestamp,
    /// Events that came after later ones had gone.
    pub(crate) late: u64,
    /// Events that went early for want of room.
    pub(crate) hurried: u64,
}

/// Events of one batch that follow each other.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) batch: Batch,
    pub(crate) origin: Origin,
    pub(crate) events: Range<usize>,
    slot: usize,
}

impl Order {
    pub(crate) fn new(window: Duration, most: usize) -> Self {
        Self {
            window,
            most,
            heads: BinaryHeap::new(),
            waiting: Vec::new(),
            free: Vec::new(),
            events: 0,
            arrivals: 0,
            newest: Timestamp::default(),
            passed: Timestamp::default(),
            mark: Timestamp::default(),
            late: 0,
            hurried: 0,
        }
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        self.events
    }

    pub(crate) fn push(&mut self, batch: Batch, origin: Origin) {
        let Some((first, last)) = batch.get(0).zip(batch.get(batch.len().saturating_sub(1))) else {
            return;
        };
        let (first, last) = (first.time(), last.time());
        self.newest = self.newest.max(first).max(last);
        if first < self.passed {
            let late = batch.iter().take_while(|event| event.time() < self.passed).count();
            self.late += late as u64;
        }
        self.events += batch.len();
        self.arrivals += 1;
        let waiting = Waiting { batch, origin, next: 0 };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.waiting[slot] = Some(waiting);
                slot
            }
            None => {
                self.waiting.push(Some(waiting));
                self.waiting.len() - 1
            }
        };
        self.heads.push(Reverse((first, origin, self.arrivals, slot)));
    }

    /// Up to when events may go as others later by the window have come.
    pub(crate) fn settled(&self) -> Timestamp {
        Timestamp(self.newest.0.saturating_sub(self.window.as_nanos() as u64))
    }

    /// A window has passed on the clock and nothing is under way: up to when events may go, which
    /// are those that were here then.
    pub(crate) fn tick(&mut self) -> Timestamp {
        std::mem::replace(&mut self.mark, self.newest).max(self.settled())
    }

    /// The next events up to a time; all that is too much, whatever its time. Give them back with
    /// [`Order::done`].
    pub(crate) fn next(&mut self, until: Timestamp) -> Option<Run> {
        let Reverse((time, _, turn, slot)) = *self.heads.peek()?;
        let hurry = self.events > self.most;
        if time > until && !hurry {
            return None;
        }
        self.heads.pop();
        let before = self.heads.peek().map(|Reverse(head)| *head);
        let Waiting { batch, origin, next } = self.waiting[slot].take()?;
        let mut end = next;
        let mut reached = time;
        while let Some(event) = batch.get(end) {
            // A batch keeps its own order, so an event counts as no earlier than the one before it.
            let at = event.time().max(reached);
            let first = before.is_none_or(|before| (at, origin, turn, slot) < before);
            if end > next && (at > until || !first) {
                self.heads.push(Reverse((at, origin, turn, slot)));
                break;
            }
            reached = at;
            end += 1;
        }
        self.passed = self.passed.max(reached);
        self.events -= end - next;
        if time > until {
            self.hurried += (end - next) as u64;
        }
        Some(Run { batch, origin, events: next..end, slot })
    }

    /// Takes back what is left of a batch.
    pub(crate) fn done(&mut self, run: Run) {
        let Run { batch, origin, events, slot } = run;
        if events.end < batch.len() {
            self.waiting[slot] = Some(Waiting { batch, origin, next: events.end });
        } else {
            self.free.push(slot);
        }
    }
}
