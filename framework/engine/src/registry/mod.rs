//! The registry: the types of trackers and handlers that a program has.
//!
//! Registration is explicit. A crate that is linked but not registered is then a missing name in
//! the configuration, not an empty registry without an error.
//!
//! Types are erased behind one trait for each step of their life. A tracker is a `TrackerType`
//! where it is registered, a `ConfiguredTracker` once its options have been read, and an
//! `OpenTracker` once its source is open. A handler is a `HandlerType`, then a `ConfiguredHandler`.

mod handler;
mod tracker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use serde_json::Value;
use whalewatch_core::{BudgetEvent, Event, Handler, Schema, Source, TrackerSpec};

pub use crate::config::describe::OptionInfo;
use crate::config::describe::describe;
use crate::queue::QueueOptions;
pub(crate) use handler::{ConfiguredHandler, HandlerType};
pub(crate) use tracker::{ConfiguredTracker, OpenTracker, TrackerType};

/// The types of trackers and handlers, by the name that `type = "…"` selects.
#[derive(Clone, Default)]
pub struct Registry {
    pub(crate) trackers: BTreeMap<String, Arc<dyn TrackerType>>,
    pub(crate) handlers: BTreeMap<String, Arc<dyn HandlerType>>,
    /// Handler types that this build lacks: the name, and how to get it.
    pub(crate) absent_handlers: BTreeMap<String, String>,
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
    /// A handler has an option with a name that every handler has already.
    #[error(
        "the handler type \"{name}\" has an option \"{option}\", which every \
         handler has already: give it another name"
    )]
    Option {
        /// The handler type's name.
        name: String,
        /// The option.
        option: String,
    },
    /// The name could not be written in a configuration file.
    #[error(
        "\"{name}\" cannot name a {what} type: use lower-case letters, digits and \
         hyphens, and not one of trackers, handlers, chains, tests"
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
        self.add_tracker(name, tracker::of_spec::<T>())
    }

    /// Adds a tracker without options, whose sources `open` makes: for tests, benchmarks, and
    /// programs with custom events.
    ///
    /// # Errors
    /// If the name is taken or cannot be a name.
    pub fn source<E: Event>(
        &mut self,
        name: &str,
        open: impl Fn() -> Box<dyn Source<E>> + Send + Sync + 'static,
    ) -> Result<&mut Self, RegistryError> {
        self.add_tracker(name, tracker::of_source(open))
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
        self.handlers.insert(name.to_owned(), handler::of::<H>());
        Ok(self)
    }

    /// Declares a handler type that this build lacks. A configuration that uses it gets `remedy` as
    /// its hint instead of a similar name.
    pub fn absent_handler(&mut self, name: &str, remedy: &str) -> &mut Self {
        self.absent_handlers.insert(name.to_owned(), remedy.to_owned());
        self
    }

    /// The types of trackers: name, what each watches, its options, and the schema of its events.
    pub fn describe_trackers(
        &self,
    ) -> impl Iterator<Item = (&str, &'static str, Vec<OptionInfo>, Schema)> {
        self.trackers.iter().map(|(name, t)| (&**name, t.about(), t.options(), t.schema()))
    }

    /// The types of handlers: name, what each does, its options.
    pub fn describe_handlers(&self) -> impl Iterator<Item = (&str, &'static str, Vec<OptionInfo>)> {
        self.handlers.iter().map(|(name, h)| (&**name, h.about(), h.options()))
    }

    /// The schemas of all events that the trackers of this program yield.
    pub(crate) fn schemas(&self) -> Vec<Schema> {
        let of_trackers = self.trackers.values().map(|tracker| tracker.schema());
        of_trackers.chain([Schema::of::<BudgetEvent>()]).collect()
    }

    /// The options that every handler has in addition to its own.
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

/// Returns options as a value that can be compared and printed. Options that cannot be serialised
/// (a map with keys that are not text) count as changed each time.
fn value_of(options: &impl Serialize) -> Value {
    static UNIQUE: AtomicU64 = AtomicU64::new(0);
    serde_json::to_value(options).unwrap_or_else(|_| UNIQUE.fetch_add(1, Relaxed).into())
}
