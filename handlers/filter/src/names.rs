//! Names of fields, and what was probably meant by one that there is not.

use whalewatch_core::Schema;

/// What people write who know other tools.
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

/// Every field's name.
pub(crate) fn all(schemas: &[Schema]) -> impl Iterator<Item = &'static str> {
    schemas.iter().flat_map(|schema| schema.fields.iter().map(|(info, _)| info.name))
}

/// Whether a field of that name stands in the object at `path`.
pub(crate) fn is_within(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// What to write instead of the unknown field `path`.
pub(crate) fn hint(path: &str, known: &[Schema]) -> Option<String> {
    let last = path.rsplit('.').next().unwrap_or(path);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == last).map(|(_, name)| *name);
    alias
        .filter(|name| all(known).any(|known| known == *name))
        .or_else(|| all(known).find(|name| is_ending(name, path)))
        .or_else(|| nearest(path, all(known)))
        .map(did_you_mean)
        .or_else(|| {
            (!path.contains('.')).then(|| format!("to compare with a text, write '{path}'"))
        })
}

fn is_ending(name: &str, path: &str) -> bool {
    name.strip_suffix(path).is_some_and(|rest| rest.ends_with('.'))
}

/// The name that is nearest, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

pub(crate) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}
