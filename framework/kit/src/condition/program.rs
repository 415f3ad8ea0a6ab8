//! Compiled conditions, as they are evaluated for each event.

use std::sync::Arc;

use whalewatch_core::{Accessor, Timestamp, Value};

use super::syntax::Op;
use crate::Subject;

/// A condition on events of one type. All fields are resolved and all types checked, so that
/// evaluating it cannot fail.
///
/// A comparison with a field that is null does not hold, except `!=`, which does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Const(bool),
    /// The field is true.
    Flag(Accessor),
    /// The event lacks the field.
    IsNull(Accessor),
    Not(Box<Test>),
    All(Box<[Test]>),
    Any(Box<[Test]>),
    Number(Op, Number, Number),
    Text(Op, Text, Text),
    Time(Op, Accessor, Accessor),
    /// Two bools are equal (true) or differ (false).
    Same(bool, Flag, Flag),
    Part(Part, Text, Text),
    Matches(Text, Pattern),
    /// The field is one of these numbers, which are sorted.
    NumberIn(Accessor, Box<[i128]>),
    TextIn(Text, Box<[Box<[u8]>]>),
    /// The text is an element of the list in the field.
    Element(Text, Accessor),
    /// The condition holds for some (true) or for every (false) element of the list in the field.
    Elements(bool, Accessor, Box<Test>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Const(i128),
    Field(Accessor),
    /// The number of characters.
    TextSize(Text),
    /// The number of elements.
    ListSize(Accessor),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Const(Box<[u8]>),
    Field(Accessor),
    /// The current element of an enclosing list, counted outwards: 0 is the innermost.
    Element(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Field(Accessor),
    Test(Box<Test>),
}

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Arc<regex::bytes::Regex>);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// How one text is part of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Start,
    End,
    Anywhere,
}

impl Part {
    /// The CEL methods that test for it.
    pub(crate) const METHODS: [(&'static str, Self); 3] =
        [("startsWith", Self::Start), ("endsWith", Self::End), ("contains", Self::Anywhere)];

    pub(crate) fn holds(self, whole: &[u8], part: &[u8]) -> bool {
        match self {
            Self::Start => whole.starts_with(part),
            Self::End => whole.ends_with(part),
            Self::Anywhere => {
                part.is_empty() || whole.windows(part.len()).any(|window| window == part)
            }
        }
    }
}

/// The current element of `exists` or `all`, and those of the enclosing lists.
pub(crate) struct Bound<'a> {
    element: &'a [u8],
    outer: Option<&'a Bound<'a>>,
}

impl Bound<'_> {
    fn at(bound: Option<&Self>, depth: usize) -> Option<&[u8]> {
        let mut bound = bound?;
        for _ in 0..depth {
            bound = bound.outer?;
        }
        Some(bound.element)
    }
}

impl Test {
    /// Whether it holds for an event of the type that it was compiled for.
    pub(crate) fn holds<S: Subject + ?Sized>(&self, on: &S, bound: Option<&Bound<'_>>) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Flag(field) => on.value(*field) == Value::Bool(true),
            Self::IsNull(field) => on.value(*field) == Value::Null,
            Self::Not(test) => !test.holds(on, bound),
            Self::All(tests) => tests.iter().all(|test| test.holds(on, bound)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(on, bound)),
            Self::Number(op, left, right) => {
                compare(*op, left.get(on, bound), right.get(on, bound))
            }
            Self::Text(op, left, right) => compare(*op, left.get(on, bound), right.get(on, bound)),
            Self::Time(op, left, right) => compare(*op, time(on, *left), time(on, *right)),
            Self::Same(same, left, right) => {
                let op = if *same { Op::Eq } else { Op::Ne };
                compare(op, left.get(on, bound), right.get(on, bound))
            }
            Self::Part(part, whole, text) => match (whole.get(on, bound), text.get(on, bound)) {
                (Some(whole), Some(text)) => part.holds(whole, text),
                _ => false,
            },
            Self::Matches(text, pattern) => {
                text.get(on, bound).is_some_and(|text| pattern.0.is_match(text))
            }
            Self::NumberIn(field, numbers) => {
                number(on, *field).is_some_and(|n| numbers.binary_search(&n).is_ok())
            }
            Self::TextIn(text, texts) => text
                .get(on, bound)
                .is_some_and(|text| texts.binary_search_by(|t| (**t).cmp(text)).is_ok()),
            Self::Element(text, list) => match (text.get(on, bound), on.value(*list)) {
                (Some(text), Value::Texts(list)) => list.iter().any(|element| element == text),
                _ => false,
            },
            Self::Elements(some, list, test) => match on.value(*list) {
                Value::Texts(list) => {
                    let holds = |element| test.holds(on, Some(&Bound { element, outer: bound }));
                    if *some { list.iter().any(holds) } else { list.iter().all(holds) }
                }
                _ => false,
            },
        }
    }
}

fn compare<T: Ord>(op: Op, left: Option<T>, right: Option<T>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => op.holds(&left, &right),
        _ => op == Op::Ne,
    }
}

fn number<S: Subject + ?Sized>(on: &S, field: Accessor) -> Option<i128> {
    match on.value(field) {
        Value::Int(number) => Some(number.into()),
        Value::Uint(number) => Some(number.into()),
        _ => None,
    }
}

fn time<S: Subject + ?Sized>(on: &S, field: Accessor) -> Option<Timestamp> {
    match on.value(field) {
        Value::Time(time) => Some(time),
        _ => None,
    }
}

/// Returns the number of characters; each run of invalid UTF-8 counts as one.
fn characters(text: &[u8]) -> i128 {
    let count = |chunk: std::str::Utf8Chunk<'_>| {
        chunk.valid().chars().count() + usize::from(!chunk.invalid().is_empty())
    };
    text.utf8_chunks().map(count).sum::<usize>() as i128
}

impl Number {
    fn get<S: Subject + ?Sized>(&self, on: &S, bound: Option<&Bound<'_>>) -> Option<i128> {
        match self {
            Self::Const(n) => Some(*n),
            Self::Field(field) => number(on, *field),
            Self::TextSize(text) => text.get(on, bound).map(characters),
            Self::ListSize(field) => match on.value(*field) {
                Value::Texts(list) => Some(list.iter().count() as i128),
                _ => None,
            },
        }
    }
}

impl Text {
    fn get<'a, S: Subject + ?Sized>(
        &'a self,
        on: &'a S,
        bound: Option<&'a Bound<'_>>,
    ) -> Option<&'a [u8]> {
        match self {
            Self::Const(text) => Some(text),
            Self::Field(field) => match on.value(*field) {
                Value::Text(text) => Some(text),
                _ => None,
            },
            Self::Element(depth) => Bound::at(bound, *depth),
        }
    }
}

impl Flag {
    fn get<S: Subject + ?Sized>(&self, on: &S, bound: Option<&Bound<'_>>) -> Option<bool> {
        match self {
            Self::Test(test) => Some(test.holds(on, bound)),
            Self::Field(field) => match on.value(*field) {
                Value::Bool(flag) => Some(flag),
                _ => None,
            },
        }
    }
}
