//! Types of trackers, erased.

use std::marker::PhantomData;
use std::sync::Arc;

use actix::{Actor, Recipient};
use serde_json::Value;
use whalewatch_core::{
    BudgetEvent, Directory, Event, OpenError, Problem, Schema, Source, TrackerSpec,
};

use super::value_of;
use crate::actors::tracker::{Tracker, TrackerCommand, TrackerSetup};
use crate::config::describe::{OptionInfo, describe};
use crate::config::options::{OptionTable, Position, read};

/// A type of tracker.
pub(crate) trait TrackerType: Send + Sync {
    fn about(&self) -> &'static str;
    fn options(&self) -> Vec<OptionInfo>;
    fn schema(&self) -> Schema;
    /// What the tracker costs the traced processes.
    fn cost(&self) -> &'static str {
        "not known"
    }
    /// Reads and checks options. Returns `None` if there are mistakes, which it adds to `problems`.
    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredTracker>>;
}

/// A tracker with its options.
pub(crate) trait ConfiguredTracker: Send + Sync {
    /// The options, including those that have their default.
    fn options(&self) -> Value;
    /// Where in the kernel the tracker attaches.
    fn attaches(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Whether handlers that need this type can use this tracker as it is configured.
    fn whole(&self) -> bool;
    /// Whether the tracker must learn from the directory which container lives in which cgroup.
    fn needs_directory(&self) -> bool {
        false
    }
    /// What the tracker may yield in addition to its own events.
    fn extra(&self) -> Option<Schema> {
        None
    }
    /// Loads and attaches the programs. This may take a while and belongs on a separate thread.
    fn open(&self, directory: &Directory) -> Result<Box<dyn OpenTracker>, OpenError>;
}

/// A tracker whose source is open.
pub(crate) trait OpenTracker: Send {
    /// Starts the actor on the current arbiter.
    fn start(self: Box<Self>, setup: TrackerSetup) -> Recipient<TrackerCommand>;
}

/// The type that `T` specifies.
pub(super) fn of_spec<T: TrackerSpec>() -> Arc<dyn TrackerType> {
    Arc::new(SpecType::<T>(PhantomData))
}

/// A type without options, whose sources `open` makes.
pub(super) fn of_source<E: Event>(
    open: impl Fn() -> Box<dyn Source<E>> + Send + Sync + 'static,
) -> Arc<dyn TrackerType> {
    Arc::new(SourceType { open: Arc::new(open) })
}

struct SpecType<T>(PhantomData<fn() -> T>);

impl<T: TrackerSpec> TrackerType for SpecType<T> {
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
        Some(Box::new(ConfiguredSpec::<T> { options }))
    }
}

struct ConfiguredSpec<T: TrackerSpec> {
    options: T::Options,
}

impl<T: TrackerSpec> ConfiguredTracker for ConfiguredSpec<T> {
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

    fn open(&self, directory: &Directory) -> Result<Box<dyn OpenTracker>, OpenError> {
        Ok(Box::new(OpenSource { source: T::open(&self.options, directory)? }))
    }
}

type OpenFn<E> = Arc<dyn Fn() -> Box<dyn Source<E>> + Send + Sync>;

/// Both the type and, as it has no options, the configured tracker.
struct SourceType<E> {
    open: OpenFn<E>,
}

impl<E: Event> TrackerType for SourceType<E> {
    fn about(&self) -> &'static str {
        "events of this program itself"
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
        struct NoOptions {}
        read::<NoOptions>(table, problems, |_| Vec::new())?;
        Some(Box::new(Self { open: Arc::clone(&self.open) }))
    }
}

impl<E: Event> ConfiguredTracker for SourceType<E> {
    fn options(&self) -> Value {
        Value::Null
    }

    fn whole(&self) -> bool {
        true
    }

    fn open(&self, _: &Directory) -> Result<Box<dyn OpenTracker>, OpenError> {
        Ok(Box::new(OpenSource { source: (self.open)() }))
    }
}

struct OpenSource<E> {
    source: Box<dyn Source<E>>,
}

impl<E: Event> OpenTracker for OpenSource<E> {
    fn start(self: Box<Self>, setup: TrackerSetup) -> Recipient<TrackerCommand> {
        Tracker::new(self.source, setup).start().recipient()
    }
}
