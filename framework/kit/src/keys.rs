//! Groups events that have the same values in some fields.

use std::sync::Arc;

use whalewatch_core::{
    Batch, EventRef, OwnedValue, PerType, Problem, Schema, State, Texts, Timestamp, Value,
};

use crate::Clock;
use crate::fields::{self, Selected, write_plain};

/// The fields that events are grouped by. The key of a group is a sequence of bytes that can be
/// compared and hashed as it is, and decoded to report on the group.
///
/// Where the container is part of the key ([`Keys::by_container`]), host processes, unknown ones
/// and each container without a name are separate groups, although the fields are null for all of
/// them.
#[derive(Debug)]
pub struct Keys {
    fields: Box<[Box<str>]>,
    host: Arc<str>,
    by_container: bool,
    types: PerType<Box<[Selected]>>,
}

impl Keys {
    /// Groups by these fields; `host` is the host name.
    pub fn new(fields: &[String], host: Arc<str>) -> Self {
        let by_container =
            fields.iter().any(|f| ["container.id", "container.name"].contains(&&**f));
        let fields = fields.iter().map(|field| field.as_str().into()).collect();
        Self { fields, host, by_container, types: PerType::new() }
    }

    /// Returns the problems with the field names in the option `key`: names that no incoming event
    /// has, and duplicates.
    pub fn check(key: &str, names: &[String], input: &[Schema]) -> Vec<Problem> {
        let twice = names.iter().enumerate().filter(|(at, name)| names[..*at].contains(name));
        let twice = twice.map(|(_, name)| {
            Problem::new(key, format!("`{name}` is listed twice")).hint("remove one of them")
        });
        names.iter().filter_map(|name| fields::check(key, name, input)).chain(twice).collect()
    }

    /// Iterates over the names of the fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| &**field)
    }

    /// Whether the container's id or name is part of the key.
    pub fn by_container(&self) -> bool {
        self.by_container
    }

    /// Prepares for the events of a batch; returns the plan that [`Keys::write`] takes.
    pub fn plan(&mut self, batch: &Batch) -> usize {
        let fields = &self.fields;
        self.types.place(batch, |schema| {
            fields.iter().map(|field| Selected::new(schema, field)).collect()
        })
    }

    /// Replaces the contents of `out` by the key of an event; `plan` is that of its batch.
    pub fn write(&self, out: &mut Vec<u8>, plan: usize, event: EventRef<'_>) {
        out.clear();
        for field in &self.types[plan] {
            encode(out, field.value(event, &self.host));
        }
        if self.by_container && event.attribution().state != State::Resolved {
            let attribution = event.attribution();
            out.push(attribution.state as u8);
            out.extend_from_slice(attribution.container.as_ref().map_or(b"", |c| c.id.as_bytes()));
        }
    }

    /// Decodes a key into the values of its fields, as text; null where the group's events have
    /// none.
    pub fn texts(&self, key: &[u8], clock: &mut Clock) -> impl Iterator<Item = OwnedValue> {
        let mut rest = key;
        self.fields.iter().map(move |_| match decode(&mut rest) {
            Value::Null => OwnedValue::Null,
            value => {
                let mut text = Vec::new();
                write_plain(&mut text, clock, value);
                OwnedValue::Text(text.into())
            }
        })
    }
}

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const UINT: u8 = 4;
const TEXT: u8 = 5;
const TEXTS: u8 = 6;
const TIME: u8 = 7;

/// Writes a value. Different sequences of values have different encodings; a number has the same
/// encoding whatever its type.
pub fn encode(out: &mut Vec<u8>, value: Value<'_>) {
    let mut number = |tag, number: u64| {
        out.push(tag);
        out.extend_from_slice(&number.to_le_bytes());
    };
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(flag) => out.push(if flag { TRUE } else { FALSE }),
        Value::Int(n) => number(if n < 0 { INT } else { UINT }, n.cast_unsigned()),
        Value::Uint(n) => number(UINT, n),
        Value::Time(time) => number(TIME, time.as_nanos()),
        Value::Text(text) => {
            number(TEXT, text.len() as u64);
            out.extend_from_slice(text);
        }
        Value::Texts(texts) => {
            number(TEXTS, texts.0.len() as u64);
            out.extend_from_slice(texts.0);
        }
    }
}

