//! Finds fields by name, and suggests names for those that do not exist.

use whalewatch_core::{Accessor, EventRef, Problem, Schema, Value};

use crate::{Clock, Extra, Subject, subject};

/// The field that has the host name. Every event has it, though none stores it.
pub const HOST: &str = "host.name";

/// A field found by name, for events of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// [`HOST`].
    Host,
    /// A field of the event.
    Field(Accessor),
    /// These events do not have the field, so it is null.
    Absent,
}

impl Selected {
    /// Finds the field `name` of events with this schema.
    pub fn new(schema: &Schema, name: &str) -> Self {
        Self::new_with(schema, &[], name)
    }

    /// As [`Selected::new`], with extra fields.
    pub fn new_with(schema: &Schema, extra: &[Extra], name: &str) -> Self {
        let own = || schema.find(name).map(|(_, accessor)| accessor);
        let added = subject::find(extra, name).map(|(_, accessor)| accessor);
        match added.or_else(own) {
            Some(accessor) => Self::Field(accessor),
            None if name == HOST => Self::Host,
            None => Self::Absent,
        }
    }

    /// Returns the field's value in an event; `host` is the host name.
    pub fn value<'a>(self, event: EventRef<'a>, host: &'a str) -> Value<'a> {
        match self {
            Self::Host => Value::Text(host.as_bytes()),
            Self::Field(accessor) => event.value(accessor),
            Self::Absent => Value::Null,
        }
    }

    /// Returns the field's value in a subject; `host` is the host name.
    pub fn of<'a>(self, subject: &'a impl Subject, host: &'a str) -> Value<'a> {
        match self {
            Self::Host => Value::Text(host.as_bytes()),
            Self::Field(accessor) => subject.value(accessor),
            Self::Absent => Value::Null,
        }
    }
}

/// Writes a value as plain text: numbers in decimal, times as RFC 3339, lists with spaces between.
/// Null writes nothing.
pub fn write_plain(out: &mut Vec<u8>, clock: &mut Clock, value: Value<'_>) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Value::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Uint(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Text(text) => out.extend_from_slice(text),
        Value::Texts(texts) => {
            for (i, text) in texts.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(text);
            }
        }
        Value::Time(time) => clock.rfc3339(out, time),
    }
}

/// Returns a problem if no incoming event has the field `name`, which the option `key` names. An
/// empty `input` means that the incoming types are not known, which is not a problem.
pub fn check(key: &str, name: &str, input: &[Schema]) -> Option<Problem> {
    check_with(key, name, input, &[])
}

/// As [`check`], with extra fields.
pub fn check_with(key: &str, name: &str, input: &[Schema], extra: &[Extra]) -> Option<Problem> {
    let found = name == HOST || all(input).any(|known| known == name);
    if input.is_empty() || found || extra.iter().any(|field| field.name == name) {
        return None;
    }
    let problem = if all(input).any(|known| is_within(known, name)) {
        let inner: Vec<_> = all(input).filter(|known| is_within(known, name)).take(3).collect();
        let message = format!("`{name}` is a group of fields, not a field");
        Problem::new(key, message).hint(format!("name one of them: {}, …", inner.join(", ")))
    } else {
        let problem = Problem::new(key, format!("no incoming event has a field `{name}`"));
        match hint(name, input, extra) {
            Some(hint) => problem.hint(hint),
            None => problem.hint("`whalewatch list trackers` shows every field"),
        }
    };
    Some(problem)
}

/// Names that people use in other tools, and our names for them.
const ALIASES: &[(&str, &str)] = &[
    ("args", "process.command_args"),
    ("argv", "process.command_args"),
    ("cmdline", "process.command_args"),
    ("exe", "process.executable.path"),
    ("gid", "process.group.id"),
    ("ppid", "process.parent_pid"),
    ("type", "kind"),
    ("uid", "process.user.id"),
];

/// Iterates over the names of all fields.
pub fn all(schemas: &[Schema]) -> impl Iterator<Item = &'static str> {
    schemas.iter().flat_map(|schema| schema.fields.iter().map(|(info, _)| info.name))
}

fn with_extra<'a>(known: &'a [Schema], extra: &'a [Extra]) -> impl Iterator<Item = &'a str> {
    all(known).map(|name| -> &'a str { name }).chain(extra.iter().map(|field| &*field.name))
}

/// Whether the field `name` is in the group `path`.
pub(crate) fn is_within(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// Suggests what to write instead of the unknown field `path`.
pub(crate) fn hint_in_condition(path: &str, known: &[Schema], extra: &[Extra]) -> Option<String> {
    hint(path, known, extra).or_else(|| {
        (!path.contains('.')).then(|| format!("to compare with a string, write '{path}'"))
    })
}

fn hint(path: &str, known: &[Schema], extra: &[Extra]) -> Option<String> {
    let all = || with_extra(known, extra);
    let last = path.rsplit('.').next().unwrap_or(path);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == last).map(|(_, name)| *name);
    alias
        .filter(|name| all().any(|known| known == *name))
        .or_else(|| all().find(|name| is_ending(name, path)))
        .or_else(|| nearest(path, all()))
        .map(did_you_mean)
}

fn is_ending(name: &str, path: &str) -> bool {
    name.strip_suffix(path).is_some_and(|rest| rest.ends_with('.'))
}

/// Returns the most similar of the `known` names, if one is similar enough.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

pub(crate) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use whalewatch_testing::{Odd, Ran, example};

    #[test]
    fn values_are_written_as_plain_text() {
        let batch = whalewatch_core::Batch::new("t".into(), vec![example()]);
        let event = batch.iter().next().expect("an event");
        let shown = |name: &str| {
            let (mut out, mut clock) = (Vec::new(), Clock::new());
            let value = Selected::new(&batch.schema(), name).value(event, "node-1");
            write_plain(&mut out, &mut clock, value);
            String::from_utf8(out).expect("UTF-8")
        };
        for (name, want) in [
            ("kind", "process.exec"),
            ("host.name", "node-1"),
            ("process.pid", "19920"),
            ("process.command_args", "/bin/true"),
            ("process.exit.code", ""),
            ("time", "2026-11-23T13:46:20.171234567Z"),
            ("file.path", ""),
        ] {
            assert_eq!(shown(name), want, "{name}");
        }
    }

    #[test]
    fn unknown_name_is_reported_with_the_nearest() {
        let input = [Schema::of::<Ran>(), Schema::of::<Odd>()];
        let hint = |name: &str| check("by", name, &input).map(|problem| problem.hint);
        assert_eq!(hint("process.pid"), None);
        assert_eq!(hint("host.name"), None);
        assert_eq!(hint("uid"), Some(Some("did you mean `process.user.id`?".into())));
        assert_eq!(hint("procss.pid"), Some(Some("did you mean `process.pid`?".into())));
        assert_eq!(
            hint("process.exit"),
            Some(Some("name one of them: process.exit.code, process.exit.signal, …".into()))
        );
        let unlike = Some(Some("`whalewatch list trackers` shows every field".into()));
        assert_eq!(hint("weather"), unlike);
        assert_eq!(check("by", "weather", &[]), None, "the incoming types are not known");
    }
}
