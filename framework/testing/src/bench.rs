//! A handler alone, without the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use whalewatch_core::{
    Batch, ChainId, Event, Failure, Handler, HandlerCounters, Hosted, Mailbox, Problem, Schema,
    Setup,
};

/// The chain that the handler is in.
const CHAIN: ChainId = ChainId::new(0);

/// A handler alone in a chain, whose output is kept.
///
/// Time passes for the handler's timers only in [`Bench::advance`]; messages from its helper
/// threads are delivered by [`Bench::receive`].
pub struct Bench<H: Handler> {
    hosted: Hosted<H>,
    /// What has been counted. The counts add up once the handler has ended: see [`Bench::end`].
    pub counters: Arc<HandlerCounters>,
    /// What the handler has passed on.
    pub out: Vec<Batch>,
    timers: Vec<(Duration, H::Message)>,
    now: Duration,
    messages: Receiver<H::Message>,
}

impl<H: Handler> Bench<H> {
    /// Checks the options against events of type `E` and builds the handler, under the name
    /// `tested` on the machine `node-1`.
    ///
    /// # Errors
    /// What is wrong with the options, or why the handler could not be built.
    pub fn new<E: Event>(options: &H::Options) -> Result<Self, Vec<Problem>> {
        Self::with_input(options, &[Schema::of::<E>()])
    }

    /// As [`Bench::new`], with several types of events, or with none known.
    ///
    /// # Errors
    /// As [`Bench::new`].
    pub fn with_input(options: &H::Options, input: &[Schema]) -> Result<Self, Vec<Problem>> {
        let problems = H::check(options, input);
        if !problems.is_empty() {
            return Err(problems);
        }
        let (sender, messages) = channel();
        let mut setup = Self::setup(Mailbox::new(move |message| drop(sender.send(message))));
        setup.input = input.to_vec();
        setup.early_work = H::DECLARATION.start_early_work(options);
        let counters = Arc::<HandlerCounters>::default();
        let hosted = Hosted::build(options, &setup, Arc::clone(&counters))
            .map_err(|message| vec![Problem::new("", message)])?;
        let (out, timers, now) = (Vec::new(), Vec::new(), Duration::ZERO);
        Ok(Self { hosted, counters, out, timers, now, messages })
    }

    /// The setup that the bench builds handlers with, for tests and benchmarks that build one
    /// themselves: the name `tested`, the machine `node-1`, one chain.
    pub fn setup(mailbox: Mailbox<H::Message>) -> Setup<H::Message> {
        let mut setup = Setup::new("tested", "node-1", mailbox);
        setup.chains = vec![CHAIN];
        setup
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        self.hosted.handler()
    }

    /// The handler, to be changed between calls.
    pub fn handler_mut(&mut self) -> &mut H {
        self.hosted.handler_mut()
    }

    /// Brings a batch.
    ///
    /// # Errors
    /// If [`Handler::handle`] fails.
    pub fn handle(&mut self, batch: Batch) -> Result<(), Failure> {
        let result = self.hosted.handle(CHAIN, batch);
        self.collect(result)
    }

    /// Brings a batch of a tracker that the handler observes.
    ///
    /// # Errors
    /// If [`Observe::observe`](whalewatch_core::Observe::observe) fails.
    pub fn observe(&mut self, batch: &Batch) -> Result<(), Failure> {
        let result = self.hosted.observe(batch);
        self.collect(result)
    }

    /// Flushes what is buffered.
    ///
    /// # Errors
    /// If [`Handler::flush`] fails.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let result = self.hosted.flush(CHAIN);
        self.collect(result)
    }

    /// Ends the chain, flushes, and finishes the handler.
    ///
    /// # Errors
    /// If one of these calls fails.
    pub fn end(&mut self) -> Result<(), Failure> {
        let result = self.hosted.end(CHAIN);
        self.collect(result)?;
        self.flush()?;
        let result = self.hosted.finish();
        self.collect(result)
    }

    /// Lets time pass. Timers go off when they are due, in their order.
    ///
    /// # Errors
    /// If [`Handler::message`] fails.
    pub fn advance(&mut self, by: Duration) -> Result<(), Failure> {
        let until = self.now + by;
        loop {
            let next = self.timers.iter().enumerate().min_by_key(|(_, (due, _))| *due);
            let Some((at, _)) = next.filter(|(_, (due, _))| *due <= until) else { break };
            let (due, message) = self.timers.remove(at);
            self.now = self.now.max(due);
            self.message(message)?;
        }
        self.now = until;
        Ok(())
    }

    /// Brings a message.
    ///
    /// # Errors
    /// If [`Handler::message`] fails.
    pub fn message(&mut self, message: H::Message) -> Result<(), Failure> {
        let result = self.hosted.message(message, false);
        self.collect(result)
    }

    /// Waits at most `limit` for a message from one of the handler's helper threads, and delivers
    /// it. Returns whether one came in time.
    ///
    /// # Errors
    /// If [`Handler::message`] fails.
    pub fn receive(&mut self, limit: Duration) -> Result<bool, Failure> {
        let Ok(message) = self.messages.recv_timeout(limit) else { return Ok(false) };
        self.message(message)?;
        Ok(true)
    }

    /// Reads one of the counters.
    pub fn count(&self, counter: impl Fn(&HandlerCounters) -> &AtomicU64) -> u64 {
        counter(&self.counters).load(Relaxed)
    }

    /// Whether every event that came in or was added is counted where it left.
    pub fn adds_up(&self) -> bool {
        let c = &self.counters;
        let sum = |counters: &[&AtomicU64]| counters.iter().map(|c| c.load(Relaxed)).sum::<u64>();
        sum(&[&c.input, &c.added]) == sum(&[&c.output, &c.filtered, &c.dropped, &c.errors])
    }

    /// Keeps what a call emitted, and the timers that it set.
    fn collect(&mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        for (_, batch) in self.hosted.outgoing.drain(..) {
            // The engine counts this when the next handler in the chain has taken the batch.
            HandlerCounters::add(&self.counters.output, batch.len() as u64);
            self.out.push(batch);
        }
        let now = self.now;
        let due = self.hosted.timers.drain(..).map(|(after, message)| (now + after, message));
        self.timers.extend(due);
        result
    }
}