/// Reads a value that [`encode`] wrote, and advances past it. Invalid bytes read as null.
pub fn decode<'a>(bytes: &mut &'a [u8]) -> Value<'a> {
    try_decode(bytes).unwrap_or(Value::Null)
}

fn try_decode<'a>(bytes: &mut &'a [u8]) -> Option<Value<'a>> {
    let tag = *bytes.split_off_first()?;
    let mut number =
        || bytes.split_off(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    match tag {
        FALSE => Some(Value::Bool(false)),
        TRUE => Some(Value::Bool(true)),
        INT => number().map(|n| Value::Int(n.cast_signed())),
        UINT => number().map(Value::Uint),
        TIME => number().map(|n| Value::Time(Timestamp(n))),
        TEXT => number().and_then(|n| bytes.split_off(..n as usize)).map(Value::Text),
        TEXTS => {
            number().and_then(|n| bytes.split_off(..n as usize)).map(|b| Value::Texts(Texts(b)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::{Attribution, Evidence, Status};

    use super::*;
    use whalewatch_testing::{Ran, bare, example, named};

    fn key(fields: &[&str], event: Ran, attribution: &Attribution) -> Vec<u8> {
        let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
        let mut keys = Keys::new(&fields, "node-1".into());
        let batch = Batch::new("t".into(), vec![event]);
        let batch = batch.with_attributions([attribution.clone()]);
        let (plan, mut out) = (keys.plan(&batch), vec![1, 2, 3]);
        keys.write(&mut out, plan, batch.iter().next().expect("an event"));
        out
    }

    #[test]
    fn key_is_decoded_as_text() {
        let fields = ["kind", "process.pid", "process.exit.code", "host.name", "no.such"];
        let key = key(&fields, example(), &Attribution::default());
        let keys = Keys::new(&fields.map(str::to_owned), "node-1".into());
        let got: Vec<_> = keys.texts(&key, &mut Clock::new()).collect();
        let want = ["process.exec".into(), "19920".into(), OwnedValue::Null, "node-1".into()];
        assert_eq!(got[..4], want);
        assert_eq!(got[4], OwnedValue::Null);
    }

    #[test]
    fn host_unknown_and_nameless_containers_are_separate_groups() {
        let of = |attribution: &Attribution| key(&["container.name"], example(), attribution);
        let container = |c| of(&Attribution::container(c, Evidence::Cgroup));
        let all = [
            of(&Attribution::host(Evidence::Cgroup)),
            of(&Attribution::unknown()),
            container(bare("ab").into()),
            container(bare("cd").into()),
            container(named("ab", "web", "i", Status::Running)),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        assert_eq!(container(named("ef", "web", "i", Status::Running)), all[4], "by name alone");
        let by_kind = |attribution: &Attribution| key(&["kind"], example(), attribution);
        assert_eq!(by_kind(&Attribution::unknown()), by_kind(&Attribution::host(Evidence::Pid)));
    }

    #[test]
    fn duplicate_and_unknown_fields_are_reported() {
        let names = ["kind", "kind", "uid"].map(str::to_owned);
        let problems = Keys::check("by", &names, &[Schema::of::<Ran>()]);
        let messages: Vec<_> = problems.iter().map(|problem| &*problem.message).collect();
        assert_eq!(messages, ["no incoming event has a field `uid`", "`kind` is listed twice"]);
    }

    fn value() -> impl Strategy<Value = OwnedValue> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..6).prop_map(Vec::into_boxed_slice);
        prop_oneof![
            Just(OwnedValue::Null),
            any::<bool>().prop_map(OwnedValue::Bool),
            (i64::MIN..0).prop_map(OwnedValue::Int),
            any::<u64>().prop_map(OwnedValue::Uint),
            any::<u64>().prop_map(|n| OwnedValue::Time(Timestamp(n))),
            bytes().prop_map(OwnedValue::Text),
            bytes().prop_map(OwnedValue::Texts),
        ]
    }

    proptest! {
        #[test]
        fn written_values_are_read_back(values in prop::collection::vec(value(), 0..5)) {
            let mut bytes = Vec::new();
            for value in &values {
                encode(&mut bytes, value.get());
            }
            let mut rest = &bytes[..];
            for value in &values {
                prop_assert_eq!(decode(&mut rest), value.get());
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut rest = &bytes[..];
            for _ in 0..5 {
                decode(&mut rest);
            }
        }
    }
}
