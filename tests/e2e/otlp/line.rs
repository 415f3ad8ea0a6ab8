//! A log record as the JSON line that the same event is on standard output.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::{Map, Value, json};
use whalewatch_core::Timestamp;
use whalewatch_kit::Clock;

/// The line of a record under a resource.
pub(crate) fn of(resource: &[KeyValue], record: &LogRecord) -> Value {
    let mut time = Vec::new();
    Clock::new().rfc3339(&mut time, Timestamp(record.time_unix_nano));
    let mut line = Map::new();
    line.insert("time".to_owned(), String::from_utf8_lossy(&time).into());
    line.insert("kind".to_owned(), record.event_name.clone().into());
    for pair in &record.attributes {
        put(&mut line, &pair.key, value(pair.value.as_ref()));
    }
    let of_resource = |name: &str| {
        let found = resource.iter().find(|pair| pair.key == name);
        found.map_or(Value::Null, |pair| value(pair.value.as_ref()))
    };
    put(&mut line, "host.name", of_resource("host.name"));
    if of_resource("container.id").is_null() {
        line.insert("container".to_owned(), Value::Null);
        return line.into();
    }
    put(&mut line, "container.id", of_resource("container.id"));
    put(&mut line, "container.name", of_resource("container.name"));
    put(&mut line, "container.runtime", of_resource("container.runtime.name"));
    if let Value::String(mut image) = of_resource("container.image.name") {
        if let Some(tag) = of_resource("container.image.tags")[0].as_str() {
            image = format!("{image}:{tag}");
        }
        put(&mut line, "container.image.name", image.into());
    }
    line.into()
}

/// Puts a value where its dotted name says.
fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            object.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| json!({}));
            put(inner.as_object_mut().expect("an object"), rest, value);
        }
    }
}

fn value(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(Any::StringValue(text)) => text.clone().into(),
        Some(Any::BoolValue(flag)) => (*flag).into(),
        Some(Any::IntValue(number)) => (*number).into(),
        // JSON must be UTF-8.
        Some(Any::BytesValue(bytes)) => String::from_utf8_lossy(bytes).into(),
        Some(Any::ArrayValue(list)) => {
            list.values.iter().map(|item| self::value(Some(item))).collect()
        }
        Some(other) => panic!("events have no such values: {other:?}"),
    }
}
