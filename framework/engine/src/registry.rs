//! The registry: which types of trackers and handlers a program has. Registration is explicit, so
//! that a crate that is linked but named nowhere is a compile error and not an empty registry.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use actix::{Actor, ArbiterHandle, Recipient};
use serde::Serialize;
use serde_json::Value;
use whalewatch_core::{
    Accepts, Ahead, BudgetEvent, Directory, Event, Handler, OpenError, Problem, Schema, Source,
    TrackerSpec,
};

use crate::actors::lane::{Attach, FeedFrom};
use crate::actors::stage::{Stage, StageSetup};
use crate::actors::tracker::{Links, Rewire, SendExisting, Stop, Tracker};
pub use crate::config::describe::OptionInfo;
use crate::config::describe::describe;
use crate::config::options::{OptionTable, Position, read};
use crate::queue::QueueOptions;
use crate::replay::{Seat, SeatSetup, Seated};

/// Types of trackers and handlers by the name that `type = "…"` knows them by.
#[derive(Clone, Default)]
pub struct Registry {
    pub(crate) trackers: BTreeMap<String, Arc<dyn TrackerType>>,
    pub(crate) handlers: BTreeMap<String, Arc<dyn HandlerType>>,
}

/// A type could not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The name is taken.
    #[error("the {what} type \"{name}\" is registered twice: give one of them another name")]
    Duplicate {
        /// `tracker` or `handler`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An option of a handler's own has a name that is every handler's.
    #[error(
        "the handler type \"{name}\" has an option \"{option}\", as every handler has already: give it another name"
    )]
    Option {
        /// The handler type's name.
        name: String,
        /// The option.
        option: String,
    },
    /// The name could not be written in a configuration file.
    #[error(
        "\"{name}\" cannot name a {what} type: use lower-case letters, digits and hyphens, and none of trackers, handlers, chains, tests"
    )]
    Name {
        /// `tracker` or `handler`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type of tracker.
    ///
    /// # Errors
    /// If the name is taken or cannot be a name.
    pub fn tracker<T: TrackerSpec>(&mut self, name: &str) -> Result<&mut Self, RegistryError> {
        self.add_tracker(name, Arc::new(Spec::<T>(PhantomData)))
    }

    /// Adds a tracker whose source is made by `open` and has no options: for tests, benchmarks, and
    /// programs that bring events of their own.
    ///
    /// # Errors
    /// If the name is taken or cannot be a name.
    pub fn source<E: Event>(
        &mut self,
        name: &str,
        open: impl Fn() -> Box<dyn Source<E>> + Send + Sync + 'static,
    ) -> Result<&mut Self, RegistryError> {
        self.add_tracker(name, Arc::new(Given { open: Arc::new(open) }))
    }

    /// Adds a type of handler.
    ///
    /// # Errors
    /// If the name is taken or cannot be a name.
    pub fn handler<H: Handler>(&mut self, name: &str) -> Result<&mut Self, RegistryError> {
        check_name("handler", name, self.handlers.contains_key(name))?;
        let own = describe::<H::Options>();
        if let Some(option) = own.iter().find(|o| QueueOptions::KEYS.contains(&o.name.as_str())) {
            let (name, option) = (name.to_owned(), option.name.clone());
            return Err(RegistryError::Option { name, option });
        }
        self.handlers.insert(name.to_owned(), Arc::new(Kind::<H>(PhantomData)));
        Ok(self)
    }

    /// Types of trackers: name, what it watches, options, and what its events look like.
    pub fn describe_trackers(
        &self,
    ) -> impl Iterator<Item = (&str, &'static str, Vec<OptionInfo>, Schema)> {
        self.trackers.iter().map(|(name, t)| (&**name, t.about(), t.options(), t.schema()))
    }

    /// Types of handlers: name, what it does, options.
    pub fn describe_handlers(&self) -> impl Iterator<Item = (&str, &'static str, Vec<OptionInfo>)> {
        self.handlers.iter().map(|(name, h)| (&**name, h.about(), h.options()))
    }

    /// What all events look like that trackers of this program yield.
    pub(crate) fn schemas(&self) -> Vec<Schema> {
        let of_trackers = self.trackers.values().map(|tracker| tracker.schema());
        of_trackers.chain([Schema::of::<BudgetEvent>()]).collect()
    }

    /// Options that every handler has beside its own.
    pub fn describe_queue(&self) -> Vec<OptionInfo> {
        describe::<QueueOptions>()
    }

    fn add_tracker(
        &mut self,
        name: &str,
        tracker: Arc<dyn TrackerType>,
    ) -> Result<&mut Self, RegistryError> {
        check_name("tracker", name, self.trackers.contains_key(name))?;
        self.trackers.insert(name.to_owned(), tracker);
        Ok(self)
    }
}

