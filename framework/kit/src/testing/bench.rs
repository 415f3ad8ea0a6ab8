//! A handler alone, without the runtime.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use whalewatch_core::{
    Batch, ChainId, Context, Directory, Event, Handler, HandlerCounters, HandlerError, Health,
    Mailbox, Outside, Problem, Schema, Setup,
};

/// The chain that the handler stands in.
const CHAIN: ChainId = ChainId(0);

/// A handler in a chain of its own; what it gives is taken down.
///
/// For the timers that the handler sets, time passes only in [`Bench::advance`]; messages from its
/// helpers come in with [`Bench::receive`].
pub struct Bench<H: Handler> {
    /// The handler.
    pub handler: H,
    /// What was counted. They add up when the handler has ended: see [`Bench::end`].
    pub counters: HandlerCounters,
    /// What it has passed on.
    pub out: Vec<Batch>,
    timers: Vec<(Duration, H::Message)>,
    now: Duration,
    messages: Receiver<H::Message>,
}

impl<H: Handler> Bench<H> {
    /// Checks the options against events of type `E` and builds the handler, under the name
    /// `tested` on the host `node-1`.
    ///
    /// # Errors
    /// What is wrong with the options, or why it could not be built.
    pub fn new<E: Event>(options: &H::Options) -> Result<Self, Vec<Problem>> {
        Self::with_input(options, &[Schema::of::<E>()])
    }

    /// As [`Bench::new`], with several types of events, or none known.
    ///
    /// # Errors
    /// As [`Bench::new`].
    pub fn with_input(options: &H::Options, input: &[Schema]) -> Result<Self, Vec<Problem>> {
        let problems = H::check(options, input);
        if !problems.is_empty() {
            return Err(problems);
        }
        let (sender, messages) = channel();
        let setup = Setup {
            name: "tested".into(),
            host_name: "node-1".into(),
            // A handler that has ended takes no more.
            mailbox: Mailbox::new(move |message| drop(sender.send(message))),
            directory: Directory::default(),
            health: Health::default(),
            outside: Outside::default(),
            ahead: H::ahead(options),
            chains: vec![CHAIN],
        };
        let handler = H::build_for(options, input, &setup)
            .map_err(|e| vec![Problem::new("", e.to_string())])?;
        Ok(Self {
            handler,
            counters: HandlerCounters::default(),
            out: Vec::new(),
            timers: Vec::new(),
            now: Duration::ZERO,
            messages,
        })
    }

    /// Brings a batch.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    pub fn handle(&mut self, batch: Batch) -> Result<(), HandlerError> {
        HandlerCounters::add(&self.counters.input, batch.len() as u64);
        self.call(|handler, cx| handler.handle(batch, cx))
    }

    /// Brings a batch of a tracker that the handler needs.
    ///
    /// # Errors
    /// As [`Handler::observe`].
    pub fn observe(&mut self, batch: &Batch) -> Result<(), HandlerError> {
        self.call(|handler, cx| handler.observe(batch, cx))
    }

    /// As [`Handler::flush`].
    ///
    /// # Errors
    /// As [`Handler::flush`].
    pub fn flush(&mut self) -> Result<(), HandlerError> {
        self.call(Handler::flush)
    }

    /// Nothing more comes: as [`Handler::end`], then [`Handler::flush`], then [`Handler::finish`].
    ///
    /// # Errors
    /// As these.
    pub fn end(&mut self) -> Result<(), HandlerError> {
        self.call(Handler::end)?;
        self.flush()?;
        self.call(Handler::finish)
    }

    /// Time passes; timers come when they are due, in their order.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn advance(&mut self, by: Duration) -> Result<(), HandlerError> {
        let until = self.now + by;
        loop {
            let next = self.timers.iter().enumerate().min_by_key(|(_, (due, _))| *due);
            let Some((at, _)) = next.filter(|(_, (due, _))| *due <= until) else { break };
            let (due, message) = self.timers.remove(at);
            self.now = self.now.max(due);
            self.call(|handler, cx| handler.message(message, cx))?;
        }
        self.now = until;
        Ok(())
    }

    /// Brings a message.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn message(&mut self, message: H::Message) -> Result<(), HandlerError> {
        self.call(|handler, cx| handler.message(message, cx))
    }

    /// Waits for a message from one of the handler's helpers and brings it; whether one came in
    /// time.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn receive(&mut self, limit: Duration) -> Result<bool, HandlerError> {
        let Ok(message) = self.messages.recv_timeout(limit) else { return Ok(false) };
        self.call(|handler, cx| handler.message(message, cx))?;
        Ok(true)
    }

    /// One of the counters.
    pub fn count(&self, counter: impl Fn(&HandlerCounters) -> &AtomicU64) -> u64 {
        counter(&self.counters).load(Relaxed)
    }

    /// Whether every event that came in or was made is counted where it left.
    pub fn adds_up(&self) -> bool {
        let c = &self.counters;
        let sum = |counters: &[&AtomicU64]| counters.iter().map(|c| c.load(Relaxed)).sum::<u64>();
        sum(&[&c.input, &c.added]) == sum(&[&c.output, &c.filtered, &c.dropped, &c.errors])
    }

    fn call(
        &mut self,
        call: impl FnOnce(&mut H, &mut Context<'_, H::Message>) -> Result<(), HandlerError>,
    ) -> Result<(), HandlerError> {
        let (mut outgoing, mut timers) = (Vec::new(), Vec::new());
        let mut cx = Context::new(CHAIN, &self.counters, &mut outgoing, &mut timers);
        let result = call(&mut self.handler, &mut cx);
        for (_, batch) in outgoing {
            // As the runtime does when the next in the chain has taken it.
            HandlerCounters::add(&self.counters.output, batch.len() as u64);
            self.out.push(batch);
        }
        let due = timers.into_iter().map(|(after, message)| (self.now + after, message));
        self.timers.extend(due);
        result
    }
}
