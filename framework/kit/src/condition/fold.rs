//! Simplifies a compiled condition for events of one kind.

use whalewatch_core::Accessor;

use super::program::{Flag, Number, Test, Text};

impl Test {
    /// Returns the condition for events of one kind: parts that depend only on the kind become
    /// constants.
    pub(crate) fn for_kind(&self, kind: &str) -> Self {
        let text = |text: &Text| match text {
            Text::Field(Accessor::Kind) => Text::Const(kind.as_bytes().into()),
            other => other.clone(),
        };
        let folded = match self {
            Self::Not(test) => match test.for_kind(kind) {
                Self::Const(value) => Self::Const(!value),
                test => Self::Not(Box::new(test)),
            },
            Self::All(tests) => joined(tests, kind, false),
            Self::Any(tests) => joined(tests, kind, true),
            Self::Text(op, left, right) => Self::Text(*op, text(left), text(right)),
            Self::Part(part, whole, of) => Self::Part(*part, text(whole), text(of)),
            Self::Matches(of, pattern) => Self::Matches(text(of), pattern.clone()),
            Self::TextIn(of, texts) => Self::TextIn(text(of), texts.clone()),
            Self::Element(of, list) => Self::Element(text(of), *list),
            Self::Elements(some, list, test) => {
                Self::Elements(*some, *list, Box::new(test.for_kind(kind)))
            }
            Self::Same(same, left, right) => Self::Same(*same, flag(left, kind), flag(right, kind)),
            Self::IsNull(Accessor::Kind | Accessor::Time) => Self::Const(false),
            other => other.clone(),
        };
        if folded.is_known() { Self::Const(folded.holds(&NoFields, None)) } else { folded }
    }

    /// Whether it reads no field, so that it holds for all events or for none.
    fn is_known(&self) -> bool {
        let known = |text: &Text| matches!(text, Text::Const(_));
        match self {
            Self::Text(_, left, right) | Self::Part(_, left, right) => known(left) && known(right),
            Self::Matches(text, _) | Self::TextIn(text, _) => known(text),
            Self::Number(_, Number::Const(_), Number::Const(_)) => true,
            _ => false,
        }
    }
}

/// Simplifies parts joined by `||` or `&&`. `decisive` is the value of a part that decides the
/// whole: true for `||`, false for `&&`.
fn joined(tests: &[Test], kind: &str, decisive: bool) -> Test {
    let mut left: Vec<Test> = Vec::new();
    for test in tests {
        match test.for_kind(kind) {
            Test::Const(value) if value == decisive => return Test::Const(decisive),
            Test::Const(_) => {}
            test => left.push(test),
        }
    }
    match left.len() {
        0 => Test::Const(!decisive),
        1 => left.remove(0),
        _ if decisive => Test::Any(left.into()),
        _ => Test::All(left.into()),
    }
}

fn flag(flag: &Flag, kind: &str) -> Flag {
    match flag {
        Flag::Test(test) => Flag::Test(Box::new(test.for_kind(kind))),
        Flag::Field(field) => Flag::Field(*field),
    }
}

/// A subject without fields.
struct NoFields;

impl crate::Subject for NoFields {
    fn value(&self, _: Accessor) -> whalewatch_core::Value<'_> {
        whalewatch_core::Value::Null
    }
}
