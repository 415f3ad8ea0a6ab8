//! The sending end of a queue.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use flume::r#async::SendFut;
use whalewatch_core::Batch;

use crate::queue::{Inlet, Offered};

/// Sends batches in order and never blocks: what finds no room waits here, and whoever feeds the
/// outlet takes in nothing more until [`Outlet::poll_flush`] says that it is through. So it holds
/// what one call of a handler made, and no more.
pub(crate) struct Outlet {
    inlet: Inlet,
    waiting: VecDeque<Batch>,
    sending: Option<(u64, SendFut<'static, Batch>)>,
}

/// Events that left an outlet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Taken by the queue.
    pub(crate) sent: u64,
    /// Refused, because nobody takes from the queue any more.
    pub(crate) dropped: u64,
}

impl Outlet {
    pub(crate) fn new(inlet: Inlet) -> Self {
        Self { inlet, waiting: VecDeque::new(), sending: None }
    }

    /// Puts a batch in line. It goes with the next [`Outlet::poll_flush`].
    pub(crate) fn push(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.waiting.push_back(batch);
        }
    }

    /// As [`Outlet::push`], but where `most` events are in line already it is dropped, on the
    /// account of the handler that it was for.
    pub(crate) fn push_or_drop(&mut self, batch: Batch, most: u64) {
        if self.waiting() >= most {
            self.inlet.refuse(&batch);
        } else {
            self.push(batch);
        }
    }

    /// Events that are in line.
    pub(crate) fn waiting(&self) -> u64 {
        let sending = self.sending.as_ref().map_or(0, |(count, _)| *count);
        sending + self.waiting.iter().map(|batch| batch.len() as u64).sum::<u64>()
    }

    /// Sends what is in line. Ready when nothing is left; `left` tells what went, also when
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
            match self.inlet.offer(batch) {
                Offered::Taken => left.sent += count,
                Offered::Gone => left.dropped += count,
                Offered::Full(batch) => {
                    let sending = self.inlet.sender().clone().into_send_async(batch);
                    self.sending = Some((count, sending));
                }
            }
        }
    }
}
