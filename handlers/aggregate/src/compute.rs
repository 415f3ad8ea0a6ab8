//! Parses and checks computations: `count()`, `sum(file.io.read.bytes)`, `top(file.path, 5)`.

use whalewatch_core::{Problem, Schema, Type};
use whalewatch_kit::fields;

/// The function of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Count,
    Sum,
    Min,
    Max,
    Distinct,
    /// The most values to return.
    Top(usize),
}

/// One computation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Computation {
    pub(crate) function: Function,
    /// `None` for `count()`, which counts all events.
    pub(crate) field: Option<String>,
    /// The offset of the field's name in the text, in bytes.
    at: usize,
}

const NAMES: [&str; 6] = ["count", "sum", "min", "max", "distinct", "top"];
const FORMS: &str =
    "count(), count(FIELD), sum(FIELD), min(FIELD), max(FIELD), distinct(FIELD) or top(FIELD, 5)";
/// The most values that `top` returns.
const MAX_TOP: usize = 100;

impl Computation {
    /// Parses the text of the option `key`.
    ///
    /// # Errors
    /// If it is not a computation. The error says what was expected, and where.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, Problem> {
        let mut reader = Reader { key, text, at: 0 };
        let (name, name_at) = reader.word();
        if name.is_empty() {
            return Err(reader.problem("expected a computation").hint(format!("write {FORMS}")));
        }
        if !NAMES.contains(&name) {
            let problem = Problem::new(key, format!("unknown function `{name}`")).at(name_at);
            return Err(match fields::nearest(name, NAMES.into_iter()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.hint(format!("write {FORMS}")),
            });
        }
        reader.expect('(')?;
        let (field, at) = reader.word();
        let given = reader.number()?;
        reader.expect(')')?;
        reader.end()?;

        let field = (!field.is_empty()).then(|| field.to_owned());
        let problem =
            |message: String, at, hint: String| Problem::new(key, message).at(at).hint(hint);
        if field.is_none() && name != "count" {
            let form =
                if name == "top" { "top(FIELD, 5)".into() } else { format!("{name}(FIELD)") };
            let message = format!("`{name}` needs a field");
            return Err(problem(message, at, format!("write {form}")));
        }
        if let Some((_, at)) = given
            && name != "top"
        {
            return Err(problem(
                format!("`{name}` does not take a number"),
                at,
                "remove it".into(),
            ));
        }
        let function = match name {
            "top" => Function::Top(Self::top_count(key, field.as_deref(), at, given)?),
            "sum" => Function::Sum,
            "min" => Function::Min,
            "max" => Function::Max,
            "distinct" => Function::Distinct,
            _ => Function::Count,
        };
        Ok(Self { function, field, at })
    }

    /// Returns the number of values that `top` is to return.
    fn top_count(
        key: &str,
        field: Option<&str>,
        field_at: usize,
        given: Option<(usize, usize)>,
    ) -> Result<usize, Problem> {
        let (message, at, hint) = match given {
            Some((count @ 1..=MAX_TOP, _)) => return Ok(count),
            Some((count, at)) => {
                let hint = format!("write a number from 1 to {MAX_TOP}");
                (format!("`top` cannot return {count} values"), at, hint)
            }
            None => {
                let hint = format!("write top({}, 5)", field.unwrap_or("FIELD"));
                ("`top` needs the number of values".to_owned(), field_at, hint)
            }
        };
        Err(Problem::new(key, message).at(at).hint(hint))
    }

    /// Returns the problem with the field: no event has it, or it is not a number where one is
    /// needed.
    pub(crate) fn check(&self, key: &str, input: &[Schema]) -> Option<Problem> {
        let field = self.field.as_deref()?;
        if let Some(problem) = fields::check(key, field, input) {
            return Some(problem.at(self.at));
        }
        if !matches!(self.function, Function::Sum | Function::Min | Function::Max) {
            return None;
        }
        // Schemas do not have the host name.
        let types = input.iter().filter_map(|s| Some(s.find(field)?.0.ty));
        let types = types.chain((field == fields::HOST).then_some(Type::Text));
        let other = types.into_iter().find(|ty| !matches!(ty, Type::Int | Type::Uint))?;
        let name = NAMES[match self.function {
            Function::Sum => 1,
            Function::Min => 2,
            _ => 3,
        }];
        let message = format!("`{name}` needs a number, but `{field}` is a {}", other.as_str());
        Some(
            Problem::new(key, message)
                .at(self.at)
                .hint("count(), distinct() and top() take any field"),
        )
    }
}

/// How to write the name of a result.
const NAME_HINT: &str = "use letters, digits and `_`, beginning with a letter; \
                         true, false, null and in are reserved";

/// Returns the problem with the name of a result: conditions must be able to use it, as
/// `aggregate.value.NAME`.
pub(crate) fn check_name(key: &str, name: &str) -> Option<Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain);
    let taken = ["true", "false", "null", "in"].contains(&name);
    (!word || taken).then(|| {
        Problem::new(key, format!("\"{name}\" cannot be the name of a result")).hint(NAME_HINT)
    })
}

