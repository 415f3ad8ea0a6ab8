//! A courier at the end of a chain.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{BuildError, Context, HandlerError, Setup};

use super::courier::{Answered, Courier, Jobs};
use super::telling::Seldom;

/// Sends events out of the program for a handler at the end of its chains, and counts the outcome
/// of each: events that arrive are delivered; events that find no room, are refused, given up on,
/// or not answered by the end are dropped.
#[derive(Debug)]
pub struct Delivery<J> {
    courier: Courier<J>,
    handler: Arc<str>,
    stop_timeout: Duration,
    no_room: Seldom,
}

impl<J: Send + 'static> Delivery<J> {
    /// Starts the thread, with `room` for this many events; see [`Courier::start`] for `work`.
    /// After each answer the handler gets the message that `answered` returns, and calls
    /// [`Delivery::settle`].
    ///
    /// # Errors
    /// If the system cannot start the thread.
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
    /// Passes on a job of this many events, or drops them if there is no room.
    pub fn offer<M>(&mut self, job: J, events: u64, cx: &Context<'_, M>) {
        if self.courier.offer(job, events).is_err() {
            self.refuse(events, cx);
        }
    }

    /// Whether there is room for this many more events.
    pub fn has_room(&self, events: u64) -> bool {
        self.courier.has_room(events)
    }

    /// Drops this many events because there is no room.
    pub fn refuse<M>(&mut self, events: u64, cx: &Context<'_, M>) {
        cx.dropped(events);
        if let Some(dropped) = self.no_room.count(events) {
            let handler = &*self.handler;
            tracing::warn!(
                handler,
                dropped,
                "queue full, dropping events: they arrive faster than they can be sent"
            );
        }
    }

    /// Counts the answers since the last call.
    ///
    /// # Errors
    /// If the thread has ended early.
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

    /// Waits until every job is answered, at most for `stop_timeout`. The rest is dropped and
    /// logged.
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
            tracing::warn!(
                handler,
                dropped,
                ?within,
                "stopped before all events could be sent, dropping the rest"
            );
        }
        self.courier.forget();
        Ok(())
    }
}
