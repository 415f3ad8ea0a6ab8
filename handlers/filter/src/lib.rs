//! The `filter` handler: passes on the events of some containers, those that meet a condition, or
//! both.
//!
//! Conditions are written in a subset of CEL, the Common Expression Language: see [`Condition`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{
    Batch, BuildError, ChainContext, Declaration, Handler, HandlerError, Never, OnFailure, Problem,
    Schema, Setup,
};
use whalewatch_kit::{Condition, Tests};

mod containers;
#[cfg(test)]
mod tests;

use containers::Containers;

/// Options of the `filter` handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilterOptions {
    /// The condition that events must meet, in CEL:
    /// `process.user.id == 0 && container.name.startsWith('web')`.
    pub when: Option<String>,
    /// Patterns for the containers whose events to keep: `web*` for a name or an id,
    /// `image:nginx*`, `label:tier` or `label:tier=front*`. A pattern with `!` in front excludes
    /// containers. If there are patterns, events outside containers are filtered.
    pub containers: Vec<String>,
}

/// Passes on the events of some containers, those that meet a condition, or both.
#[derive(Debug)]
pub struct Filter {
    containers: Option<Containers>,
    tests: Option<Tests>,
}

impl Filter {
    /// Creates a filter.
    ///
    /// # Errors
    /// If the condition or a pattern is invalid, or there is neither. [`Handler::check`] checks
    /// fields and types as well, because it knows the events.
    pub fn new(options: &FilterOptions) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let condition =
            options.when.as_deref().map(|when| Condition::parse("when", when)).transpose();
        let condition = condition.map_err(|problem| problems.push(problem)).ok().flatten();
        let patterns = &options.containers;
        let containers = (!patterns.is_empty()).then(|| Containers::new(patterns)).transpose();
        let containers = containers.map_err(|found| problems.extend(found)).ok().flatten();
        if options.when.is_none() && patterns.is_empty() {
            let hint = "set when = 'process.user.id == 0' or containers = [\"web*\"], or both";
            problems.push(Problem::new("", "neither when nor containers is set").hint(hint));
        }
        if problems.is_empty() {
            Ok(Self { containers, tests: condition.map(Tests::new) })
        } else {
            Err(problems)
        }
    }
}

impl Handler for Filter {
    const ABOUT: &'static str =
        "keeps the events of some containers, those that meet a condition, or both";
    type Options = FilterOptions;
    type Message = Never;
    // A failure means that the condition was not checked against these events: it would happen
    // again.
    const DECLARATION: Declaration<Self> = Declaration::new().on_failure(OnFailure::Stop);

    fn check(options: &FilterOptions, input: &[Schema]) -> Vec<Problem> {
        match Self::new(options) {
            Ok(Self { tests: Some(tests), .. }) => tests.condition().check(input),
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        }
    }

    fn build(options: &FilterOptions, _: &Setup) -> Result<Self, BuildError> {
        Self::new(options).map_err(|problems| {
            let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            BuildError(messages.join("; "))
        })
    }

    fn handle(&mut self, mut batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        if let Some(containers) = &mut self.containers {
            cx.filtered(batch.retain(|event| containers.matches(event.attribution())));
        }
        if let Some(tests) = &mut self.tests {
            let test = tests.of(&batch).map_err(failed)?;
            cx.filtered(batch.retain(|event| test.holds(event)));
        }
        cx.emit(batch);
        Ok(())
    }
}

fn failed(message: String) -> HandlerError {
    HandlerError::Failed { message, source: None }
}
