//! Reads the options of one part from its table, and finds every mistake in them at once.

use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use whalewatch_core::{Options, Problem};

use super::Span;
use super::describe::{OptionInfo, describe};
use super::names::suggest;

/// The table of a part, without the keys that are not options (`type`).
pub(crate) struct OptionTable<'i> {
    pub(crate) table: DeTable<'i>,
    pub(crate) span: Span,
}

impl OptionTable<'_> {
    /// Moves the options with these names to a separate table.
    pub(crate) fn split(&mut self, keys: &[&str]) -> Self {
        let mut table = DeTable::new();
        let taken: Vec<_> = self
            .table
            .keys()
            .filter(|key| keys.contains(&key.get_ref().as_ref()))
            .cloned()
            .collect();
        for key in taken {
            if let Some(value) = self.table.remove(&key) {
                table.insert(key, value);
            }
        }
        Self { table, span: self.span.clone() }
    }
}

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// At a place in the text.
    At(Span),
    /// At the option that the problem names.
    Option,
}

/// Reads options. Adds mistakes to `problems`, and returns `None` if there are any.
///
/// Serde stops at the first mistake. To find them all, the offending option is removed and the rest
/// is read again.
pub(crate) fn read<O: Options>(
    table: OptionTable<'_>,
    problems: &mut Vec<(Position, Problem)>,
    check: impl FnOnce(&O) -> Vec<Problem>,
) -> Option<O> {
    let before = problems.len();
    let known = describe::<O>();
    let OptionTable { mut table, span } = table;
    refuse_unknown(&mut table, &known, problems);
    let options = loop {
        let whole = Spanned::new(span.clone(), DeValue::Table(table.clone()));
        match O::deserialize(ValueDeserializer::from(whole)) {
            Ok(options) => break Some(options),
            Err(error) => {
                let at = error.span().unwrap_or_else(|| span.clone());
                let culprit = table
                    .iter()
                    .find(|(key, value)| {
                        let whole = key.span().start..value.span().end.max(key.span().end);
                        whole.start <= at.start && at.end <= whole.end && at != span
                    })
                    .map(|(key, _)| key.clone());
                match culprit {
                    Some(key) => {
                        let problem = Problem::new(key.get_ref().as_ref(), tidy(error.message()));
                        let problem = Problem { hint: choice(error.message()), ..problem };
                        problems.push((Position::At(at), problem));
                        table.remove(&key);
                    }
                    None => {
                        report_missing(error.message(), &known, &span, before, problems);
                        break None;
                    }
                }
            }
        }
    };
    let options = options.filter(|_| problems.len() == before)?;
    problems.extend(check(&options).into_iter().map(|problem| (Position::Option, problem)));
    (problems.len() == before).then_some(options)
}

fn refuse_unknown(
    table: &mut DeTable<'_>,
    known: &[OptionInfo],
    problems: &mut Vec<(Position, Problem)>,
) {
    let first = |info: &'_ OptionInfo| info.name.split(['.', '[']).next().unwrap_or("").to_owned();
    let mut names: Vec<String> = known.iter().map(first).collect();
    names.dedup();
    let unknown: Vec<_> = table
        .keys()
        .filter(|key| !names.iter().any(|name| name == key.get_ref().as_ref()))
        .cloned()
        .collect();
    for key in unknown {
        let name = key.get_ref().as_ref();
        let mut problem = Problem::new(name, format!("unknown option \"{name}\""));
        problem.hint = suggest(name, names.iter().map(String::as_str))
            .or_else(|| Some(String::from("it has no options")));
        problems.push((Position::At(key.span()), problem));
        table.remove(&key);
    }
}

/// Reports a mistake that is not at an existing option. An option that is missing only because it
/// was removed for a mistake is not reported again.
fn report_missing(
    message: &str,
    known: &[OptionInfo],
    span: &Span,
    before: usize,
    problems: &mut Vec<(Position, Problem)>,
) {
    let missing = message.strip_prefix("missing field ").map(|name| name.trim_matches('`'));
    if let Some(name) = missing {
        if problems[before..].iter().any(|(_, problem)| problem.key == name) {
            return;
        }
        let info = known.iter().find(|info| info.name == name);
        let problem = Problem::new("", format!("option \"{name}\" is missing"));
        let hint = info.map(|info| format!("{name} ({}): {}", info.ty, info.about));
        problems.push((Position::At(span.clone()), Problem { hint, ..problem }));
    } else {
        problems.push((Position::At(span.clone()), Problem::new("", tidy(message))));
    }
}

/// Replaces the backticks of Serde's messages by quotation marks.
fn tidy(message: &str) -> String {
    message.trim_end().replace('`', "\"")
}

/// Returns a suggestion for messages such as "unknown variant `jsn`, expected `json` or `table`".
fn choice(message: &str) -> Option<String> {
    let (unknown, expected) =
        message.strip_prefix("unknown variant ")?.split_once(", expected ")?;
    let known = expected.split('`').skip(1).step_by(2);
    suggest(unknown.trim_matches('`'), known)
}
