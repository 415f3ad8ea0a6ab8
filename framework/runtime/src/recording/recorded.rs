//! Events that were read from a recording.

use std::any::Any;

use serde_json::Value as Json;
use whalewatch_core::{
    Accessor, Change, Events, FieldInfo, Process, Schema, Texts, Timestamp, Type, Value,
};

use super::line::{Bytes, EventLine, OwnedChange};

/// Events of one type, read back. They have the schema of the type, but are none of its values: a handler that asks a batch for
/// the type itself ([`Batch::typed`](whalewatch_core::Batch::typed)) gets nothing of these.
pub(super) struct Recorded {
    schema: Schema,
    rows: Vec<Row>,
}

struct Row {
    kind: &'static str,
    time: Timestamp,
    process: Option<Process>,
    target: Option<Process>,
    cgroup: Option<u64>,
    change: Option<OwnedChange>,
    /// In the order of the type's own fields.
    values: Box<[Owned]>,
}

/// A [`Value`] that owns its text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(Vec<u8>),
    Texts(Vec<u8>),
    Time(Timestamp),
}

/// A value as a line has it.
pub(super) fn json(value: Value<'_>) -> Option<Json> {
    let bytes = |text: &[u8]| serde_json::to_value(Bytes(text.to_vec())).ok();
    match value {
        Value::Null => None,
        Value::Bool(flag) => Some(flag.into()),
        Value::Int(number) => Some(number.into()),
        Value::Uint(number) => Some(number.into()),
        Value::Text(text) => bytes(text),
        Value::Texts(texts) => texts.iter().map(bytes).collect(),
        Value::Time(time) => Some(time.0.into()),
    }
}

impl Owned {
    /// `None` if it is not of that type.
    fn new(ty: Type, json: &Json) -> Option<Self> {
        let bytes = |json: &Json| serde_json::from_value::<Bytes>(json.clone()).ok();
        Some(match ty {
            _ if json.is_null() => Self::Null,
            Type::Bool => Self::Bool(json.as_bool()?),
            Type::Int => Self::Int(json.as_i64()?),
            Type::Uint => Self::Uint(json.as_u64()?),
            Type::Time => Self::Time(Timestamp(json.as_u64()?)),
            Type::Text => Self::Text(bytes(json)?.0),
            Type::Texts => {
                let mut list = Vec::new();
                for text in json.as_array()? {
                    list.extend(bytes(text)?.0);
                    list.push(0);
                }
                Self::Texts(list)
            }
        })
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::Text(text) => Value::Text(text),
            Self::Texts(list) => Value::Texts(Texts(list)),
            Self::Time(time) => Value::Time(*time),
        }
    }
}

impl Recorded {
    pub(super) fn new(schema: Schema) -> Self {
        Self { schema, rows: Vec::new() }
    }

    /// Adds the event of a line.
    ///
    /// # Errors
    /// If a kind or a field's type is none of this type of events. A field that the type does not have is left out: a
    /// later version may have more.
    pub(super) fn push(&mut self, line: EventLine) -> Result<(), String> {
        let kind = self.schema.kinds.iter().find(|kind| **kind == line.kind);
        let kind = kind.ok_or_else(|| {
            let kinds = self.schema.kinds.join(", ");
            format!("no {} event is called \"{}\": expected {kinds}", self.schema.name, line.kind)
        })?;
        let value = |(info, _): &(FieldInfo, _)| match line.fields.get(info.name) {
            None => Ok(Owned::Null),
            Some(json) => Owned::new(info.ty, json).ok_or_else(|| {
                format!("field {}: expected {}, found {json}", info.name, info.ty.as_str())
            }),
        };
        let own =
            self.schema.fields.iter().filter(|(_, accessor)| matches!(accessor, Accessor::Own(_)));
        let values = own.map(value).collect::<Result<_, String>>()?;
        self.rows.push(Row {
            kind,
            time: line.time,
            process: line.process,
            target: line.target,
            cgroup: line.cgroup,
            change: line.change,
            values,
        });
        Ok(())
    }
}

impl Events for Recorded {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn name(&self) -> &'static str {
        self.schema.name
    }

    fn kind(&self, index: usize) -> &'static str {
        self.rows[index].kind
    }

    fn time(&self, index: usize) -> Timestamp {
        self.rows[index].time
    }

    fn process(&self, index: usize) -> Option<&Process> {
        self.rows[index].process.as_ref()
    }

    fn target(&self, index: usize) -> Option<&Process> {
        self.rows[index].target.as_ref()
    }

    fn cgroup(&self, index: usize) -> Option<u64> {
        self.rows[index].cgroup
    }

    fn change(&self, index: usize) -> Option<Change<'_>> {
        self.rows[index].change.as_ref().map(OwnedChange::as_change)
    }

    fn own_fields(&self) -> usize {
        let own = |(_, accessor): &&(FieldInfo, Accessor)| matches!(accessor, Accessor::Own(_));
        self.schema.fields.iter().filter(own).count()
    }

    fn own(&self, index: usize, field: usize) -> Value<'_> {
        self.rows[index].values.get(field).map_or(Value::Null, Owned::value)
    }

    fn schema(&self) -> Schema {
        self.schema.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
