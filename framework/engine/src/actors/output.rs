//! The sending end of a queue.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use flume::r#async::SendFut;
use whalewatch_core::Batch;

use crate::queue::{Offered, QueueSender};

/// Sends batches in order and never blocks. Batches that find no room wait here, and the owner
/// takes no input until [`Output::poll_flush`] is ready. So an output holds what one call of a
/// handler made, and no more.
pub(crate) struct Output {
    queue: QueueSender,
    waiting: VecDeque<Batch>,
    sending: Option<(u64, SendFut<'static, Batch>)>,
}

/// Events that left an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Taken by the queue.
    pub(crate) sent: u64,
    /// Refused, because nobody takes from the queue any more.
    pub(crate) dropped: u64,
}

impl Output {
    pub(crate) fn new(queue: QueueSender) -> Self {
        Self { queue, waiting: VecDeque::new(), sending: None }
    }

    /// Queues a batch. It leaves with the next [`Output::poll_flush`].
    pub(crate) fn push(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.waiting.push_back(batch);
        }
    }

    /// As [`Output::push`], but drops the batch if `max_events` or more are waiting already. The
    /// handler that it was for counts it as dropped.
    pub(crate) fn push_or_drop(&mut self, batch: Batch, max_events: u64) {
        if self.waiting() >= max_events {
            self.queue.refuse(&batch);
        } else {
            self.push(batch);
        }
    }

    /// The number of events that wait.
    pub(crate) fn waiting(&self) -> u64 {
        let sending = self.sending.as_ref().map_or(0, |(count, _)| *count);
        sending + self.waiting.iter().map(|batch| batch.len() as u64).sum::<u64>()
    }

    /// Sends what waits. Ready when nothing is left. `left` counts the events that left, also while
    /// pending.
    pub(crate) fn poll_flush(&mut self, task: &mut Context<'_>, left: &mut Sent) -> Poll<()> {
        loop {
            if let Some((count, sending)) = &mut self.sending {
                match Pin::new(sending).poll(task) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => left.sent += *count,
                    Poll::Ready(Err(_)) => left.dropped += *count,
                }
                self.sending = None;
            }
            let Some(batch) = self.waiting.pop_front() else { return Poll::Ready(()) };
            let count = batch.len() as u64;
            match self.queue.offer(batch) {
                Offered::Taken => left.sent += count,
                Offered::Gone => left.dropped += count,
                Offered::Full(batch) => {
                    let sending = self.queue.sender().clone().into_send_async(batch);
                    self.sending = Some((count, sending));
                }
            }
        }
    }
}
