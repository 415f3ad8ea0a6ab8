//! A handler in a replay: called directly, with a clock that the recording drives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use whalewatch_core::{
    Batch, ChainId, Directory, Failure, Handler, HandlerCounters, Hosted, Mailbox, Outside, Schema,
    Setup,
};

/// What a handler starts with in a replay, beside its options.
pub(crate) struct OfflineSetup {
    pub(crate) name: Arc<str>,
    pub(crate) host_name: Arc<str>,
    pub(crate) directory: Directory,
    pub(crate) outside: Outside,
    pub(crate) chains: Vec<ChainId>,
    pub(crate) counters: Arc<HandlerCounters>,
}

/// A handler in a replay, its type erased. What a call emits is left for
/// [`OfflineHandler::take_outgoing`].
pub(crate) trait OfflineHandler {
    fn observe(&mut self, batch: &Batch) -> Result<(), Failure>;
    fn handle(&mut self, chain: ChainId, batch: Batch) -> Result<(), Failure>;
    /// Delivers a recorded message. Returns whether the handler knows it.
    fn recall(&mut self, recorded: &str) -> Result<bool, Failure>;
    /// When the next timer is due, in nanoseconds since the Unix epoch.
    fn due(&self) -> Option<u64>;
    /// Delivers the message of the next timer.
    fn fire(&mut self) -> Result<(), Failure>;
    /// Delivers what the handler's own helper threads have sent meanwhile.
    fn deliver_messages(&mut self) -> Result<(), Failure>;
    fn flush(&mut self, chain: ChainId) -> Result<(), Failure>;
    fn end(&mut self, chain: ChainId) -> Result<(), Failure>;
    fn finish(&mut self) -> Result<(), Failure>;
    fn take_outgoing(&mut self) -> Vec<(ChainId, Batch)>;
    fn counters(&self) -> &HandlerCounters;
    /// Whether what the handler emits at the end of a chain counts as delivered.
    fn passes_on(&self) -> bool;
}

/// Builds the handler `H` for a replay.
///
/// # Errors
/// Why it could not be built.
pub(crate) fn offline<H: Handler>(
    options: &H::Options,
    input: &[Schema],
    setup: OfflineSetup,
) -> Result<Box<dyn OfflineHandler>, String> {
    let (sender, messages) = channel();
    // Messages to a handler that has ended are dropped.
    let mailbox = Mailbox::new(move |message| drop(sender.send(message)));
    let mut of_handler = Setup::new(setup.name, setup.host_name, mailbox);
    of_handler.input = input.to_vec();
    of_handler.chains = setup.chains;
    of_handler.directory = setup.directory;
    of_handler.outside = setup.outside.clone();
    let hosted = Hosted::<H>::build(options, &of_handler, setup.counters)?;
    let outside = setup.outside;
    Ok(Box::new(Offline { hosted, outside, messages, timers: BTreeMap::new(), timers_set: 0 }))
}

struct Offline<H: Handler> {
    hosted: Hosted<H>,
    outside: Outside,
    messages: Receiver<H::Message>,
    /// By the time when each is due, in nanoseconds since the Unix epoch, and then in the order in
    /// which they were set.
    timers: BTreeMap<(u64, u64), H::Message>,
    timers_set: u64,
}

impl<H: Handler> Offline<H> {
    /// Keeps the timers that a call has set.
    fn keep_timers<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        let now = self.outside.now().0;
        for (after, message) in self.hosted.timers.drain(..) {
            self.timers_set += 1;
            let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            self.timers.insert((now.saturating_add(after), self.timers_set), message);
        }
        result
    }
}

impl<H: Handler> OfflineHandler for Offline<H> {
    fn observe(&mut self, batch: &Batch) -> Result<(), Failure> {
        let result = self.hosted.observe(batch);
        self.keep_timers(result)
    }

    fn handle(&mut self, chain: ChainId, batch: Batch) -> Result<(), Failure> {
        let result = self.hosted.handle(chain, batch);
        self.keep_timers(result)
    }

    fn recall(&mut self, recorded: &str) -> Result<bool, Failure> {
        let result = self.hosted.recall(recorded);
        self.keep_timers(result)
    }

    fn due(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    fn fire(&mut self) -> Result<(), Failure> {
        let Some((_, message)) = self.timers.pop_first() else { return Ok(()) };
        let result = self.hosted.message(message, false);
        self.keep_timers(result)
    }

    fn deliver_messages(&mut self) -> Result<(), Failure> {
        while let Ok(message) = self.messages.try_recv() {
            let result = self.hosted.message(message, false);
            self.keep_timers(result)?;
        }
        Ok(())
    }

    fn flush(&mut self, chain: ChainId) -> Result<(), Failure> {
        let result = self.hosted.flush(chain);
        self.keep_timers(result)
    }

    fn end(&mut self, chain: ChainId) -> Result<(), Failure> {
        let result = self.hosted.end(chain);
        self.keep_timers(result)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let result = self.hosted.finish();
        self.keep_timers(result)
    }

    fn take_outgoing(&mut self) -> Vec<(ChainId, Batch)> {
        std::mem::take(&mut self.hosted.outgoing)
    }

    fn counters(&self) -> &HandlerCounters {
        self.hosted.counters()
    }

    fn passes_on(&self) -> bool {
        H::DECLARATION.properties().passes_on
    }
}
