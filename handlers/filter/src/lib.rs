//! The `filter` handler: keeps the events for which a condition holds.
//!
//! The condition is written in a part of [CEL](https://cel.dev), the Common Expression Language:
//!
//! * fields by their names, as they are printed: `process.user.id`, `container.name`;
//! * numbers (`0`, `-1`, `42u`, `0x2a`), texts (`'a'`, `"a"`, `r'\d'`), `true`, `false`, `null`, lists (`[1, 2]`);
//! * `==` `!=` `<` `<=` `>` `>=`; `in`, for lists and for fields that are lists; `&&` `||` `!` and parentheses;
//! * `text.startsWith(part)`, `text.endsWith(part)`, `text.contains(part)`; `has(field)`.
//!
//! A field that an event lacks is null. Comparisons with it do not hold, except `!=`, which does; `field == null` and
//! `has(field)` ask for it. An object (`container == null`) is null if everything in it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{
    Batch, BuildError, Context, Handler, HandlerError, Never, OnFailure, Problem, Schema, Setup,
};

mod compile;
mod lexer;
mod names;
mod parser;
mod program;
mod syntax;
#[cfg(test)]
mod tests;

use compile::compile;
use program::Test;
use syntax::Node;

/// Options of the `filter` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterOptions {
    /// The condition that events must meet to go on, in CEL: `process.user.id == 0 && container.name.startsWith('web')`.
    pub when: String,
}

/// Keeps the events for which a condition holds.
#[derive(Debug)]
pub struct Filter {
    condition: Node,
    /// The condition compiled, by name of the event type: a handful, so a list is the fastest map.
    tests: Vec<(&'static str, Test)>,
}

impl Filter {
    /// A filter with the condition `when`.
    ///
    /// # Errors
    /// If it is no condition. Fields and types are checked with [`Handler::check`], which knows the events.
    pub fn new(when: &str) -> Result<Self, Problem> {
        let condition = parse(when)?;
        Ok(Self { condition, tests: Vec::new() })
    }

    /// Makes ready for the events of a batch: the number of its test.
    fn test(&mut self, batch: &Batch) -> Result<usize, HandlerError> {
        let name = batch.event_name();
        if let Some(found) = self.tests.iter().position(|(known, _)| *known == name) {
            return Ok(found);
        }
        let test = compile(&self.condition, &batch.schema(), None).map_err(|problems| {
            let problems: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            HandlerError::Failed {
                message: format!(
                    "the condition does not fit {name} events: {}",
                    problems.join("; ")
                ),
                source: None,
            }
        })?;
        self.tests.push((name, test));
        Ok(self.tests.len() - 1)
    }
}

fn parse(when: &str) -> Result<Node, Problem> {
    parser::parse(when).map_err(|error| Problem {
        key: "when".to_owned(),
        offset: Some(error.at),
        message: error.message,
        hint: error.hint,
    })
}

impl Handler for Filter {
    const ABOUT: &'static str = "keeps the events for which a condition over their fields holds";
    type Options = FilterOptions;
    type Message = Never;

    // It fails only on events that were not there to be checked against, and would do so again.
    const ON_FAILURE: OnFailure = OnFailure::Stop;

    fn check(options: &FilterOptions, input: &[Schema]) -> Vec<Problem> {
        let condition = match parse(&options.when) {
            Ok(condition) => condition,
            Err(problem) => return vec![problem],
        };
        let mut problems = Vec::new();
        for schema in input {
            for problem in compile(&condition, schema, Some(input)).err().unwrap_or_default() {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        problems.sort_by_key(|problem| problem.offset);
        problems
    }

    fn build(options: &FilterOptions, _: &Setup<Never>) -> Result<Self, BuildError> {
        Self::new(&options.when).map_err(|problem| BuildError(problem.message))
    }

    fn handle(
        &mut self,
        mut batch: Batch,
        cx: &mut Context<'_, Never>,
    ) -> Result<(), HandlerError> {
        let index = self.test(&batch)?;
        let test = &self.tests[index].1;
        cx.filtered(batch.retain(|event| test.holds(event)));
        cx.emit(batch);
        Ok(())
    }
}
