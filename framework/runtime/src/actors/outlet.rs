//! The sending end of a channel to the next stage.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use flume::r#async::SendFut;
use whalewatch_core::Batch;

/// Sends batches in order and never blocks: what finds no room waits here, and whoever feeds the outlet takes in nothing
/// more until [`Outlet::poll_flush`] says that it is through. So it holds what one call of a handler made, and no more.
pub(crate) struct Outlet {
    sender: flume::Sender<Batch>,
    waiting: VecDeque<Batch>,
    sending: Option<(u64, SendFut<'static, Batch>)>,
}

/// Events that left an outlet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Taken by the channel.
    pub(crate) sent: u64,
    /// Refused, because nobody takes from the channel any more.
    pub(crate) dropped: u64,
}

impl Outlet {
    pub(crate) fn new(sender: flume::Sender<Batch>) -> Self {
        Self { sender, waiting: VecDeque::new(), sending: None }
    }

    /// Puts a batch in line. It goes with the next [`Outlet::poll_flush`].
    pub(crate) fn push(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.waiting.push_back(batch);
        }
    }

    /// Events that are in line.
    pub(crate) fn waiting(&self) -> u64 {
        let sending = self.sending.as_ref().map_or(0, |(count, _)| *count);
        sending + self.waiting.iter().map(|batch| batch.len() as u64).sum::<u64>()
    }

    /// Sends what is in line. Ready when nothing is left; `left` tells what went, also when pending.
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
            match self.sender.try_send(batch) {
                Ok(()) => left.sent += count,
                Err(flume::TrySendError::Disconnected(_)) => left.dropped += count,
                Err(flume::TrySendError::Full(batch)) => {
                    self.sending = Some((count, self.sender.clone().into_send_async(batch)));
                }
            }
        }
    }
}
