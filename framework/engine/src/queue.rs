//! Queues: what stands between a handler and those who send to it.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, HandlerCounters, Problem};

/// Batches that a queue holds by default. With 256 events a batch this is room for 16 thousand
/// events.
const BATCHES: u32 = 64;
/// How many it can be told to hold: memory for a million events, some hundreds of MB.
const MOST_BATCHES: u32 = 4096;

/// What becomes of a batch that finds its handler's queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It waits, and with it the chain up to its trackers; then the kernel's buffer fills, and what
    /// finds no room there is lost. Other chains go on.
    #[default]
    Block,
    /// It is dropped.
    DropNewest,
    /// The batch that waits longest is dropped for it.
    DropOldest,
}

impl WhenFull {
    /// The word in the configuration.
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

/// Options that every handler has: its queue's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueOptions {
    /// What becomes of events that find the handler's queue full: `block` has them wait, and the
    /// chain with them; `drop_newest` drops them; `drop_oldest` drops those that wait longest. What
    /// is dropped is counted, by container too.
    pub when_full: WhenFull,
    /// How many batches (of at most 256 events each) its queue holds, 1 to 4096, in each chain.
    pub queue: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { when_full: WhenFull::default(), queue: BATCHES }
    }
}

impl QueueOptions {
    /// The keys that are these options'.
    pub(crate) const KEYS: [&str; 2] = ["when_full", "queue"];

    pub(crate) fn check(&self) -> Vec<Problem> {
        if (1..=MOST_BATCHES).contains(&self.queue) {
            return Vec::new();
        }
        let message = format!("{} is out of range: expected 1 to {MOST_BATCHES}", self.queue);
        vec![Problem::new("queue", message).hint("each batch has up to 256 events")]
    }

    /// A queue for a handler that counts in `counters`.
    pub(crate) fn open(
        &self,
        counters: &Arc<HandlerCounters>,
    ) -> (QueueSender, flume::Receiver<Batch>) {
        let (sender, receiver) = flume::bounded(self.queue.clamp(1, MOST_BATCHES) as usize);
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
    /// To take out what waits longest.
    oldest: Option<flume::Receiver<Batch>>,
    counters: Arc<HandlerCounters>,
}

/// What became of a batch.
pub(crate) enum Offered {
    /// The queue, or its policy, has taken it.
    Taken,
    /// There is no room, and it is to wait for some.
    Full(Batch),
    /// Nobody takes from the queue any more.
    Gone,
}

impl QueueSender {
    /// Puts a batch into the queue, or does with it as the policy says.
    pub(crate) fn offer(&self, mut batch: Batch) -> Offered {
        // Each turn takes one batch out, so there is an end to it even where others fill the queue
        // again.
        for _ in 0..=MOST_BATCHES {
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

    /// Counts a batch as come to the handler and dropped there.
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
        Batch::new(number.to_string().into(), vec![whalewatch_kit::testing::example()])
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
    fn a_full_queue_does_as_it_is_told() {
        assert_eq!(five(WhenFull::Block), (vec![1, 2], 0, 0, 3));
        assert_eq!(five(WhenFull::DropNewest), (vec![1, 2], 3, 3, 0));
        assert_eq!(five(WhenFull::DropOldest), (vec![4, 5], 3, 3, 0));
    }

    #[test]
    fn a_queue_has_room_for_something() {
        let problems = |queue| QueueOptions { queue, ..QueueOptions::default() }.check().len();
        assert_eq!((problems(0), problems(1), problems(4096), problems(4097)), (1, 0, 0, 1));
    }
}
