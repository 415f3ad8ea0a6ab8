//! A handler in a replay: called directly, with a clock that the recording drives.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use whalewatch_core::handler::Context as Call;
use whalewatch_core::{
    Ahead, Batch, ChainId, Directory, Handler, HandlerCounters, HandlerError, Health, Mailbox,
    Outside, Schema, Setup,
};

/// What a handler is made with.
pub(crate) struct SeatSetup {
    pub(crate) name: Arc<str>,
    pub(crate) host_name: Arc<str>,
    pub(crate) directory: Directory,
    pub(crate) outside: Outside,
    pub(crate) chains: Vec<ChainId>,
    pub(crate) counters: Arc<HandlerCounters>,
}

/// How a call ended, if not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Whoever read its output is gone.
    Closed,
    /// It cannot go on.
    For(String),
}

/// A handler, erased. What a call gives is left in [`Seated::take`].
pub(crate) trait Seated {
    fn observe(&mut self, batch: &Batch) -> Result<(), Failed>;
    fn handle(&mut self, chain: ChainId, batch: Batch) -> Result<(), Failed>;
    /// A helper's message of the recording; whether it could be read.
    fn hear(&mut self, text: &str) -> Result<bool, Failed>;
    /// When its next timer is due, in nanoseconds since the Unix epoch.
    fn due(&self) -> Option<u64>;
    /// Its next timer goes off.
    fn fire(&mut self) -> Result<(), Failed>;
    /// Takes what its own helpers have sent meanwhile.
    fn collect(&mut self) -> Result<(), Failed>;
    fn flush(&mut self, chain: ChainId) -> Result<(), Failed>;
    fn end(&mut self, chain: ChainId) -> Result<(), Failed>;
    fn finish(&mut self) -> Result<(), Failed>;
    fn take(&mut self) -> Vec<(ChainId, Batch)>;
    fn counters(&self) -> &HandlerCounters;
    /// Whether what it emits at the end of a chain counts as delivered.
    fn passes_on(&self) -> bool;
}

/// A handler of its type.
pub(crate) struct Seat<H: Handler> {
    handler: H,
    outside: Outside,
    counters: Arc<HandlerCounters>,
    outgoing: Vec<(ChainId, Batch)>,
    messages: Receiver<H::Message>,
    /// By when they are due, and in the order that they were set.
    timers: BTreeMap<(u64, u64), H::Message>,
    set: u64,
}

impl<H: Handler> Seat<H> {
    pub(crate) fn new(
        options: &H::Options,
        input: &[Schema],
        setup: SeatSetup,
    ) -> Result<Self, String> {
        let (sender, messages) = channel();
        let outside = setup.outside.clone();
        let setup_of_handler = Setup {
            name: setup.name,
            host_name: setup.host_name,
            // A handler that has ended takes no more.
            mailbox: Mailbox::new(move |message| drop(sender.send(message))),
            directory: setup.directory,
            health: Health::default(),
            outside: setup.outside,
            ahead: Ahead::default(),
            chains: setup.chains,
        };
        let built =
            catch_unwind(AssertUnwindSafe(|| H::build_for(options, input, &setup_of_handler)));
        let handler = built.map_err(|_| String::from("it panicked while it was being built"))?;
        Ok(Self {
            handler: handler.map_err(|error| error.to_string())?,
            outside,
            counters: setup.counters,
            outgoing: Vec::new(),
            messages,
            timers: BTreeMap::new(),
            set: 0,
        })
    }

    fn call(
        &mut self,
        chain: ChainId,
        call: impl FnOnce(&mut H, &mut Call<'_, H::Message>) -> Result<(), HandlerError>,
    ) -> Result<(), Failed> {
        let mut timers = Vec::new();
        let mut cx = Call::new(chain, &self.counters, &mut self.outgoing, &mut timers);
        let handler = &mut self.handler;
        let result = catch_unwind(AssertUnwindSafe(|| call(handler, &mut cx)));
        let now = self.outside.now().0;
        for (after, message) in timers {
            self.set += 1;
            let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            self.timers.insert((now.saturating_add(after), self.set), message);
        }
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(HandlerError::Closed)) => Err(Failed::Closed),
            Ok(Err(error)) => Err(Failed::For(error.to_string())),
            Err(_) => Err(Failed::For(String::from("it panicked"))),
        }
    }
}

impl<H: Handler> Seated for Seat<H> {
    fn observe(&mut self, batch: &Batch) -> Result<(), Failed> {
        self.call(ChainId(0), |handler, cx| handler.observe(batch, cx))
    }

    fn handle(&mut self, chain: ChainId, batch: Batch) -> Result<(), Failed> {
        HandlerCounters::add(&self.counters.input, batch.len() as u64);
        self.call(chain, |handler, cx| handler.handle(batch, cx))
    }

    fn hear(&mut self, text: &str) -> Result<bool, Failed> {
        let Some(message) = H::recall(text) else { return Ok(false) };
        self.call(ChainId(0), |handler, cx| handler.message(message, cx))?;
        Ok(true)
    }

    fn due(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    fn fire(&mut self) -> Result<(), Failed> {
        let Some((_, message)) = self.timers.pop_first() else { return Ok(()) };
        self.call(ChainId(0), |handler, cx| handler.message(message, cx))
    }

    fn collect(&mut self) -> Result<(), Failed> {
        while let Ok(message) = self.messages.try_recv() {
            self.call(ChainId(0), |handler, cx| handler.message(message, cx))?;
        }
        Ok(())
    }

    fn flush(&mut self, chain: ChainId) -> Result<(), Failed> {
        self.call(chain, Handler::flush)
    }

    fn end(&mut self, chain: ChainId) -> Result<(), Failed> {
        self.call(chain, Handler::end)
    }

    fn finish(&mut self) -> Result<(), Failed> {
        self.call(ChainId(0), Handler::finish)
    }

    fn take(&mut self) -> Vec<(ChainId, Batch)> {
        std::mem::take(&mut self.outgoing)
    }

    fn counters(&self) -> &HandlerCounters {
        &self.counters
    }

    fn passes_on(&self) -> bool {
        H::PASSES_ON
    }
}
