//! What a handler declares to the engine.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{ChainContext, Context, Handler, HandlerError, Lifecycle, Observe, Replay};
use crate::batch::Batch;
use crate::field::Schema;

/// Which events a handler accepts. The engine refuses a chain that brings it others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// All events.
    Any,
    /// Events with one of these [`Event::NAME`](crate::Event::NAME)s, also where other handlers
    /// have added fields to them.
    Only(&'static [&'static str]),
}

/// What the engine does when a handler fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Builds the handler again and goes on with the next batch. If it fails more than
    /// `max_per_minute` times in a minute, the run stops.
    Restart {
        /// The highest number of restarts in a minute.
        max_per_minute: u32,
    },
    /// Stops the run.
    Stop,
}

/// What a handler declares that does not depend on its type: plain data, for the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question that no other does")]
#[non_exhaustive]
pub struct Properties {
    /// See [`Declaration::shared`].
    pub shared: bool,
    /// Whether the handler can end a chain: see [`Declaration::output`].
    pub output: bool,
    /// Whether other handlers can follow in the chain: see [`Declaration::output`] and
    /// [`Declaration::passive`].
    pub passes_on: bool,
    /// See [`Declaration::blocking`].
    pub blocking: bool,
    /// See [`Declaration::publishes`].
    pub publishes: bool,
    /// See [`Declaration::built_for_input`].
    pub built_for_input: bool,
    /// See [`Declaration::on_failure`].
    pub on_failure: OnFailure,
    /// See [`Declaration::accepts`].
    pub accepts: Accepts,
    /// The tracker types of [`Declaration::observes`].
    pub observed: &'static [&'static str],
}

