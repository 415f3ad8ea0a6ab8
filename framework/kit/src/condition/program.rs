//! Compiled conditions: what is left to do for each event.

use whalewatch_core::{Accessor, EventRef, Timestamp, Value};

use super::syntax::Op;

/// A condition on events of one type. Every field in it is found and every type checked, so that nothing can fail.
///
/// A comparison with a field that the event lacks does not hold, except `!=`, which does.
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
    /// Two bools are the same (true) or differ (false).
    Same(bool, Flag, Flag),
    Part(Part, Text, Text),
    /// The field is one of these, which are sorted.
    NumberIn(Accessor, Box<[i128]>),
    TextIn(Accessor, Box<[Box<[u8]>]>),
    /// The text is in the list that the field is.
    Element(Text, Accessor),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Const(i128),
    Field(Accessor),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Const(Box<[u8]>),
    Field(Accessor),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Field(Accessor),
    Test(Box<Test>),
}

/// How a text is part of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Start,
    End,
    Anywhere,
}

impl Part {
    /// The methods of CEL.
    pub(crate) const METHODS: [(&'static str, Self); 3] =
        [("startsWith", Self::Start), ("endsWith", Self::End), ("contains", Self::Anywhere)];

    fn holds(self, whole: &[u8], part: &[u8]) -> bool {
        match self {
            Self::Start => whole.starts_with(part),
            Self::End => whole.ends_with(part),
            Self::Anywhere => {
                part.is_empty() || whole.windows(part.len()).any(|window| window == part)
            }
        }
    }
}

impl Test {
    /// Whether it holds for an event of the type that it was compiled for.
    pub(crate) fn holds(&self, event: EventRef<'_>) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Flag(field) => event.value(*field) == Value::Bool(true),
            Self::IsNull(field) => event.value(*field) == Value::Null,
            Self::Not(test) => !test.holds(event),
            Self::All(tests) => tests.iter().all(|test| test.holds(event)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(event)),
            Self::Number(op, left, right) => compare(*op, left.get(event), right.get(event)),
            Self::Text(op, left, right) => compare(*op, left.get(event), right.get(event)),
            Self::Time(op, left, right) => compare(*op, time(event, *left), time(event, *right)),
            Self::Same(same, left, right) => {
                let op = if *same { Op::Eq } else { Op::Ne };
                compare(op, left.get(event), right.get(event))
            }
            Self::Part(part, whole, text) => match (whole.get(event), text.get(event)) {
                (Some(whole), Some(text)) => part.holds(whole, text),
                _ => false,
            },
            Self::NumberIn(field, numbers) => {
                number(event, *field).is_some_and(|n| numbers.binary_search(&n).is_ok())
            }
            Self::TextIn(field, texts) => match event.value(*field) {
                Value::Text(text) => texts.binary_search_by(|t| (**t).cmp(text)).is_ok(),
                _ => false,
            },
            Self::Element(text, list) => match (text.get(event), event.value(*list)) {
                (Some(text), Value::Texts(list)) => list.iter().any(|element| element == text),
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

fn number(event: EventRef<'_>, field: Accessor) -> Option<i128> {
    match event.value(field) {
        Value::Int(number) => Some(number.into()),
        Value::Uint(number) => Some(number.into()),
        _ => None,
    }
}

fn time(event: EventRef<'_>, field: Accessor) -> Option<Timestamp> {
    match event.value(field) {
        Value::Time(time) => Some(time),
        _ => None,
    }
}

impl Number {
    fn get(&self, event: EventRef<'_>) -> Option<i128> {
        match self {
            Self::Const(number) => Some(*number),
            Self::Field(field) => number(event, *field),
        }
    }
}

impl Text {
    fn get<'a>(&'a self, event: EventRef<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Const(text) => Some(text),
            Self::Field(field) => match event.value(*field) {
                Value::Text(text) => Some(text),
                _ => None,
            },
        }
    }
}

impl Flag {
    fn get(&self, event: EventRef<'_>) -> Option<bool> {
        match self {
            Self::Test(test) => Some(test.holds(event)),
            Self::Field(field) => match event.value(*field) {
                Value::Bool(flag) => Some(flag),
                _ => None,
            },
        }
    }
}
