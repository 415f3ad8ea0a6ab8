//! Sorts the events of several trackers by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use whalewatch_core::{Batch, ChainId, Timestamp};

/// The origin of a batch. At the same time, observed events come before those of chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// A tracker that the handler observes.
    Observed,
    /// A chain.
    Chain(ChainId),
}

/// A waiting batch. The events from `next` on remain.
#[derive(Debug)]
struct Waiting {
    batch: Batch,
    origin: Origin,
    next: usize,
}

/// Time of the next event of a waiting batch, the batch's origin, its arrival number, and its slot.
type Head = (Timestamp, Origin, u64, usize);

/// Batches that wait for earlier events of other batches. The order within a batch is kept.
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
    /// The latest time that has arrived.
    newest: Timestamp,
    /// The latest time that was released.
    passed: Timestamp,
    /// The value of `newest` at the last tick.
    mark: Timestamp,
    /// Events that arrived after later ones had been released.
    pub(crate) late: u64,
    /// Events released early because too many were waiting.
    pub(crate) early: u64,
}

/// Consecutive events of one batch.
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
            early: 0,
        }
    }

    /// Returns the number of waiting events.
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

    /// Returns the time up to which events can be released, because events later by `window` have
    /// arrived.
    pub(crate) fn settled(&self) -> Timestamp {
        Timestamp(self.newest.0.saturating_sub(self.window.as_nanos() as u64))
    }

    /// To be called when `window` has passed on the clock and no batches are queued. Returns the
    /// time up to which events can be released: those that had arrived at the previous tick.
    pub(crate) fn tick(&mut self) -> Timestamp {
        std::mem::replace(&mut self.mark, self.newest).max(self.settled())
    }

    /// Returns the next events up to a time, or of any time if too many are waiting. Return them
    /// with [`Order::done`].
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
            // The order within a batch is kept, so an event counts as no earlier than the one
            // before it.
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
            self.early += (end - next) as u64;
        }
        Some(Run { batch, origin, events: next..end, slot })
    }

    /// Takes back the rest of a batch.
    pub(crate) fn done(&mut self, run: Run) {
        let Run { batch, origin, events, slot } = run;
        if events.end < batch.len() {
            self.waiting[slot] = Some(Waiting { batch, origin, next: events.end });
        } else {
            self.free.push(slot);
        }
    }
}
