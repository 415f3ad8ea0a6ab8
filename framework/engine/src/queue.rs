//! The bounded queue in front of each handler.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, HandlerCounters, Problem};

/// Default capacity of a queue, in batches. With 256 events per batch, this is room for 16 thousand
/// events.
const DEFAULT_BATCHES: u32 = 64;
/// Largest capacity of a queue, in batches: a million events, some hundreds of MB.
const MAX_BATCHES: u32 = 4096;

/// What happens to a batch if the queue of its handler is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The batch waits, and blocks its chain up to the trackers. When the kernel's buffer is full
    /// too, further events are lost. Other chains continue.
    #[default]
    Block,
    /// The batch is dropped.
    DropNewest,
    /// The oldest batch in the queue is dropped to make room.
    DropOldest,
}

impl WhenFull {
    /// Returns the word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropNewest => "drop_newest",
            Self::DropOldest => "drop_oldest",
        }
    }
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Options that every handler has: those of its queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueOptions {
    /// What happens when the handler's queue is full: `block` makes the chain wait; `drop_newest`
    /// drops the new events; `drop_oldest` drops the events that have waited longest. Dropped
    /// events are counted, in total and by container.
    pub when_full: WhenFull,
    /// Capacity of the handler's queue, in batches of at most 256 events: 1 to 4096. In each chain,
    /// the handler has its own queue.
    pub queue: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { when_full: WhenFull::default(), queue: DEFAULT_BATCHES }
    }
}

impl QueueOptions {
    /// The keys of these options.
    pub(crate) const KEYS: [&str; 2] = ["when_full", "queue"];

    pub(crate) fn check(&self) -> Vec<Problem> {
        let problem = Problem::check_range("queue", self.queue, 1..=MAX_BATCHES);
        let hint = "the unit is batches, of up to 256 events each";
        problem.map(|problem| problem.hint(hint)).into_iter().collect()
    }

    /// Opens a queue for a handler that counts in `counters`.
    pub(crate) fn open(
        &self,
        counters: &Arc<HandlerCounters>,
    ) -> (QueueSender, flume::Receiver<Batch>) {
        let (sender, receiver) = flume::bounded(self.queue.clamp(1, MAX_BATCHES) as usize);
        let oldest = (self.when_full == WhenFull::DropOldest).then(|| receiver.clone());
        let counters = Arc::clone(counters);
        (QueueSender { sender, when_full: self.when_full, oldest, counters }, receiver)
    }
}

/// The sending end of a handler's queue.
#[derive(Clone)]
pub(crate) struct QueueSender {
    sender: flume::Sender<Batch>,
    when_full: WhenFull,
    /// Receiver to remove the oldest batch with; only for [`WhenFull::DropOldest`].
    oldest: Option<flume::Receiver<Batch>>,
    counters: Arc<HandlerCounters>,
}

/// The outcome of an offer.
pub(crate) enum Offered {
    /// The batch is in the queue, or was dropped and counted.
    Taken,
    /// The queue is full, and the batch must wait.
    Full(Batch),
    /// The receiver has gone.
    Gone,
}

impl QueueSender {
    /// Puts a batch into the queue. If the queue is full, the policy decides.
    pub(crate) fn offer(&self, mut batch: Batch) -> Offered {
        // The bound ends the loop even if other senders refill the queue each time.
        for _ in 0..=MAX_BATCHES {
            batch = match self.sender.try_send(batch) {
                Ok(()) => return Offered::Taken,
                Err(flume::TrySendError::Disconnected(_)) => return Offered::Gone,
                Err(flume::TrySendError::Full(batch)) => batch,
            };
            match (self.when_full, &self.oldest) {
                (WhenFull::Block, _) => return Offered::Full(batch),
                (WhenFull::DropOldest, Some(oldest)) => {
                    if let Ok(old) = oldest.try_recv() {
                        self.refuse(&old);
                    }
                }
                _ => break,
            }
        }
        self.refuse(&batch);
        Offered::Taken
    }

    /// Counts a batch as received by the handler and dropped.
    pub(crate) fn refuse(&self, batch: &Batch) {
        HandlerCounters::add(&self.counters.input, batch.len() as u64);
        self.counters.drop_batch(batch);
    }

    pub(crate) fn sender(&self) -> &flume::Sender<Batch> {
        &self.sender
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn batch(number: u64) -> Batch {
        Batch::new(number.to_string().into(), vec![whalewatch_testing::example()])
    }

    fn numbers(receiver: &flume::Receiver<Batch>) -> Vec<u64> {
        receiver.try_iter().map(|batch| batch.tracker().parse().expect("a number")).collect()
    }

    /// Offers five batches to a queue with room for two.
    fn five(when_full: WhenFull) -> (Vec<u64>, u64, u64, usize) {
        let counters = Arc::new(HandlerCounters::default());
        let options = QueueOptions { when_full, queue: 2 };
        let (inlet, receiver) = options.open(&counters);
        let full = (1..=5).filter(|&n| matches!(inlet.offer(batch(n)), Offered::Full(_))).count();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        (numbers(&receiver), count(&counters.input), count(&counters.dropped), full)
    }

    #[test]
    fn full_queue_follows_its_policy() {
        assert_eq!(five(WhenFull::Block), (vec![1, 2], 0, 0, 3));
        assert_eq!(five(WhenFull::DropNewest), (vec![1, 2], 3, 3, 0));
        assert_eq!(five(WhenFull::DropOldest), (vec![4, 5], 3, 3, 0));
    }

    #[test]
    fn queue_capacity_is_between_1_and_4096() {
        let problems = |queue| QueueOptions { queue, ..QueueOptions::default() }.check().len();
        assert_eq!((problems(0), problems(1), problems(4096), problems(4097)), (1, 0, 0, 1));
    }
}
