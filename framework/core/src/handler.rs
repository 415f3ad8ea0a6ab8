//! Handlers: what becomes of events.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::directory::Directory;
use crate::field::Schema;
use crate::health::Health;
use crate::options::{Options, Problem};
use crate::outside::Outside;
use crate::stats::{ContainerCounts, HandlerCounters, Owner};

/// Message type of a handler that has no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

/// One of the chains that a handler stands in, as a small number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub u32);

/// Which events a handler can take. A chain that brings it others is refused before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Any.
    Any,
    /// Those with one of these [`Event::NAME`](crate::Event::NAME)s, also where other handlers have
    /// added to them.
    Only(&'static [&'static str]),
}

/// What is done when a handler fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It is built anew and goes on with the next batch; at more than `max_per_minute` the run
    /// stops.
    Restart {
        /// How often at most.
        max_per_minute: u32,
    },
    /// The run stops.
    Stop,
}

/// Takes batches, and passes them on, changed or not. It gets its name in the configuration where
/// it is registered.
///
/// The runtime hosts each handler on a thread of its choice and never calls it twice at once. A
/// handler must not block: if it has to (a slow output), it says so with [`Handler::BLOCKING`] and
/// gets a thread of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "does not implement `Handler`",
    note = "implement `whalewatch_core::Handler` for it; `whalewatch new handler NAME` writes a crate with one to begin from"
)]
pub trait Handler: Sized + Send + 'static {
    /// What it does, in one line.
    const ABOUT: &'static str;
    // The compiler shows these two lines, and what stands behind them, to who misses something.
    /// Its options.
    type Options: Options; // a struct with #[derive(Clone, Deserialize, Serialize, JsonSchema)]
    /// Messages to itself, from timers and from helpers of its own; [`Never`] if it has none.
    type Message: Send + 'static; // comes from other threads: Arc instead of Rc

    /// Whether all chains that name it go through one instance.
    const SHARED: bool = false;
    /// Whether it can be the end of a chain: it delivers events, or needs nobody to do so.
    const OUTPUT: bool = false;
    /// Whether others can stand behind it. An end of a chain mostly passes nothing on; one that
    /// only looks at events sets this too, emits what it has looked at, and can stand anywhere:
    /// what it emits at the end counts as delivered.
    const PASSES_ON: bool = !Self::OUTPUT;
    /// Whether it may block its thread and so needs one of its own.
    const BLOCKING: bool = false;
    /// Whether it publishes in the [`Directory`] who lives in which cgroup.
    const PUBLISHES: bool = false;
    /// Whether [`Handler::build_for`] makes use of what events come in: then it is made anew when a
    /// changed configuration brings it others.
    const BUILT_FOR_INPUT: bool = false;
    /// What is done when it fails.
    const ON_FAILURE: OnFailure = OnFailure::Restart { max_per_minute: 5 };
    /// Which events it can take.
    const ACCEPTS: Accepts = Accepts::Any;

    /// Types of the trackers that it lives on, whatever the chains name. The runtime attaches each
    /// once and feeds their batches to [`Handler::observe`].
    ///
    /// The first is open before any other tracker is, unless another handler names it later in its
    /// own list: what it tells of is then known of all that the others see from their first event
    /// on.
    fn needs(options: &Self::Options) -> Vec<&'static str> {
        let _ = options;
        Vec::new()
    }

    /// Begins what must watch by itself before any tracker does: for what comes and goes so quickly
    /// that it would be gone by the time that the trackers are open and the handler is built. What
    /// it gives is in [`Setup::ahead`] for as long as the handler runs; if it stands in several
    /// chains and is not shared, all its instances have the same.
    ///
    /// It must not block, and what cannot be begun is for [`Handler::build`] to tell. On a reload
    /// the handler that this one replaces still runs, so nothing is to be begun that only one can
    /// hold. In a replay nothing is begun.
    fn ahead(options: &Self::Options) -> Ahead {
        let _ = options;
        Ahead::default()
    }

    /// What the events look like that it adds to a chain. Touches nothing else, and has something
    /// to say of options that [`Handler::check`] finds wrong, too.
    fn adds(options: &Self::Options) -> Vec<Schema> {
        let _ = options;
        Vec::new()
    }

    /// What events of that look become in a chain behind this handler; `None` for those that it
    /// leaves as they are. Say `Some(schema.extended::<X>())` where it calls [`Batch::extend`].
    fn extends(schema: &Schema) -> Option<Schema> {
        let _ = schema;
        None
    }

    /// Checks options for what their types do not say, against what events come in; `input` is
    /// empty where that is not known. Touches nothing else.
    fn check(options: &Self::Options, input: &[Schema]) -> Vec<Problem> {
        let _ = (options, input);
        Vec::new()
    }

    /// What a recording keeps of a message that one of its helpers sent: of what came from outside
    /// and cannot be had again. `None` for all else.
    fn record(message: &Self::Message) -> Option<String> {
        let _ = message;
        None
    }

    /// The message that [`Handler::record`] made this of; `None` if it is none.
    fn recall(recorded: &str) -> Option<Self::Message> {
        let _ = recorded;
        None
    }

    /// Makes the handler, on the thread where it will run.
    ///
    /// # Errors
    /// If it cannot be made; the error says how to mend that.
    fn build(options: &Self::Options, setup: &Setup<Self::Message>) -> Result<Self, BuildError>;

    /// As [`Handler::build`], for a handler that wants to know what events come in: they are those
    /// that [`Handler::check`] was told of. This is what the runtime calls.
    ///
    /// # Errors
    /// As [`Handler::build`].
    fn build_for(
        options: &Self::Options,
        input: &[Schema],
        setup: &Setup<Self::Message>,
    ) -> Result<Self, BuildError> {
        let _ = input;
        Self::build(options, setup)
    }

    /// Takes a batch of the chain [`Context::chain`]. What is to go on is given to
    /// [`Context::emit`].
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut Context<'_, Self::Message>,
    ) -> Result<(), HandlerError>;

    /// Takes a batch of a tracker that it [needs](Handler::needs). Each batch comes here before it
    /// comes to any chain's [`Handler::handle`].
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn observe(
        &mut self,
        batch: &Batch,
        cx: &mut Context<'_, Self::Message>,
    ) -> Result<(), HandlerError> {
        let _ = (batch, cx);
        Ok(())
    }

    /// Takes a message from a timer or a helper.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn message(
        &mut self,
        message: Self::Message,
        cx: &mut Context<'_, Self::Message>,
    ) -> Result<(), HandlerError> {
        drop(message);
        let _ = cx;
        Ok(())
    }

    /// Hands on or writes out what it has buffered. Called when no batch is waiting.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn flush(&mut self, cx: &mut Context<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }

    /// The chain [`Context::chain`] is new: a changed configuration put the handler into it. Chains
    /// that it stands in from the start are in [`Setup::chains`].
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn begin(&mut self, cx: &mut Context<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }

    /// The chain [`Context::chain`] brings nothing more: gives on what is held back for it. A flush
    /// follows.
    ///
    /// # Errors
    /// See [`HandlerError`].
    fn end(&mut self, cx: &mut Context<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }

    /// Nothing more comes, by no chain: brings what it holds of the outside to its end. The last
    /// call; what it passes on now goes nowhere. Chains alone may end earlier, while a changed
    /// configuration puts the handler into others.
    ///
    /// # Errors
    /// See [`HandlerError`]; it is told, and changes nothing any more.
    fn finish(&mut self, cx: &mut Context<'_, Self::Message>) -> Result<(), HandlerError> {
        let _ = cx;
        Ok(())
    }
}

