//! The `filter` handler: keeps the events of some containers, or those for which a condition holds, or both.
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
mod containers;
mod lexer;
mod names;
mod parser;
mod program;
mod syntax;
#[cfg(test)]
mod tests;

use compile::compile;
use containers::Containers;
use program::Test;
use syntax::Node;

/// Options of the `filter` handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilterOptions {
    /// The condition that events must meet to go on, in CEL: `process.user.id == 0 && container.name.startsWith('web')`.
    pub when: Option<String>,
    /// Keep only events of containers that one of these patterns fits: `web*` for a name or an id, `image:nginx*`,
    /// `label:tier` or `label:tier=front*`; those that begin with `!` leave out. What is in no container is left out.
    pub containers: Vec<String>,
}

/// Keeps the events of some containers, or those for which a condition holds, or both.
#[derive(Debug)]
pub struct Filter {
    containers: Option<Containers>,
    condition: Option<Node>,
    /// The condition compiled, by name of the event type: a handful, so a list is the fastest map.
    tests: Vec<(&'static str, Test)>,
}

impl Filter {
    /// A filter with these options.
    ///
    /// # Errors
    /// If the condition or a pattern is none. Fields and types are checked with [`Handler::check`], which knows the events.
    pub fn new(options: &FilterOptions) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let condition = options.when.as_deref().map(parse).transpose();
        let condition = condition.map_err(|problem| problems.push(problem)).ok().flatten();
        let patterns = &options.containers;
        let containers = (!patterns.is_empty()).then(|| Containers::new(patterns)).transpose();
        let containers = containers.map_err(|found| problems.extend(found)).ok().flatten();
        if options.when.is_none() && patterns.is_empty() {
            let hint = "set when = 'process.user.id == 0' or containers = [\"web*\"], or both";
            problems.push(Problem::new("", "nothing says what to keep").hint(hint));
        }
        if problems.is_empty() {
            Ok(Self { containers, condition, tests: Vec::new() })
        } else {
            Err(problems)
        }
    }

    /// The condition made ready for the events of a batch, if there is one.
    fn test(&mut self, batch: &Batch) -> Result<Option<&Test>, HandlerError> {
        let Some(condition) = &self.condition else { return Ok(None) };
        let name = batch.event_name();
        let found = match self.tests.iter().position(|(known, _)| *known == name) {
            Some(found) => found,
            None => {
                let test = compile(condition, &batch.schema(), None).map_err(|problems| {
                    let problems: Vec<_> = problems.into_iter().map(|p| p.message).collect();
                    let problems = problems.join("; ");
                    let message = format!("the condition does not fit {name} events: {problems}");
                    HandlerError::Failed { message, source: None }
                })?;
                self.tests.push((name, test));
                self.tests.len() - 1
            }
        };
        Ok(Some(&self.tests[found].1))
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
    const ABOUT: &'static str =
        "keeps the events of some containers, or those for which a condition holds, or both";
    type Options = FilterOptions;
    type Message = Never;

    // It fails only on events that were not there to be checked against, and would do so again.
    const ON_FAILURE: OnFailure = OnFailure::Stop;

    fn check(options: &FilterOptions, input: &[Schema]) -> Vec<Problem> {
        let condition = match Self::new(options) {
            Ok(Self { condition: Some(condition), .. }) => condition,
            Ok(_) => return Vec::new(),
            Err(problems) => return problems,
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
        Self::new(options).map_err(|problems| {
            let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            BuildError(messages.join("; "))
        })
    }

    fn handle(
        &mut self,
        mut batch: Batch,
        cx: &mut Context<'_, Never>,
    ) -> Result<(), HandlerError> {
        if let Some(containers) = &mut self.containers {
            cx.filtered(batch.retain(|event| containers.hold(event.attribution())));
        }
        if let Some(test) = self.test(&batch)? {
            cx.filtered(batch.retain(|event| test.holds(event)));
        }
        cx.emit(batch);
        Ok(())
    }
}