type Adds<H> = fn(&<H as Handler>::Options) -> Vec<Schema>;
type Early<H> = fn(&<H as Handler>::Options) -> EarlyWork;
type Called = Result<(), HandlerError>;
type CallOf<H> = fn(&mut H, &mut Context<'_, <H as Handler>::Message>) -> Called;
type ChainCallOf<H> = fn(&mut H, &mut ChainContext<'_, <H as Handler>::Message>) -> Called;
type ObserveOf<H> = fn(&mut H, &Batch, &mut Context<'_, <H as Handler>::Message>) -> Called;
type RecordOf<H> = fn(&<H as Handler>::Message) -> Option<String>;
type RecallOf<H> = fn(&str) -> Option<<H as Handler>::Message>;

/// What the engine must know of a handler before it builds one: [`Handler::DECLARATION`].
///
/// ```text
/// const DECLARATION: Declaration<Self> = Declaration::new().shared().output().blocking();
/// ```
pub struct Declaration<H: Handler> {
    properties: Properties,
    adds: Option<Adds<H>>,
    extends: Option<fn(&Schema) -> Option<Schema>>,
    early_work: Option<Early<H>>,
    pub(super) observe: Option<ObserveOf<H>>,
    pub(super) begin: Option<ChainCallOf<H>>,
    pub(super) finish: Option<CallOf<H>>,
    pub(super) record: Option<RecordOf<H>>,
    pub(super) recall: Option<RecallOf<H>>,
}

impl<H: Handler> Declaration<H> {
    /// A handler in the middle of one chain that accepts all events, does not block, and is built
    /// again when it fails, at most 5 times a minute.
    pub const fn new() -> Self {
        Self {
            properties: Properties {
                shared: false,
                output: false,
                passes_on: true,
                blocking: false,
                publishes: false,
                built_for_input: false,
                on_failure: OnFailure::Restart { max_per_minute: 5 },
                accepts: Accepts::Any,
                observed: &[],
            },
            adds: None,
            extends: None,
            early_work: None,
            observe: None,
            begin: None,
            finish: None,
            record: None,
            recall: None,
        }
    }

    /// All chains that name the handler go through one instance.
    #[must_use]
    pub const fn shared(mut self) -> Self {
        self.properties.shared = true;
        self
    }

    /// The handler ends chains: it delivers events and passes nothing on.
    #[must_use]
    pub const fn output(mut self) -> Self {
        self.properties.output = true;
        self.properties.passes_on = false;
        self
    }

    /// The handler only looks at events, emits all of them, and can be anywhere in a chain. At the
    /// end of a chain, what it emits counts as delivered.
    #[must_use]
    pub const fn passive(mut self) -> Self {
        self.properties.output = true;
        self.properties.passes_on = true;
        self
    }

    /// The handler may block, and so needs its own thread.
    #[must_use]
    pub const fn blocking(mut self) -> Self {
        self.properties.blocking = true;
        self
    }

    /// The handler publishes in the [`Directory`](crate::Directory) which container lives in which
    /// cgroup.
    #[must_use]
    pub const fn publishes(mut self) -> Self {
        self.properties.publishes = true;
        self
    }

    /// [`Handler::build`] uses [`Setup::input`](super::Setup::input). The engine then builds the
    /// handler again when a reload brings it other types of events.
    #[must_use]
    pub const fn built_for_input(mut self) -> Self {
        self.properties.built_for_input = true;
        self
    }

    /// What the engine does when the handler fails.
    #[must_use]
    pub const fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.properties.on_failure = on_failure;
        self
    }

    /// The handler accepts only events with one of these [`Event::NAME`](crate::Event::NAME)s.
    #[must_use]
    pub const fn accepts(mut self, names: &'static [&'static str]) -> Self {
        self.properties.accepts = Accepts::Only(names);
        self
    }

    /// The handler adds events with these schemas to its chains. `schemas` touches nothing but the
    /// options, and also accepts options that [`Handler::check`] refuses.
    #[must_use]
    pub const fn adds(mut self, schemas: Adds<H>) -> Self {
        self.adds = Some(schemas);
        self
    }

    /// The handler adds fields to events. `extended` returns the schema that events have after this
    /// handler, or `None` for those that it leaves alone: `Some(schema.extended::<X>())` where the
    /// handler calls [`Batch::extend`].
    #[must_use]
    pub const fn extends(mut self, extended: fn(&Schema) -> Option<Schema>) -> Self {
        self.extends = Some(extended);
        self
    }

    /// The handler needs trackers of these types, whatever the chains name. Their batches go to
    /// [`Observe::observe`].
    ///
    /// The engine opens the first of them before any other tracker, unless another handler needs it
    /// and lists it later. So whatever that tracker reports is known by the time the other trackers
    /// report their first event.
    #[must_use]
    pub const fn observes(mut self, trackers: &'static [&'static str]) -> Self
    where
        H: Observe,
    {
        self.properties.observed = trackers;
        self.observe = Some(H::observe);
        self
    }

    /// The handler implements [`Lifecycle`].
    #[must_use]
    pub const fn lifecycle(mut self) -> Self
    where
        H: Lifecycle,
    {
        self.begin = Some(H::begin);
        self.finish = Some(H::finish);
        self
    }

    /// The handler implements [`Replay`].
    #[must_use]
    pub const fn replays(mut self) -> Self
    where
        H: Replay,
    {
        self.record = Some(H::record);
        self.recall = Some(H::recall);
        self
    }

    /// `start` starts work that must be under way before any tracker watches: it catches what
    /// would come and go before the trackers are open and the handler is built. Its result is in
    /// [`Setup::early_work`](super::Setup::early_work) for as long as the handler runs. The
    /// instances of a handler that is in several chains and not shared all get the same.
    ///
    /// `start` must not block. If it cannot start the work, [`Handler::build`] reports that. During
    /// a reload the handler that this one replaces still runs, so `start` must not claim what only
    /// one can hold. In a replay `start` is not called.
    #[must_use]
    pub const fn early_work(mut self, start: Early<H>) -> Self {
        self.early_work = Some(start);
        self
    }

    /// What does not depend on the handler's type.
    pub const fn properties(&self) -> Properties {
        self.properties
    }

    /// The schemas of the events that the handler adds to its chains.
    pub fn added(&self, options: &H::Options) -> Vec<Schema> {
        self.adds.map(|adds| adds(options)).unwrap_or_default()
    }

    /// The schema that events of `schema` have after this handler, if it changes.
    pub fn extended(&self, schema: &Schema) -> Option<Schema> {
        self.extends.and_then(|extends| extends(schema))
    }

    /// Starts the early work; empty if the handler has none.
    pub fn start_early_work(&self, options: &H::Options) -> EarlyWork {
        self.early_work.map(|start| start(options)).unwrap_or_default()
    }

    /// What a recording keeps of a message.
    pub fn record(&self, message: &H::Message) -> Option<String> {
        self.record.and_then(|record| record(message))
    }
}

impl<H: Handler> Default for Declaration<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Handler> fmt::Debug for Declaration<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.properties.fmt(f)
    }
}

/// What a handler started before any tracker watched: see [`Declaration::early_work`].
#[derive(Clone, Default)]
pub struct EarlyWork(Option<Arc<dyn Any + Send + Sync>>);

impl EarlyWork {
    /// Keeps `started` for as long as the handler runs.
    pub fn new<T: Any + Send + Sync>(started: T) -> Self {
        Self(Some(Arc::new(started)))
    }

    /// What was started; `None` if nothing was, or something of another type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for EarlyWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "EarlyWork(started)" } else { "EarlyWork(none)" })
    }
}