struct Reader<'a> {
    key: &'a str,
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.key, message).at(self.at)
    }

    fn skip_space(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let rest = rest.trim_start();
        self.at = self.text.len() - rest.len();
        rest
    }

    /// Reads a name, which may be empty; returns it with its offset.
    fn word(&mut self) -> (&'a str, usize) {
        let rest = self.skip_space();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "._-".contains(c)));
        let word = &rest[..end.unwrap_or(rest.len())];
        let at = self.at;
        self.at += word.len();
        (word, at)
    }

    fn expect(&mut self, expected: char) -> Result<(), Problem> {
        let rest = self.skip_space();
        if rest.starts_with(expected) {
            self.at += expected.len_utf8();
            return Ok(());
        }
        let found = rest.chars().next().map_or("nothing".to_owned(), |c| format!("`{c}`"));
        let message = format!("expected `{expected}`, found {found}");
        Err(self.problem(message).hint(format!("write {FORMS}")))
    }

    /// Reads a comma and a number, if there are any; returns the number with its offset.
    fn number(&mut self) -> Result<Option<(usize, usize)>, Problem> {
        if !self.skip_space().starts_with(',') {
            return Ok(None);
        }
        self.at += 1;
        let (word, at) = self.word();
        match word.parse() {
            Ok(number) => Ok(Some((number, at))),
            Err(_) => {
                let message = format!("expected a whole number, found `{word}`");
                Err(Problem::new(self.key, message).at(at).hint("write top(FIELD, 5)"))
            }
        }
    }

    fn end(&mut self) -> Result<(), Problem> {
        if self.skip_space().is_empty() {
            return Ok(());
        }
        Err(self
            .problem("unexpected text after the computation")
            .hint("write one computation for each name"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_testing::Did;

    use super::*;

    #[test]
    fn valid_computations_are_parsed() {
        for (text, function, field) in [
            ("count()", Function::Count, None),
            (" count ( did.what ) ", Function::Count, Some("did.what")),
            ("sum(did.amount)", Function::Sum, Some("did.amount")),
            ("min(did.amount)", Function::Min, Some("did.amount")),
            ("max(did.amount)", Function::Max, Some("did.amount")),
            ("distinct(did.what)", Function::Distinct, Some("did.what")),
            ("top( did.what , 12 )", Function::Top(12), Some("did.what")),
        ] {
            let compute = Computation::parse("compute.x", text).expect(text);
            assert_eq!((compute.function, compute.field.as_deref()), (function, field), "{text}");
            assert_eq!(compute.check("compute.x", &[Schema::of::<Did>()]), None, "{text}");
        }
    }

    #[test]
    fn mistakes_are_reported_with_their_place() {
        for (text, at, message, hint) in [
            ("", 0, "expected a computation", "write count(), count(FIELD)"),
            ("smu(a)", 0, "unknown function `smu`", "did you mean `sum`?"),
            ("average(a)", 0, "unknown function `average`", "write count()"),
            ("count", 5, "expected `(`, found nothing", "write count()"),
            ("sum(a", 5, "expected `)`, found nothing", "write count()"),
            ("sum(a b)", 6, "expected `)`, found `b`", "write count()"),
            ("sum()", 4, "`sum` needs a field", "write sum(FIELD)"),
            ("top(, 5)", 4, "`top` needs a field", "write top(FIELD, 5)"),
            ("top(a)", 4, "`top` needs the number of values", "write top(a, 5)"),
            ("top(a, 0)", 7, "`top` cannot return 0 values", "write a number from 1 to 100"),
            ("top(a, x)", 7, "expected a whole number, found `x`", "write top(FIELD, 5)"),
            ("sum(a, 5)", 7, "`sum` does not take a number", "remove it"),
            ("count() count()", 8, "unexpected text after", "write one computation"),
        ] {
            let problem = Computation::parse("compute.x", text).expect_err(text);
            assert_eq!((&*problem.key, problem.offset), ("compute.x", Some(at)), "{text}");
            assert!(problem.message.starts_with(message), "{text}: {}", problem.message);
            let shown = problem.hint.unwrap_or_default();
            assert!(shown.starts_with(hint), "{text}: {shown}");
        }
    }

    #[test]
    fn unknown_fields_and_texts_for_numbers_are_reported() {
        let input = [Schema::of::<Did>()];
        let problem = |text| {
            let found =
                Computation::parse("compute.x", text).expect(text).check("compute.x", &input);
            let found = found.expect(text);
            (found.offset, found.message, found.hint.unwrap_or_default())
        };
        let (at, message, hint) = problem("sum(did.amout)");
        assert_eq!((at, &*hint), (Some(4), "did you mean `did.amount`?"));
        assert!(message.contains("`did.amout`"), "{message}");
        let (at, message, _) = problem("max( did.what )");
        assert_eq!(at, Some(5));
        assert_eq!(message, "`max` needs a number, but `did.what` is a string");
        assert_eq!(
            problem("min(host.name)").1,
            "`min` needs a number, but `host.name` is a string"
        );
    }

    #[test]
    fn result_names_that_conditions_cannot_use_are_refused() {
        for name in ["opens", "a_1", "Top"] {
            assert_eq!(check_name("compute", name), None, "{name}");
        }
        for name in ["", "1a", "a.b", "a-b", "in", "é"] {
            assert!(check_name("compute", name).is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn parser_accepts_or_reports_any_text(
            text in ".{0,20}",
            tail in "(top|sum)[(), a-z0-9é]{0,12}",
        ) {
            for text in [text, tail] {
                if let Err(problem) = Computation::parse("compute.x", &text) {
                    prop_assert!(problem.offset.is_some_and(|at| text.is_char_boundary(at)));
                }
            }
        }
    }
}
