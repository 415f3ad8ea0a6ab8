//! Events from a recording.

use std::any::Any;

use serde_json::Value as Json;
use whalewatch_core::{
    Change, Events, FieldInfo, OwnedValue, Process, Schema, Timestamp, Type, Value,
};

use super::line::{Bytes, EventLine, OwnedChange};

/// Recorded events of one type. They have the schema of the type, but are not Rust values of it:
/// [`Batch::typed`](whalewatch_core::Batch::typed) returns `None` for them.
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
    /// In the order of the fields that the type declares.
    values: Box<[OwnedValue]>,
}

/// Converts a field's value to JSON. `None` for null, which is not recorded.
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

/// Converts JSON to a value of a type. `None` if it is of another type.
fn owned(ty: Type, json: &Json) -> Option<OwnedValue> {
    let bytes = |json: &Json| serde_json::from_value::<Bytes>(json.clone()).ok().map(|b| b.0);
    Some(match ty {
        _ if json.is_null() => OwnedValue::Null,
        Type::Bool => OwnedValue::Bool(json.as_bool()?),
        Type::Int => OwnedValue::Int(json.as_i64()?),
        Type::Uint => OwnedValue::Uint(json.as_u64()?),
        Type::Time => OwnedValue::Time(Timestamp(json.as_u64()?)),
        Type::Text => OwnedValue::Text(bytes(json)?.into()),
        Type::Texts => {
            let texts = json.as_array()?.iter().map(bytes).collect::<Option<Vec<_>>>()?;
            OwnedValue::texts(texts.iter().map(Vec::as_slice))
        }
    })
}

impl Recorded {
    pub(super) fn new(schema: Schema) -> Self {
        Self { schema, rows: Vec::new() }
    }

    /// Adds the event of a line. Fields that the type does not have are ignored: a later version of
    /// the program may have recorded them.
    ///
    /// # Errors
    /// If the type has no such kind, or a field has the wrong type.
    pub(super) fn push(&mut self, line: EventLine) -> Result<(), String> {
        let kind = self.schema.kinds.iter().find(|kind| **kind == line.kind);
        let kind = kind.ok_or_else(|| {
            let kinds = self.schema.kinds.join(", ");
            format!(
                "unknown kind \"{}\" of {} events: expected one of {kinds}",
                line.kind, self.schema.name
            )
        })?;
        let value = |(info, _): &(FieldInfo, _)| match line.fields.get(info.name) {
            None => Ok(OwnedValue::Null),
            Some(json) => owned(info.ty, json).ok_or_else(|| {
                format!("field {}: expected {}, found {json}", info.name, info.ty.as_str())
            }),
        };
        let values = self.schema.own().map(value).collect::<Result<_, String>>()?;
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
        self.schema.own().count()
    }

    fn own(&self, index: usize, field: usize) -> Value<'_> {
        self.rows[index].values.get(field).map_or(Value::Null, OwnedValue::get)
    }

    fn schema(&self) -> Schema {
        self.schema.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