/// What a handler is made with.
pub struct Setup<M> {
    /// Name of the handler in the configuration.
    pub name: Arc<str>,
    /// The name of this machine, as events report it in `host.name`.
    pub host_name: Arc<str>,
    /// Sends messages to the handler itself; for its helpers.
    pub mailbox: Mailbox<M>,
    /// Where to publish, or to hear, who lives in which cgroup.
    pub directory: Directory,
    /// Asks how everything is doing.
    pub health: Health,
    /// The world and the clock. A handler that asks other than through this does in a replay what
    /// it likes.
    pub outside: Outside,
    /// What [`Handler::ahead`] has begun, the same each time that the handler is built; nothing in
    /// a replay.
    pub ahead: Ahead,
    /// Chains that it stands in from the start; others may [begin](Handler::begin) later.
    pub chains: Vec<ChainId>,
}

/// What a handler has begun before any tracker watched: made by [`Handler::ahead`], given back by
/// [`Setup::ahead`].
#[derive(Clone, Default)]
pub struct Ahead(Option<Arc<dyn Any + Send + Sync>>);

impl Ahead {
    /// Keeps this for as long as the handler runs.
    pub fn new<T: Any + Send + Sync>(begun: T) -> Self {
        Self(Some(Arc::new(begun)))
    }

