//! Conditions on events, in a part of [CEL](https://cel.dev), the Common Expression Language:
//!
//! * fields by their names, as they are printed: `process.user.id`, `container.name`;
//! * numbers (`0`, `-1`, `42u`, `0x2a`), texts (`'a'`, `"a"`, `r'\d'`), `true`, `false`, `null`,
//!   lists (`[1, 2]`);
//! * `==` `!=` `<` `<=` `>` `>=`; `in`, for lists and for fields that are lists; `&&` `||` `!` and
//!   parentheses;
//! * `text.startsWith(part)`, `text.endsWith(part)`, `text.contains(part)`; `has(field)`;
//! * `text.matches('regex')`: whether a part of it does, in the syntax of RE2 and of the `regex`
//!   crate;
//! * `size(x)` or `x.size()`: how many elements a list has, or how many characters a text;
//! * `list.exists(e, condition)` and `list.all(e, condition)`, for fields that are lists of texts
//!   and for lists of literals: `process.command_args.exists(a, a.startsWith('-i'))`,
//!   `['/bin/', '/sbin/'].exists(p, file.path.startsWith(p))`.
//!
//! A field that an event lacks is null. Comparisons with it do not hold, except `!=`, which does;
//! `field == null` and `has(field)` ask for it. An object (`container == null`) is null if
//! everything in it is.

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

/// A [`Condition`] compiled for events of one type: every field is found and every type checked, so
/// nothing can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test(program::Test);

impl Test {
    /// Whether it holds for an event of the type that it was compiled for.
    #[inline]
    pub fn holds(&self, event: impl Subject) -> bool {
        self.0.holds(&event, None)
    }

    /// The same for events of one kind: whatever hangs on the kind alone is decided.
    #[must_use]
    pub fn for_kind(&self, kind: &str) -> Self {
        Self(self.0.for_kind(kind))
    }

    /// Whether it is known to hold for no event.
    pub fn never(&self) -> bool {
        self.0 == program::Test::Const(false)
    }
}

/// A condition that was read; its fields and types are checked when it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    node: Node,
    /// The option that it stands in.
    key: Box<str>,
}

impl Condition {
    /// Reads the text of the option `key`.
    ///
    /// # Errors
    /// If it is no condition: what was expected, and where.
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

    /// Checks it against every type of event that comes in: a field must be one of any of them,
    /// each type must fit.
    pub fn check(&self, input: &[Schema]) -> Vec<Problem> {
        self.check_with(input, &[])
    }

    /// As [`Condition::check`], where there are extra fields, too.
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

    /// Compiles it for events that look like `schema`; a field that only others of the `known`
    /// schemas have is null in these. Without `known` every field that `schema` lacks is.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, schema: &Schema, known: Option<&[Schema]>) -> Result<Test, Vec<Problem>> {
        self.compile_with(schema, known, &[])
    }

    /// As [`Condition::compile`], where there are extra fields, too.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile_with(
        &self,
        schema: &Schema,
        known: Option<&[Schema]>,
        extra: &[Extra],
    ) -> Result<Test, Vec<Problem>> {
        compile::compile(&self.node, &self.key, schema, known, extra).map(Test)
    }

    /// Every dotted name in it, in the order they stand: fields, and the names that `exists` and
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
