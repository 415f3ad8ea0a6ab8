//! Calling a handler, without actors and without I/O.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{ChainContext, ChainId, Context, Handler, HandlerError, Setup};
use crate::batch::Batch;
use crate::error::with_causes;
use crate::stats::HandlerCounters;

/// Why a call of a handler failed.
#[derive(Debug)]
pub enum Failure {
    /// The handler returned an error.
    Error(HandlerError),
    /// The handler panicked, with this message.
    Panicked(String),
}

impl Failure {
    /// Whether the reader of the handler's output is gone, so that the run ends without an error.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Error(HandlerError::Closed))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => f.write_str(&with_causes(error)),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

impl std::error::Error for Failure {}

/// A handler with what its calls need: counters, and room for what a call emits and which timers it
/// sets.
///
/// It catches panics, keeps the accounts, and does no I/O. A driver brings batches and messages,
/// and after each call takes [`Hosted::outgoing`] and [`Hosted::timers`] and acts on them: the
/// engine's stage with queues and a clock, a replay with the recording's clock, a test bench with
/// neither.
pub struct Hosted<H: Handler> {
    handler: H,
    counters: Arc<HandlerCounters>,
    /// Batches that calls have emitted, with the chain that each goes along. The driver takes them.
    pub outgoing: Vec<(ChainId, Batch)>,
    /// Timers that calls have set: the delay and the message. The driver takes them.
    pub timers: Vec<(Duration, H::Message)>,
}

impl<H: Handler> Hosted<H> {
    /// Builds a handler.
    ///
    /// # Errors
    /// Why it could not be built, also if it panicked.
    pub fn build(
        options: &H::Options,
        setup: &Setup<H::Message>,
        counters: Arc<HandlerCounters>,
    ) -> Result<Self, String> {
        let built = catch_unwind(AssertUnwindSafe(|| H::build(options, setup)))
            .map_err(|panic| format!("panicked: {}", panic_message(&*panic)))?;
        Ok(Self::new(built.map_err(|error| error.to_string())?, counters))
    }

    /// Hosts a handler that was built by other means.
    pub fn new(handler: H, counters: Arc<HandlerCounters>) -> Self {
        Self { handler, counters, outgoing: Vec::new(), timers: Vec::new() }
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler, to be changed between calls: for tests.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// What has been counted.
    pub fn counters(&self) -> &Arc<HandlerCounters> {
        &self.counters
    }

    /// Brings a batch of `chain`, and counts its events as input.
    ///
    /// # Errors
    /// If [`Handler::handle`] fails.
    pub fn handle(&mut self, chain: ChainId, batch: Batch) -> Result<(), Failure> {
        HandlerCounters::add(&self.counters.input, batch.len() as u64);
        self.chain_call(chain, |handler, cx| handler.handle(batch, cx))
    }

    /// Brings a batch of a tracker that the handler observes. A handler that observes none ignores
    /// it.
    ///
    /// # Errors
    /// If [`Observe::observe`](super::Observe::observe) fails.
    pub fn observe(&mut self, batch: &Batch) -> Result<(), Failure> {
        let Some(observe) = H::DECLARATION.observe else { return Ok(()) };
        self.call(false, |handler, cx| observe(handler, batch, cx))
    }

    /// Brings a message. `behind` says whether events from a while ago may still be on their way to
    /// the handler.
    ///
    /// # Errors
    /// If [`Handler::message`] fails.
    pub fn message(&mut self, message: H::Message, behind: bool) -> Result<(), Failure> {
        self.call(behind, |handler, cx| handler.message(message, cx))
    }

    /// Brings a message as a recording has it. Returns whether the handler knows it.
    ///
    /// # Errors
    /// If [`Handler::message`] fails.
    pub fn recall(&mut self, recorded: &str) -> Result<bool, Failure> {
        let message = H::DECLARATION.recall.and_then(|recall| recall(recorded));
        let Some(message) = message else { return Ok(false) };
        self.message(message, false).map(|()| true)
    }

    /// Flushes what is buffered for `chain`.
    ///
    /// # Errors
    /// If [`Handler::flush`] fails.
    pub fn flush(&mut self, chain: ChainId) -> Result<(), Failure> {
        self.chain_call(chain, Handler::flush)
    }

    /// Puts the handler into `chain` while it runs.
    ///
    /// # Errors
    /// If [`Lifecycle::begin`](super::Lifecycle::begin) fails.
    pub fn begin(&mut self, chain: ChainId) -> Result<(), Failure> {
        let Some(begin) = H::DECLARATION.begin else { return Ok(()) };
        self.chain_call(chain, begin)
    }

    /// Ends `chain`. The driver calls [`Hosted::flush`] next.
    ///
    /// # Errors
    /// If [`Handler::end`] fails.
    pub fn end(&mut self, chain: ChainId) -> Result<(), Failure> {
        self.chain_call(chain, Handler::end)
    }

    /// Ends the handler: the last call.
    ///
    /// # Errors
    /// If [`Lifecycle::finish`](super::Lifecycle::finish) fails.
    pub fn finish(&mut self) -> Result<(), Failure> {
        let Some(finish) = H::DECLARATION.finish else { return Ok(()) };
        self.call(false, finish)
    }

    fn chain_call(
        &mut self,
        chain: ChainId,
        call: impl FnOnce(&mut H, &mut ChainContext<'_, H::Message>) -> Result<(), HandlerError>,
    ) -> Result<(), Failure> {
        let cx = Context::new(&self.counters, &mut self.outgoing, &mut self.timers);
        let mut cx = ChainContext::new(chain, cx);
        settle(catch_unwind(AssertUnwindSafe(|| call(&mut self.handler, &mut cx))))
    }

    fn call(
        &mut self,
        behind: bool,
        call: impl FnOnce(&mut H, &mut Context<'_, H::Message>) -> Result<(), HandlerError>,
    ) -> Result<(), Failure> {
        let cx = Context::new(&self.counters, &mut self.outgoing, &mut self.timers);
        let mut cx = cx.with_behind(behind);
        settle(catch_unwind(AssertUnwindSafe(|| call(&mut self.handler, &mut cx))))
    }
}

fn settle(result: std::thread::Result<Result<(), HandlerError>>) -> Result<(), Failure> {
    match result {
        Ok(result) => result.map_err(Failure::Error),
        Err(panic) => Err(Failure::Panicked(panic_message(&*panic).to_owned())),
    }
}

/// Returns the message of a caught panic, or "no message".
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