    /// What was kept; `None` if nothing was, or something of another type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Ahead(something)" } else { "Ahead(nothing)" })
    }
}

/// Sends messages to a handler from anywhere. Never blocks; a handler that has ended takes no more.
pub struct Mailbox<M>(Arc<dyn Fn(M) + Send + Sync>);

impl<M> Mailbox<M> {
    /// A mailbox that gives messages to `deliver`. For the runtime, and for tests of a handler
    /// alone.
    pub fn new(deliver: impl Fn(M) + Send + Sync + 'static) -> Self {
        Self(Arc::new(deliver))
    }

    /// Sends a message.
    pub fn send(&self, message: M) {
        (self.0)(message);
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// What a handler can do while it is called: pass events on, count, set timers.
///
/// It only collects; the runtime carries it out when the call returns. So a handler can be tested
/// with a context and nothing else.
pub struct Context<'a, M> {
    chain: ChainId,
    counters: &'a HandlerCounters,
    outgoing: &'a mut Vec<(ChainId, Batch)>,
    timers: &'a mut Vec<(Duration, M)>,
    behind: bool,
}

impl<'a, M> Context<'a, M> {
    /// A context for one call. For the runtime, and for tests of a handler alone.
    pub fn new(
        chain: ChainId,
        counters: &'a HandlerCounters,
        outgoing: &'a mut Vec<(ChainId, Batch)>,
        timers: &'a mut Vec<(Duration, M)>,
    ) -> Self {
        Self { chain, counters, outgoing, timers, behind: false }
    }

    /// Says whether events are waiting to come to the handler. For the runtime, and for tests of a
    /// handler alone.
    #[must_use]
    pub fn with_behind(mut self, behind: bool) -> Self {
        self.behind = behind;
        self
    }

    /// The chain that the call is about. Without meaning in [`Handler::observe`] and
    /// [`Handler::message`].
    pub fn chain(&self) -> ChainId {
        self.chain
    }

    /// Whether events that happened a while ago may still be on their way to this handler: a slow
    /// reader further down holds a chain up, or a tracker has not caught up. Who keeps things for
    /// events that come late keeps them while this holds.
    pub fn behind(&self) -> bool {
        self.behind
    }

    /// Passes a batch on along the chain that it came from. An empty one goes nowhere.
    pub fn emit(&mut self, batch: Batch) {
        self.emit_to(self.chain, batch);
    }

    /// Passes a batch on along the chain named: for events that were held back.
    pub fn emit_to(&mut self, chain: ChainId, batch: Batch) {
        if !batch.is_empty() {
            self.outgoing.push((chain, batch));
        }
    }

    /// Sends events of the handler's own down the chain named.
    pub fn add_to(&mut self, chain: ChainId, batch: Batch) {
        HandlerCounters::add(&self.counters.added, batch.len() as u64);
        self.emit_to(chain, batch);
    }

    /// Counts events that were left out as asked.
    pub fn filtered(&self, count: u64) {
        HandlerCounters::add(&self.counters.filtered, count);
    }

    /// Counts events that were refused for want of room.
    pub fn dropped(&self, count: u64) {
        HandlerCounters::add(&self.counters.dropped, count);
    }

    /// As [`Context::dropped`], for all events of a batch, also by container.
    pub fn dropped_batch(&self, batch: &Batch) {
        self.counters.drop_batch(batch);
    }

    /// Counts events that this handler, the end of its chain, has delivered.
    pub fn delivered(&self, count: u64) {
        HandlerCounters::add(&self.counters.output, count);
    }

    /// Replaces what this handler counted by container id; `host` and `unknown` stand beside the
    /// ids.
    pub fn count_containers(&self, counts: BTreeMap<Owner, ContainerCounts>) {
        self.counters.set_containers(counts);
    }

    /// Has `message` come to the handler after `delay`.
    pub fn after(&mut self, delay: Duration, message: M) {
        self.timers.push((delay, message));
    }
}

/// A handler could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Whoever took the output is gone (a closed pipe): the run ends quietly.
    #[error("the reader of the output has gone")]
    Closed,
    /// It cannot go on: [`Handler::ON_FAILURE`] says what follows. Events that it had taken in and
    /// neither passed on nor counted are gone; the runtime counts them as errors.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}
