//! Conditions on events, in a subset of [CEL](https://cel.dev), the Common Expression Language:
//!
//! * fields, by the names that outputs print: `process.user.id`, `container.name`;
//! * numbers (`0`, `-1`, `42u`, `0x2a`), strings (`'a'`, `"a"`, `r'\d'`), `true`, `false`,
//!   `null`, lists (`[1, 2]`);
//! * `==` `!=` `<` `<=` `>` `>=`; `in`, for lists and for fields that are lists; `&&` `||` `!` and
//!   parentheses;
//! * `string.startsWith(part)`, `string.endsWith(part)`, `string.contains(part)`; `has(field)`;
//! * `string.matches('regex')`: whether a part of the string matches, in the syntax of RE2 and of
//!   the `regex` crate;
//! * `size(x)` or `x.size()`: the number of elements of a list, or of characters of a string;
//! * `list.exists(e, condition)` and `list.all(e, condition)`, for fields that are lists of strings
//!   and for lists of literals: `process.command_args.exists(a, a.startsWith('-i'))`,
//!   `['/bin/', '/sbin/'].exists(p, file.path.startsWith(p))`.
//!
//! A field that an event lacks is null. Comparisons with it are false, except `!=`, which is true;
//! `field == null` and `has(field)` test for it. A group of fields (`container == null`) is null if
//! all fields in it are.

use whalewatch_core::{Batch, PerType, Problem, Schema};

use crate::{Extra, Subject};

mod compile;
mod fold;
mod lexer;
mod parser;
mod program;
mod syntax;
#[cfg(test)]
mod tests;

use syntax::Node;

/// A [`Condition`] compiled for events of one type. All fields are resolved and all types checked,
/// so evaluating it cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test(program::Test);

impl Test {
    /// Whether it holds for an event of the type that it was compiled for.
    #[inline]
    pub fn holds(&self, event: impl Subject) -> bool {
        self.0.holds(&event, None)
    }

    /// Returns the condition for events of one kind: parts that depend only on the kind become
    /// constants.
    #[must_use]
    pub fn for_kind(&self, kind: &str) -> Self {
        Self(self.0.for_kind(kind))
    }

    /// Whether it is known to be false for every event.
    pub fn never(&self) -> bool {
        self.0 == program::Test::Const(false)
    }
}

/// A parsed condition. Its fields and types are checked when it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    node: Node,
    /// The option that has the condition.
    key: Box<str>,
}

impl Condition {
    /// Parses the condition in the option `key`.
    ///
    /// # Errors
    /// If the text is not a condition: what was expected, and where.
    pub fn parse(key: &str, text: &str) -> Result<Self, Problem> {
        match parser::parse(text) {
            Ok(node) => Ok(Self { node, key: key.into() }),
            Err(error) => Err(Problem {
                key: key.to_owned(),
                offset: Some(error.at),
                message: error.message,
                hint: error.hint,
            }),
        }
    }

    /// Checks it against every incoming type of events: each field must exist in one of them, and
    /// its type must fit in all that have it.
    pub fn check(&self, input: &[Schema]) -> Vec<Problem> {
        self.check_with(input, &[])
    }

    /// As [`Condition::check`], with extra fields.
    pub fn check_with(&self, input: &[Schema], extra: &[Extra]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for schema in input {
            let compiled = self.compile_with(schema, Some(input), extra);
            for problem in compiled.err().unwrap_or_default() {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        problems.sort_by_key(|problem| problem.offset);
        problems
    }

    /// Compiles it for events of the type `schema`. A field that only other `known` types have is
    /// null. Without `known`, any field that `schema` lacks is.
    ///
    /// # Errors
    /// Every problem found.
    pub fn compile(&self, schema: &Schema, known: Option<&[Schema]>) -> Result<Test, Vec<Problem>> {
        self.compile_with(schema, known, &[])
    }

    /// As [`Condition::compile`], with extra fields.
    ///
    /// # Errors
    /// Every problem found.
    pub fn compile_with(
        &self,
        schema: &Schema,
        known: Option<&[Schema]>,
        extra: &[Extra],
    ) -> Result<Test, Vec<Problem>> {
        compile::compile(&self.node, &self.key, schema, known, extra).map(Test)
    }

    /// Lists every dotted name in the order of the text: fields, and the names that `exists` and
    /// `all` give to elements.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.node.names(&mut names);
        names
    }
}

/// A condition and its compiled form for each type of events that came so far.
#[derive(Clone, Debug)]
pub struct Tests {
    condition: Condition,
    compiled: PerType<Test>,
}

impl Tests {
    /// Starts with the condition compiled for no type.
    pub fn new(condition: Condition) -> Self {
        Self { condition, compiled: PerType::new() }
    }

    /// Returns the condition itself.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Returns the condition compiled for the events of a batch.
    ///
    /// # Errors
    /// If it does not fit events of this type; [`Condition::check`] reports that before anything
    /// runs.
    pub fn of(&mut self, batch: &Batch) -> Result<&Test, String> {
        let place = self.compiled.try_place(batch, |schema| {
            self.condition.compile(schema, None).map_err(|problems| {
                let problems: Vec<_> = problems.into_iter().map(|p| p.message).collect();
                let problems = problems.join("; ");
                format!("the condition does not fit {} events: {problems}", schema.name)
            })
        })?;
        Ok(&self.compiled[place])
    }
}
