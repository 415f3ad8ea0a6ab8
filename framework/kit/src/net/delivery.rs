//! A courier at the end of a chain.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{BuildError, Context, HandlerError, Setup};

use super::courier::{Answered, Courier, Jobs};
use super::telling::Seldom;

/// Carries events out of the program for a handler that is the end of its chains, and counts what
/// became of each: what arrived is delivered; what finds no room, is refused, given up, or not
/// answered by the end is dropped.
#[derive(Debug)]
pub struct Delivery<J> {
    courier: Courier<J>,
    handler: Arc<str>,
    stop_timeout: Duration,
    no_room: Seldom,
}

impl<J: Send + 'static> Delivery<J> {
    /// Starts it with room for so many events; see [`Courier::start`] for `work`. Whenever
    /// something was answered the handler gets the message that `answered` makes, and calls
    /// [`Delivery::settle`].
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<M, F>(
        setup: &Setup<M>,
        room: usize,
        stop_timeout: Duration,
        answered: impl Fn() -> M + Send + 'static,
        work: impl FnOnce(Jobs<J>) -> F + Send + 'static,
    ) -> Result<Self, BuildError>
    where
        M: Send + 'static,
        F: Future<Output = ()>,
    {
        let mailbox = setup.mailbox.clone();
        let courier = Courier::start(&setup.name, room, move || mailbox.send(answered()), work);
        let courier =
            courier.map_err(|error| BuildError(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            courier,
            handler: Arc::clone(&setup.name),
            stop_timeout,
            no_room: Seldom::default(),
        })
    }
}

impl<J> Delivery<J> {
    /// Gives a job of so many events. Where there is no room for it they are dropped.
    pub fn offer<M>(&mut self, job: J, events: u64, cx: &Context<'_, M>) {
        if self.courier.offer(job, events).is_err() {
            self.refuse(events, cx);
        }
    }

    /// Whether there is room for so many events more.
    pub fn has_room(&self, events: u64) -> bool {
        self.courier.has_room(events)
    }

    /// Drops so many events for want of room.
    pub fn refuse<M>(&mut self, events: u64, cx: &Context<'_, M>) {
        cx.dropped(events);
        if let Some(dropped) = self.no_room.count(events) {
            let handler = &*self.handler;
            tracing::warn!(
                handler,
                dropped,
                "no room in the queue: events come faster than they can be sent"
            );
        }
    }

    /// Counts what was answered meanwhile.
    ///
    /// # Errors
    /// If the work has ended though more may come.
    pub fn settle<M>(&mut self, cx: &Context<'_, M>) -> Result<(), HandlerError> {
        let Answered { delivered, dropped } = self.courier.answered();
        cx.delivered(delivered);
        cx.dropped(dropped);
        if self.courier.broken() {
            let message = "the thread that sends events has ended".to_owned();
            return Err(HandlerError::Failed { message, source: None });
        }
        Ok(())
    }

    /// Waits until everything is answered, but not longer than the time to stop. The rest is
    /// dropped and told of.
    ///
    /// # Errors
    /// As [`Delivery::settle`].
    pub fn finish<M>(&mut self, cx: &Context<'_, M>) -> Result<(), HandlerError> {
        self.settle(cx)?;
        self.courier.finish(self.stop_timeout);
        self.settle(cx)?;
        let dropped = self.courier.waiting();
        if dropped > 0 {
            cx.dropped(dropped);
            let (handler, within) = (&*self.handler, self.stop_timeout);
            tracing::warn!(handler, dropped, ?within, "stopped before all events could be sent");
        }
        self.courier.forget();
        Ok(())
    }
}
