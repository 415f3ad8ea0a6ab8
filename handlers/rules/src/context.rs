//! The fields that conditions can use beside those of the event: the program, parent and ancestors
//! of the process, the host's namespaces, and fields of earlier steps.

use std::cell::OnceCell;

use whalewatch_core::{Accessor, EventRef, OwnedValue, Process, Schema, Texts, Type, Value};
use whalewatch_kit::fields::Selected;
use whalewatch_kit::{Extra, Subject};

use crate::processes::{Entry, Processes};

/// The fields that the conditions of every rule can use, in the order of [`context`].
const FIELDS: [(&str, Type); 16] = [
    ("process.executable.path", Type::Text),
    ("process.command_args", Type::Texts),
    ("parent.pid", Type::Uint),
    ("parent.start_time", Type::Uint),
    ("parent.comm", Type::Text),
    ("parent.executable.path", Type::Text),
    ("parent.command_args", Type::Texts),
    ("parent.cgroup_id", Type::Uint),
    ("parent.namespaces.pid", Type::Uint),
    ("parent.namespaces.mnt", Type::Uint),
    ("ancestors.comm", Type::Texts),
    ("ancestors.executable.path", Type::Texts),
    ("host.namespaces.user", Type::Uint),
    ("host.namespaces.pid", Type::Uint),
    ("host.namespaces.mnt", Type::Uint),
    ("host.namespaces.net", Type::Uint),
];

/// Returns these fields; the references of a rule to its steps follow them.
pub(crate) fn fields() -> impl Iterator<Item = Extra> {
    FIELDS.iter().map(|(name, ty)| Extra { name: (*name).to_owned(), ty: *ty })
}

/// Number of these fields.
pub(crate) const COUNT: usize = FIELDS.len();

/// Longest text or list that is kept, in bytes: no path is longer. A longer one counts as missing,
/// because a cut one would be a different value.
const MAX_BYTES: usize = 4096;

/// Copies a field's value.
pub(crate) fn keep(value: Value<'_>) -> OwnedValue {
    match value {
        Value::Text(bytes) | Value::Texts(Texts(bytes)) if bytes.len() > MAX_BYTES => {
            OwnedValue::Null
        }
        value => value.into(),
    }
}

/// Where events of one type have the path and arguments of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramFields {
    path: Selected,
    args: Selected,
}

impl ProgramFields {
    pub(crate) fn new(schema: &Schema) -> Self {
        Self { path: Selected::new(schema, FIELDS[0].0), args: Selected::new(schema, FIELDS[1].0) }
    }

    pub(crate) fn path(self, event: EventRef<'_>) -> Value<'_> {
        self.path.value(event, "")
    }

    pub(crate) fn args(self, event: EventRef<'_>) -> Value<'_> {
        self.args.value(event, "")
    }
}

/// An event with its context. Each field is looked up when a condition uses it.
pub(crate) struct Seen<'a> {
    pub(crate) event: EventRef<'a>,
    processes: &'a Processes,
    program: ProgramFields,
    own: OnceCell<Option<&'a Entry>>,
    parent: OnceCell<Option<&'a Entry>>,
    comms: OnceCell<Vec<u8>>,
    paths: OnceCell<Vec<u8>>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(
        event: EventRef<'a>,
        processes: &'a Processes,
        program: ProgramFields,
    ) -> Self {
        Self {
            event,
            processes,
            program,
            own: OnceCell::new(),
            parent: OnceCell::new(),
            comms: OnceCell::new(),
            paths: OnceCell::new(),
        }
    }

    fn process(&self) -> Option<&'a Process> {
        self.event.process()
    }

    fn own(&self) -> Option<&'a Entry> {
        *self.own.get_or_init(|| self.processes.get(self.process()?.key()))
    }

    fn parent(&self) -> Option<&'a Entry> {
        *self.parent.get_or_init(|| {
            let process = self.process()?;
            let now = self.processes.get(process.parent_key());
            now.or_else(|| self.processes.get(self.own()?.parent))
        })
    }

    /// Returns a text of each ancestor, the parent first, each followed by a NUL byte.
    fn ancestors(&self, text: impl Fn(&'a Entry) -> &'a [u8]) -> Vec<u8> {
        let mut list = Vec::new();
        let from = self.own().and_then(|own| self.processes.get(own.parent));
        for entry in self.processes.lineage(from.or_else(|| self.parent())) {
            list.extend_from_slice(text(entry));
            list.push(0);
        }
        list
    }

    /// Returns one of [`FIELDS`].
    fn context(&self, field: u16) -> Value<'_> {
        let host = |number: fn(&whalewatch_core::Namespaces) -> u32| {
            self.processes.host().map_or(Value::Null, |spaces| known(number(spaces).into()))
        };
        let parent = |value: fn(&'a Entry) -> Value<'a>| self.parent().map_or(Value::Null, value);
        match field {
            0 => match self.program.path(self.event) {
                Value::Null => self.own().and_then(Entry::path).map_or(Value::Null, Value::Text),
                value => value,
            },
            1 => match self.program.args(self.event) {
                Value::Null => self.own().and_then(Entry::args).map_or(Value::Null, list),
                value => value,
            },
            2 => parent(|p| Value::Uint(p.key.pid.into())),
            3 => parent(|p| Value::Uint(p.key.start_time)),
            4 => parent(|p| Value::Text(p.comm())),
            5 => parent(|p| p.path().map_or(Value::Null, Value::Text)),
            6 => parent(|p| p.args().map_or(Value::Null, list)),
            7 => parent(|p| known(p.cgroup_id)),
            8 => parent(|p| known(p.namespaces.pid.into())),
            9 => parent(|p| known(p.namespaces.mnt.into())),
            10 => list(self.comms.get_or_init(|| self.ancestors(Entry::comm))),
            11 => list(
                self.paths.get_or_init(|| self.ancestors(|entry| entry.path().unwrap_or_default())),
            ),
            12 => host(|spaces| spaces.user),
            13 => host(|spaces| spaces.pid),
            14 => host(|spaces| spaces.mnt),
            15 => host(|spaces| spaces.net),
            _ => Value::Null,
        }
    }
}

fn list(bytes: &[u8]) -> Value<'_> {
    if bytes.is_empty() { Value::Null } else { Value::Texts(Texts(bytes)) }
}

fn known(number: u64) -> Value<'static> {
    if number == 0 { Value::Null } else { Value::Uint(number) }
}

impl Subject for Seen<'_> {
    #[inline]
    fn value(&self, accessor: Accessor) -> Value<'_> {
        match accessor {
            Accessor::Extra(field) => self.context(field),
            own => EventRef::value(&self.event, own),
        }
    }
}

/// An event after the events of earlier steps.
pub(crate) struct After<'a, 'e> {
    pub(crate) seen: &'a Seen<'e>,
    /// Captured values of the earlier events, in the order of the rule's references.
    pub(crate) kept: &'a [OwnedValue],
}

impl Subject for After<'_, '_> {
    fn value(&self, accessor: Accessor) -> Value<'_> {
        match accessor {
            Accessor::Extra(field) if usize::from(field) >= COUNT => {
                self.kept.get(usize::from(field) - COUNT).map_or(Value::Null, OwnedValue::get)
            }
            other => self.seen.value(other),
        }
    }
}
