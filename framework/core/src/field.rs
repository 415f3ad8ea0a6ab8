//! Named, typed access to what is in an event, so that filters and outputs work with events they
//! have never heard of.

use crate::attribution::ATTRIBUTION_FIELDS;
use crate::event::Event;
use crate::process::PROCESS_FIELDS;
use crate::time::Timestamp;

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// True or false.
    Bool,
    /// A signed integer.
    Int,
    /// An unsigned integer.
    Uint,
    /// Text: bytes that are mostly UTF-8.
    Text,
    /// A list of texts.
    Texts,
    /// A point in time.
    Time,
}

impl Type {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Text => "string",
            Self::Texts => "list of strings",
            Self::Time => "timestamp",
        }
    }
}

/// Value of a field in one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// This event has no such value.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// Text. File names and arguments are bytes to the kernel, so this need not be UTF-8.
    Text(&'a [u8]),
    /// A list of texts.
    Texts(Texts<'a>),
    /// A point in time.
    Time(Timestamp),
}

/// A list of texts as the kernel keeps it: each ended by a NUL byte (the last may lack it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts<'a>(pub &'a [u8]);

impl<'a> Texts<'a> {
    /// Each text in turn.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let body = self.0.strip_suffix(b"\0").unwrap_or(self.0);
        let empty = self.0.is_empty();
        body.split(|&b| b == 0).filter(move |_| !empty)
    }
}

/// Name, type and meaning of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Dotted path: `process.executable.path`. Each part becomes a JSON object.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// What it means, in a few words.
    pub doc: &'static str,
}

/// A field of `E`.
pub struct Field<E> {
    /// Name, type and meaning.
    pub info: FieldInfo,
    /// Takes its value from an event. Must be of the type that `info` says, or [`Value::Null`].
    pub get: fn(&E) -> Value<'_>,
}

/// `kind` and `time`, which every event has.
pub const KIND_FIELD: FieldInfo =
    FieldInfo { name: "kind", ty: Type::Text, doc: "what happened: process.exec, …" };
/// When it happened.
pub const TIME_FIELD: FieldInfo =
    FieldInfo { name: "time", ty: Type::Time, doc: "when it happened" };

/// How to get at a field of any event of one type. Found once by name, then used for each event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accessor {
    /// When it happened.
    Time,
    /// What happened.
    Kind,
    /// One of [`PROCESS_FIELDS`].
    Process(u16),
    /// One of [`ATTRIBUTION_FIELDS`].
    Attribution(u16),
    /// One of the event type's own [`Event::FIELDS`].
    Own(u16),
    /// Nothing of the event's, but what a handler knows besides and adds under names of its own; to
    /// the event alone it is null.
    Extra(u16),
}

/// What events of one type look like: for checking a configuration before anything runs, and for
/// outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// [`Event::NAME`].
    pub name: &'static str,
    /// [`Event::KINDS`].
    pub kinds: &'static [&'static str],
    /// Every field with its accessor: time, kind, the process's, its own, the attribution's.
    pub fields: Vec<(FieldInfo, Accessor)>,
}

impl Schema {
    /// The schema of events of type `E`.
    pub fn of<E: Event>() -> Self {
        Self::new(E::NAME, E::KINDS, E::FIELDS.iter().map(|f| f.info))
    }

    /// The schema of events with these fields of their own, besides those that every event has.
    pub fn new(
        name: &'static str,
        kinds: &'static [&'static str],
        own: impl Iterator<Item = FieldInfo>,
    ) -> Self {
        let mut fields = vec![(TIME_FIELD, Accessor::Time), (KIND_FIELD, Accessor::Kind)];
        let numbered = |i: usize| u16::try_from(i).unwrap_or(u16::MAX);
        fields.extend(
            (0..).zip(PROCESS_FIELDS).map(|(i, f)| (f.info, Accessor::Process(numbered(i)))),
        );
        fields.extend((0..).zip(own).map(|(i, info)| (info, Accessor::Own(numbered(i)))));
        fields.extend(
            (0..)
                .zip(ATTRIBUTION_FIELDS)
                .map(|(i, f)| (f.info, Accessor::Attribution(numbered(i)))),
        );
        Self { name, kinds, fields }
    }

    /// The type's own fields, in the order of [`Accessor::Own`]'s numbers.
    pub fn own(&self) -> impl Iterator<Item = &(FieldInfo, Accessor)> {
        self.fields.iter().filter(|(_, accessor)| matches!(accessor, Accessor::Own(_)))
    }

    /// The field of that name.
    pub fn find(&self, name: &str) -> Option<(FieldInfo, Accessor)> {
        self.fields.iter().find(|(info, _)| info.name == name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_at_nul_and_empty_arguments_are_kept() {
        let list = |bytes: &'static [u8]| Texts(bytes).iter().collect::<Vec<_>>();
        assert_eq!(list(b""), Vec::<&[u8]>::new());
        assert_eq!(list(b"a\0b\0"), [b"a", b"b"]);
        assert_eq!(list(b"a\0b"), [b"a", b"b"]);
        assert_eq!(list(b"a\0\0b\0"), [&b"a"[..], b"", b"b"]);
        assert_eq!(list(b"\0"), [b""]);
    }
}