fn check_name(what: &'static str, name: &str, taken: bool) -> Result<(), RegistryError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let reserved = ["trackers", "handlers", "chains", "tests"].contains(&name);
    if name.is_empty() || reserved || !name.chars().all(plain) {
        return Err(RegistryError::Name { what, name: name.to_owned() });
    }
    if taken {
        return Err(RegistryError::Duplicate { what, name: name.to_owned() });
    }
    Ok(())
}

/// A type of tracker, its event type erased.
pub(crate) trait TrackerType: Send + Sync {
    fn about(&self) -> &'static str;
    fn options(&self) -> Vec<OptionInfo>;
    fn schema(&self) -> Schema;
    /// What it costs the traced processes.
    fn cost(&self) -> &'static str {
        "not known"
    }
    /// Reads and checks options. `None` if there were mistakes, which are added to `problems`.
    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredTracker>>;
}

/// A tracker with its options.
pub(crate) trait ConfiguredTracker: Send + Sync {
    /// Its options, with those that were left out.
    fn options(&self) -> Value;
    /// Where in the kernel it attaches.
    fn attaches(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether handlers that need the type can live on this one.
    fn whole(&self) -> bool;
    /// Whether it must hear who lives in which cgroup.
    fn needs_directory(&self) -> bool {
        false
    }
    /// What it may yield beside its own events.
    fn extra(&self) -> Option<Schema> {
        None
    }
    /// Loads and attaches. May take a while: not for a thread that has other things to do.
    fn open(&self, directory: &Directory) -> Result<Box<dyn OpenedTracker>, OpenError>;
}

/// A tracker whose source is open.
pub(crate) trait OpenedTracker: Send {
    /// Starts the actor on the current arbiter.
    fn start(self: Box<Self>, links: Links) -> TrackerControl;
}

/// How to reach a tracker's actor.
pub(crate) struct TrackerControl {
    pub(crate) stop: Recipient<Stop>,
    pub(crate) existing: Recipient<SendExisting>,
    pub(crate) rewire: Recipient<Rewire>,
}

/// How to reach a handler's actor.
pub(crate) struct StageControl {
    pub(crate) feed_from: Recipient<FeedFrom>,
    pub(crate) attach: Recipient<Attach>,
}

/// Options as a value to compare and to show. A type whose options cannot be written (a map with
/// odd keys) counts as changed each time.
fn value_of(options: &impl Serialize) -> Value {
    static TURN: AtomicU64 = AtomicU64::new(0);
    serde_json::to_value(options).unwrap_or_else(|_| TURN.fetch_add(1, Relaxed).into())
}

struct Spec<T>(PhantomData<fn() -> T>);

impl<T: TrackerSpec> TrackerType for Spec<T> {
    fn about(&self) -> &'static str {
        T::ABOUT
    }

    fn options(&self) -> Vec<OptionInfo> {
        describe::<T::Options>()
    }

    fn schema(&self) -> Schema {
        Schema::of::<T::Event>()
    }

    fn cost(&self) -> &'static str {
        T::COST
    }

    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredTracker>> {
        let options = read::<T::Options>(table, problems, |options| T::check(options))?;
        Some(Box::new(SpecConfigured::<T> { options }))
    }
}

struct SpecConfigured<T: TrackerSpec> {
    options: T::Options,
}

impl<T: TrackerSpec> ConfiguredTracker for SpecConfigured<T> {
    fn options(&self) -> Value {
        value_of(&self.options)
    }

    fn attaches(&self) -> Vec<&'static str> {
        T::attaches(&self.options)
    }

    fn whole(&self) -> bool {
        T::whole(&self.options)
    }

    fn needs_directory(&self) -> bool {
        T::needs_directory(&self.options)
    }

    fn extra(&self) -> Option<Schema> {
        T::has_budget(&self.options).then(Schema::of::<BudgetEvent>)
    }

    fn open(&self, directory: &Directory) -> Result<Box<dyn OpenedTracker>, OpenError> {
        Ok(Box::new(Opened { source: T::open(&self.options, directory)? }))
    }
}

struct Opened<E> {
    source: Box<dyn Source<E>>,
}

impl<E: Event> OpenedTracker for Opened<E> {
    fn start(self: Box<Self>, links: Links) -> TrackerControl {
        let tracker = Tracker::new(self.source, links).start();
        TrackerControl {
            stop: tracker.clone().recipient(),
            existing: tracker.clone().recipient(),
            rewire: tracker.recipient(),
        }
    }
}

type Open<E> = Arc<dyn Fn() -> Box<dyn Source<E>> + Send + Sync>;

struct Given<E> {
    open: Open<E>,
}

impl<E: Event> TrackerType for Given<E> {
    fn about(&self) -> &'static str {
        "events of this program's own"
    }

    fn options(&self) -> Vec<OptionInfo> {
        Vec::new()
    }

    fn schema(&self) -> Schema {
        Schema::of::<E>()
    }

    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredTracker>> {
        #[derive(Clone, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        struct None {}
        read::<None>(table, problems, |_| Vec::new())?;
        Some(Box::new(Given { open: Arc::clone(&self.open) }))
    }
}

