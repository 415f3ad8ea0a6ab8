//! What can be computed: `count()`, `sum(file.io.read.bytes)`, `top(file.path, 5)`.

use whalewatch_core::{Problem, Schema, Type};
use whalewatch_kit::fields;

/// What is computed of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Count,
    Sum,
    Min,
    Max,
    Distinct,
    /// How many values at most.
    Top(usize),
}

/// One computation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compute {
    pub(crate) function: Function,
    /// `None` for `count()`: all events.
    pub(crate) field: Option<String>,
    /// Where the field's name stands.
    at: usize,
}

const NAMES: [&str; 6] = ["count", "sum", "min", "max", "distinct", "top"];
const FORMS: &str =
    "count(), count(FIELD), sum(FIELD), min(FIELD), max(FIELD), distinct(FIELD) or top(FIELD, 5)";
/// The most values that `top` gives.
const MOST_TOP: usize = 100;

impl Compute {
    /// Reads the text of the option `key`.
    ///
    /// # Errors
    /// If it is no computation: what was expected, and where.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self, Problem> {
        let mut reader = Reader { key, text, at: 0 };
        let (name, name_at) = reader.word();
        if name.is_empty() {
            return Err(reader.problem("expected what to compute").hint(format!("write {FORMS}")));
        }
        if !NAMES.contains(&name) {
            let problem =
                Problem::new(key, format!("there is no computation `{name}`")).at(name_at);
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
            let message = format!("`{name}` needs the name of a field");
            return Err(problem(message, at, format!("write {form}")));
        }
        if let Some((_, at)) = given
            && name != "top"
        {
            return Err(problem(format!("`{name}` takes no number"), at, "take it out".into()));
        }
        let function = match name {
            "top" => Function::Top(Self::how_many(key, field.as_deref(), at, given)?),
            "sum" => Function::Sum,
            "min" => Function::Min,
            "max" => Function::Max,
            "distinct" => Function::Distinct,
            _ => Function::Count,
        };
        Ok(Self { function, field, at })
    }

    /// How many values `top` is to give.
    fn how_many(
        key: &str,
        field: Option<&str>,
        field_at: usize,
        given: Option<(usize, usize)>,
    ) -> Result<usize, Problem> {
        let (message, at, hint) = match given {
            Some((count @ 1..=MOST_TOP, _)) => return Ok(count),
            Some((count, at)) => {
                let hint = format!("write a number from 1 to {MOST_TOP}");
                (format!("`top` cannot give {count} values"), at, hint)
            }
            None => {
                let hint = format!("write top({}, 5)", field.unwrap_or("FIELD"));
                ("`top` needs to know how many".to_owned(), field_at, hint)
            }
        };
        Err(Problem::new(key, message).at(at).hint(hint))
    }

    /// What is wrong with its field: no event has it, or it is no number where one is needed.
    pub(crate) fn check(&self, key: &str, input: &[Schema]) -> Option<Problem> {
        let field = self.field.as_deref()?;
        if let Some(problem) = fields::check(key, field, input) {
            return Some(problem.at(self.at));
        }
        if !matches!(self.function, Function::Sum | Function::Min | Function::Max) {
            return None;
        }
        // The host's name is in no schema.
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

/// Whether a result can have that name: in conditions it stands as `aggregate.value.NAME`.
pub(crate) fn check_name(key: &str, name: &str) -> Option<Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain);
    let taken = ["true", "false", "null", "in"].contains(&name);
    (!word || taken).then(|| {
        Problem::new(key, format!("\"{name}\" cannot be the name of a result"))
            .hint("use letters, digits and `_`, beginning with a letter")
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

    /// The name that stands here, which may be empty, and where.
    fn word(&mut self) -> (&'a str, usize) {
        let rest = self.skip_space();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "._-".contains(c)));
        let word = &rest[..end.unwrap_or(rest.len())];
        let at = self.at;
        self.at += word.len();
        (word, at)
    }

    fn expect(&mut self, wanted: char) -> Result<(), Problem> {
        let rest = self.skip_space();
        if rest.starts_with(wanted) {
            self.at += wanted.len_utf8();
            return Ok(());
        }
        let found = rest.chars().next().map_or("nothing".to_owned(), |c| format!("`{c}`"));
        let message = format!("expected `{wanted}`, found {found}");
        Err(self.problem(message).hint(format!("write {FORMS}")))
    }

    /// What stands behind a comma, if one is here.
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
            .problem("there is more behind the computation")
            .hint("give each result a name of its own"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_kit::testing::Did;

    use super::*;

    #[test]
    fn computations_are_read() {
        for (text, function, field) in [
            ("count()", Function::Count, None),
            (" count ( did.what ) ", Function::Count, Some("did.what")),
            ("sum(did.amount)", Function::Sum, Some("did.amount")),
            ("min(did.amount)", Function::Min, Some("did.amount")),
            ("max(did.amount)", Function::Max, Some("did.amount")),
            ("distinct(did.what)", Function::Distinct, Some("did.what")),
            ("top( did.what , 12 )", Function::Top(12), Some("did.what")),
        ] {
            let compute = Compute::parse("compute.x", text).expect(text);
            assert_eq!((compute.function, compute.field.as_deref()), (function, field), "{text}");
            assert_eq!(compute.check("compute.x", &[Schema::of::<Did>()]), None, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, at, message, hint) in [
            ("", 0, "expected what to compute", "write count(), count(FIELD)"),
            ("smu(a)", 0, "there is no computation `smu`", "did you mean `sum`?"),
            ("average(a)", 0, "there is no computation `average`", "write count()"),
            ("count", 5, "expected `(`, found nothing", "write count()"),
            ("sum(a", 5, "expected `)`, found nothing", "write count()"),
            ("sum(a b)", 6, "expected `)`, found `b`", "write count()"),
            ("sum()", 4, "`sum` needs the name of a field", "write sum(FIELD)"),
            ("top(, 5)", 4, "`top` needs the name of a field", "write top(FIELD, 5)"),
            ("top(a)", 4, "`top` needs to know how many", "write top(a, 5)"),
            ("top(a, 0)", 7, "`top` cannot give 0 values", "write a number from 1 to 100"),
            ("top(a, x)", 7, "expected a whole number, found `x`", "write top(FIELD, 5)"),
            ("sum(a, 5)", 7, "`sum` takes no number", "take it out"),
            ("count() count()", 8, "there is more behind", "give each result a name"),
        ] {
            let problem = Compute::parse("compute.x", text).expect_err(text);
            assert_eq!((&*problem.key, problem.offset), ("compute.x", Some(at)), "{text}");
            assert!(problem.message.starts_with(message), "{text}: {}", problem.message);
            let said = problem.hint.unwrap_or_default();
            assert!(said.starts_with(hint), "{text}: {said}");
        }
    }

    #[test]
    fn fields_must_be_there_and_numbers_where_that_is_needed() {
        let input = [Schema::of::<Did>()];
        let problem = |text| {
            let found = Compute::parse("compute.x", text).expect(text).check("compute.x", &input);
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
    fn names_of_results_can_stand_in_conditions() {
        for name in ["opens", "a_1", "Top"] {
            assert_eq!(check_name("compute", name), None, "{name}");
        }
        for name in ["", "1a", "a.b", "a-b", "in", "é"] {
            assert!(check_name("compute", name).is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,20}", tail in "(top|sum)[(), a-z0-9é]{0,12}") {
            for text in [text, tail] {
                if let Err(problem) = Compute::parse("compute.x", &text) {
                    prop_assert!(problem.offset.is_some_and(|at| text.is_char_boundary(at)));
                }
            }
        }
    }
}
