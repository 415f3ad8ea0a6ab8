//! Named, typed access to the fields of events, so that filters and outputs work with any type of
//! events.

use crate::attribution::ATTRIBUTION_FIELDS;
use crate::event::Event;
use crate::process::PROCESS_FIELDS;
use crate::time::Timestamp;

/// The type of a field.
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
    /// Returns the name that is printed.
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

/// The value of a field in one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// The event has no value.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// Text. File names and arguments are bytes to the kernel, so this may not be UTF-8.
    Text(&'a [u8]),
    /// A list of texts.
    Texts(Texts<'a>),
    /// A point in time.
    Time(Timestamp),
}

/// A list of texts as the kernel stores it: each ends with a NUL byte, which the last may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts<'a>(pub &'a [u8]);

impl<'a> Texts<'a> {
    /// Iterates over the texts.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let body = self.0.strip_suffix(b"\0").unwrap_or(self.0);
        let empty = self.0.is_empty();
        body.split(|&b| b == 0).filter(move |_| !empty)
    }
}

/// The name, type and meaning of a field.
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
    /// Returns the value in an event: of the type in `info`, or [`Value::Null`].
    pub get: fn(&E) -> Value<'_>,
}

/// The field [`Event::kind`].
pub const KIND_FIELD: FieldInfo =
    FieldInfo { name: "kind", ty: Type::Text, doc: "what happened: process.exec, …" };
/// The field [`Event::time`].
pub const TIME_FIELD: FieldInfo =
    FieldInfo { name: "time", ty: Type::Time, doc: "when it happened" };

/// Access to a field of all events of one type: looked up once by name, then used for each event.
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
    /// A field that a handler adds to what conditions and templates can see. In the event itself it
    /// is null.
    Extra(u16),
}

/// The kinds and fields of an event type, for checks of a configuration and for outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// [`Event::NAME`].
    pub name: &'static str,
    /// [`Event::KINDS`].
    pub kinds: &'static [&'static str],
    /// Every field with its accessor: time, kind, the process's, the type's own, the attribution's.
    pub fields: Vec<(FieldInfo, Accessor)>,
}

impl Schema {
    /// Returns the schema of events of type `E`.
    pub fn of<E: Event>() -> Self {
        Self::new(E::NAME, E::KINDS, E::FIELDS.iter().map(|f| f.info))
    }

    /// Creates a schema with the fields that every event has and these `own` ones.
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

    /// Iterates over the type's own fields, in the order of their [`Accessor::Own`] numbers.
    pub fn own(&self) -> impl Iterator<Item = &(FieldInfo, Accessor)> {
        self.fields.iter().filter(|(_, accessor)| matches!(accessor, Accessor::Own(_)))
    }

    /// Finds a field by name.
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