impl<E: Event> ConfiguredTracker for Given<E> {
    fn options(&self) -> Value {
        Value::Null
    }

    fn whole(&self) -> bool {
        true
    }

    fn open(&self, _: &Directory) -> Result<Box<dyn OpenedTracker>, OpenError> {
        Ok(Box::new(Opened { source: (self.open)() }))
    }
}

/// A type of handler, erased.
pub(crate) trait HandlerType: Send + Sync {
    fn about(&self) -> &'static str;
    fn options(&self) -> Vec<OptionInfo>;
    fn shared(&self) -> bool;
    fn output(&self) -> bool;
    fn passes_on(&self) -> bool;
    fn publishes(&self) -> bool;
    fn accepts(&self) -> Accepts;
    fn extends(&self, schema: &Schema) -> Option<Schema>;
    /// Reads options. `None` if there were mistakes, which are added to `problems`.
    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredHandler>>;
}

/// A handler with its options.
pub(crate) trait ConfiguredHandler: Send + Sync {
    /// Its options, with those that were left out.
    fn options(&self) -> Value;
    fn needs(&self) -> Vec<&'static str>;
    /// Begins what is to watch before any tracker does.
    fn ahead(&self) -> Ahead;
    /// What it adds to the events of a chain.
    fn adds(&self) -> Vec<Schema>;
    fn check(&self, input: &[Schema]) -> Vec<Problem>;
    /// Names of the events that it is made for; none if it is not made for any in particular.
    fn made_for(&self) -> Vec<&'static str>;
    /// Says what events come in, once that is known of all chains.
    fn takes(&mut self, input: Vec<Schema>);
    /// Whether it is to have a thread of its own.
    fn blocking(&self) -> bool;
    /// Makes it without an actor, for a replay.
    fn seat(&self, setup: SeatSetup) -> Result<Box<dyn Seated>, String>;
    /// Starts an actor for it, on the thread given or else the current one.
    fn start(&self, setup: StageSetup, thread: Option<&ArbiterHandle>) -> StageControl;
}

struct Kind<H>(PhantomData<fn() -> H>);

impl<H: Handler> HandlerType for Kind<H> {
    fn about(&self) -> &'static str {
        H::ABOUT
    }

    fn options(&self) -> Vec<OptionInfo> {
        describe::<H::Options>()
    }

    fn shared(&self) -> bool {
        H::SHARED
    }

    fn output(&self) -> bool {
        H::OUTPUT
    }

    fn passes_on(&self) -> bool {
        H::PASSES_ON
    }

    fn publishes(&self) -> bool {
        H::PUBLISHES
    }

    fn accepts(&self) -> Accepts {
        H::ACCEPTS
    }

    fn extends(&self, schema: &Schema) -> Option<Schema> {
        H::extends(schema)
    }

    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredHandler>> {
        // What depends on the events that flow in is checked once the chains are known.
        let options = read::<H::Options>(table, problems, |_| Vec::new())?;
        Some(Box::new(KindConfigured::<H> { options, input: Vec::new() }))
    }
}

struct KindConfigured<H: Handler> {
    options: H::Options,
    input: Vec<Schema>,
}

impl<H: Handler> ConfiguredHandler for KindConfigured<H> {
    fn options(&self) -> Value {
        value_of(&self.options)
    }

    fn needs(&self) -> Vec<&'static str> {
        H::needs(&self.options)
    }

    fn ahead(&self) -> Ahead {
        H::ahead(&self.options)
    }

    fn adds(&self) -> Vec<Schema> {
        H::adds(&self.options)
    }

    fn check(&self, input: &[Schema]) -> Vec<Problem> {
        H::check(&self.options, input)
    }

    fn takes(&mut self, input: Vec<Schema>) {
        self.input = input;
    }

    fn blocking(&self) -> bool {
        H::BLOCKING
    }

    fn made_for(&self) -> Vec<&'static str> {
        let input = self.input.iter().filter(|_| H::BUILT_FOR_INPUT);
        input.map(|schema| schema.name).collect()
    }

    fn seat(&self, setup: SeatSetup) -> Result<Box<dyn Seated>, String> {
        Ok(Box::new(Seat::<H>::new(&self.options, &self.input, setup)?))
    }

    fn start(&self, setup: StageSetup, thread: Option<&ArbiterHandle>) -> StageControl {
        let (options, input) = (self.options.clone(), self.input.clone());
        let stage = match thread {
            Some(thread) => {
                Stage::start_in_arbiter(thread, |_| Stage::<H>::new(options, input, setup))
            }
            None => Stage::<H>::new(options, input, setup).start(),
        };
        StageControl { feed_from: stage.clone().recipient(), attach: stage.recipient() }
    }
}
