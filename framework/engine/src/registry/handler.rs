//! Types of handlers, erased.

use std::marker::PhantomData;
use std::sync::Arc;

use actix::{Actor, ArbiterHandle, Recipient};
use serde_json::Value;
use whalewatch_core::{EarlyWork, Handler, Problem, Properties, Schema};

use super::value_of;
use crate::actors::lane::StageCommand;
use crate::actors::stage::{Stage, StageSetup};
use crate::config::describe::{OptionInfo, describe};
use crate::config::options::{OptionTable, Position, read};
use crate::replay::{OfflineHandler, OfflineSetup, offline};

/// A type of handler.
pub(crate) trait HandlerType: Send + Sync {
    fn about(&self) -> &'static str;
    fn options(&self) -> Vec<OptionInfo>;
    fn properties(&self) -> Properties;
    /// The schema that events of `schema` have after the handler, if it changes.
    fn extended(&self, schema: &Schema) -> Option<Schema>;
    /// Reads options. Returns `None` if there are mistakes, which it adds to `problems`.
    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredHandler>>;
}

/// A handler with its options.
pub(crate) trait ConfiguredHandler: Send + Sync {
    /// The options, including those that have their default.
    fn options(&self) -> Value;
    fn properties(&self) -> Properties;
    /// The schemas of the events that the handler adds to its chains.
    fn added(&self) -> Vec<Schema>;
    fn check(&self, input: &[Schema]) -> Vec<Problem>;
    /// Sets the schemas of the events that reach the handler, once they are known for all chains.
    fn set_input(&mut self, input: Vec<Schema>);
    /// The names of the events that the handler is built for; empty if it does not depend on them.
    fn built_for(&self) -> Vec<&'static str>;
    /// Starts what must be under way before any tracker watches.
    fn start_early_work(&self) -> EarlyWork;
    /// Builds the handler without an actor, for a replay.
    fn build_offline(&self, setup: OfflineSetup) -> Result<Box<dyn OfflineHandler>, String>;
    /// Starts an actor for the handler, on `thread` or else the current one.
    fn start(&self, setup: StageSetup, thread: Option<&ArbiterHandle>) -> Recipient<StageCommand>;
}

/// The type of the handler `H`.
pub(super) fn of<H: Handler>() -> Arc<dyn HandlerType> {
    Arc::new(TypeOf::<H>(PhantomData))
}

struct TypeOf<H>(PhantomData<fn() -> H>);

impl<H: Handler> HandlerType for TypeOf<H> {
    fn about(&self) -> &'static str {
        H::ABOUT
    }

    fn options(&self) -> Vec<OptionInfo> {
        describe::<H::Options>()
    }

    fn properties(&self) -> Properties {
        H::DECLARATION.properties()
    }

    fn extended(&self, schema: &Schema) -> Option<Schema> {
        H::DECLARATION.extended(schema)
    }

    fn configure(
        &self,
        table: OptionTable<'_>,
        problems: &mut Vec<(Position, Problem)>,
    ) -> Option<Box<dyn ConfiguredHandler>> {
        // What depends on the events that reach the handler is checked once the chains are known.
        let options = read::<H::Options>(table, problems, |_| Vec::new())?;
        Some(Box::new(Configured::<H> { options, input: Vec::new() }))
    }
}

struct Configured<H: Handler> {
    options: H::Options,
    input: Vec<Schema>,
}

impl<H: Handler> ConfiguredHandler for Configured<H> {
    fn options(&self) -> Value {
        value_of(&self.options)
    }

    fn properties(&self) -> Properties {
        H::DECLARATION.properties()
    }

    fn added(&self) -> Vec<Schema> {
        H::DECLARATION.added(&self.options)
    }

    fn check(&self, input: &[Schema]) -> Vec<Problem> {
        H::check(&self.options, input)
    }

    fn set_input(&mut self, input: Vec<Schema>) {
        self.input = input;
    }

    fn built_for(&self) -> Vec<&'static str> {
        let depends = self.properties().built_for_input;
        self.input.iter().filter(|_| depends).map(|schema| schema.name).collect()
    }

    fn start_early_work(&self) -> EarlyWork {
        H::DECLARATION.start_early_work(&self.options)
    }

    fn build_offline(&self, setup: OfflineSetup) -> Result<Box<dyn OfflineHandler>, String> {
        offline::<H>(&self.options, &self.input, setup)
    }

    fn start(&self, setup: StageSetup, thread: Option<&ArbiterHandle>) -> Recipient<StageCommand> {
        let (options, input) = (self.options.clone(), self.input.clone());
        let stage = match thread {
            Some(thread) => {
                Stage::start_in_arbiter(thread, |_| Stage::<H>::new(options, input, setup))
            }
            None => Stage::<H>::new(options, input, setup).start(),
        };
        stage.recipient()
    }
}
