//! Writes events as log records.

use whalewatch_core::{
    Accessor, Batch, EventRef, FieldInfo, KUBERNETES, PerType, Schema, Type, Value,
};
use whalewatch_kit::text::visible;
use whalewatch_kit::{Clock, Filled, Template};

use crate::severity::{INFO, Severity};
use crate::wire::{bytes, fixed64, int, message};

// Field numbers from opentelemetry/proto/logs/v1/logs.proto and
// opentelemetry/proto/common/v1/common.proto.
const RECORD_TIME: u32 = 1;
const RECORD_SEVERITY_NUMBER: u32 = 2;
const RECORD_SEVERITY_TEXT: u32 = 3;
const RECORD_BODY: u32 = 5;
const RECORD_ATTRIBUTES: u32 = 6;
const RECORD_OBSERVED_TIME: u32 = 11;
const RECORD_EVENT_NAME: u32 = 12;
const PAIR_KEY: u32 = 1;
const PAIR_VALUE: u32 = 2;
const VALUE_STRING: u32 = 1;
const VALUE_BOOL: u32 = 2;
const VALUE_INT: u32 = 3;
const VALUE_ARRAY: u32 = 5;
const VALUE_BYTES: u32 = 7;
const ARRAY_VALUES: u32 = 1;

/// The fields of an attribution that are in the resource.
pub(crate) const OF_RESOURCE: [&str; 8] = [
    "container.id",
    "container.name",
    "container.image.name",
    "container.runtime",
    KUBERNETES[0].0,
    KUBERNETES[1].0,
    KUBERNETES[2].0,
    KUBERNETES[3].0,
];

/// Writes events as log records.
#[derive(Debug)]
pub(crate) struct Records {
    body: Option<Template>,
    /// Whether the event's name is an attribute, too.
    name_attribute: bool,
    host: Box<str>,
    clock: Clock,
    text: Vec<u8>,
    plans: PerType<Plan>,
}

/// How to write events of one type.
#[derive(Debug)]
struct Plan {
    attributes: Vec<Attribute>,
    severity: Option<Accessor>,
    body: Option<Filled>,
}

#[derive(Debug)]
struct Attribute {
    /// The encoded key of the pair.
    key: Box<[u8]>,
    accessor: Accessor,
}

impl Records {
    /// Creates a writer for events of `host`.
    pub(crate) fn new(host: &str, body: Option<Template>, name_attribute: bool) -> Self {
        Self {
            body,
            name_attribute,
            host: host.into(),
            clock: Clock::new(),
            text: Vec::new(),
            plans: PerType::new(),
        }
    }

    /// Prepares for the events of a batch. Returns the index of its plan.
    pub(crate) fn plan(&mut self, batch: &Batch) -> usize {
        let (body, host) = (self.body.as_ref(), &self.host);
        self.plans.place(batch, |schema| Plan::new(schema, body, host))
    }

    /// Writes an event as the content of a `LogRecord`. The event has the type that `plan` was made
    /// for, and was observed at the time `observed`, in nanoseconds since 1970.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        plan: usize,
        event: EventRef<'_>,
        observed: u64,
    ) {
        let plan = &mut self.plans[plan];
        let time = event.time().as_nanos();
        fixed64(out, RECORD_TIME, time);
        let severity = plan.severity.map_or(INFO, |accessor| Severity::of(event.value(accessor)));
        int(out, RECORD_SEVERITY_NUMBER, severity.number.into());
        message(out, RECORD_SEVERITY_TEXT, |out| text(out, severity.text));

        self.text.clear();
        match &mut plan.body {
            Some(body) => body.write(&mut self.text, event, visible),
            None => summary(&mut self.text, event),
        }
        message(out, RECORD_BODY, |out| message(out, VALUE_STRING, |out| text(out, &self.text)));

        let kind = event.kind().as_bytes();
        if self.name_attribute {
            message(out, RECORD_ATTRIBUTES, |out| {
                bytes(out, PAIR_KEY, b"event.name");
                message(out, PAIR_VALUE, |out| bytes(out, VALUE_STRING, kind));
            });
        }
        for attribute in &plan.attributes {
            let value = event.value(attribute.accessor);
            if value == Value::Null {
                continue;
            }
            message(out, RECORD_ATTRIBUTES, |out| {
                out.extend_from_slice(&attribute.key);
                message(out, PAIR_VALUE, |out| any_value(out, &mut self.clock, value));
            });
        }
        // The clock of events may be slightly ahead of the one that `observed` is from.
        fixed64(out, RECORD_OBSERVED_TIME, observed.max(time));
        bytes(out, RECORD_EVENT_NAME, kind);
    }
}

impl Plan {
    fn new(schema: &Schema, body: Option<&Template>, host: &str) -> Self {
        let attributes = schema.fields.iter().filter_map(|(info, accessor)| {
            let of_resource =
                matches!(accessor, Accessor::Attribution(_)) && OF_RESOURCE.contains(&info.name);
            let has_own_field = matches!(accessor, Accessor::Time | Accessor::Kind);
            (!of_resource && !has_own_field)
                .then(|| Attribute { key: attribute_key(info.name), accessor: *accessor })
        });
        Self {
            attributes: attributes.collect(),
            severity: schema.fields.iter().find(|field| is_severity(field)).map(|field| field.1),
            body: body.map(|body| body.fill(schema, host)),
        }
    }
}

/// Returns whether a field is the severity: `severity`, or in a group, such as `alert.severity`.
fn is_severity((info, accessor): &(FieldInfo, Accessor)) -> bool {
    let named =
        info.name.strip_suffix("severity").is_some_and(|o| o.is_empty() || o.ends_with('.'));
    named && info.ty == Type::Text && matches!(accessor, Accessor::Own(_))
}

fn attribute_key(name: &str) -> Box<[u8]> {
    let mut key = Vec::new();
    bytes(&mut key, PAIR_KEY, name.as_bytes());
    key.into()
}

/// Writes an attribute with a string value.
pub(crate) fn text_attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    message(out, field, |out| {
        bytes(out, PAIR_KEY, name.as_bytes());
        message(out, PAIR_VALUE, |out| bytes(out, VALUE_STRING, value.as_bytes()));
    });
}

/// Writes an attribute with a list of one string.
pub(crate) fn list_attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    message(out, field, |out| {
        bytes(out, PAIR_KEY, name.as_bytes());
        message(out, PAIR_VALUE, |out| {
            message(out, VALUE_ARRAY, |out| {
                message(out, ARRAY_VALUES, |out| bytes(out, VALUE_STRING, value.as_bytes()));
            });
        });
    });
}

/// Writes the kind, the process and the container: `process.exec by sh[4711] in web-1`.
fn summary(out: &mut Vec<u8>, event: EventRef<'_>) {
    out.extend_from_slice(event.kind().as_bytes());
    if let Some(process) = event.process() {
        out.extend_from_slice(b" by ");
        visible(out, process.comm());
        out.push(b'[');
        out.extend_from_slice(itoa::Buffer::new().format(process.pid).as_bytes());
        out.push(b']');
    }
    if let Some(container) = &event.attribution().container {
        out.extend_from_slice(b" in ");
        visible(out, container.name.as_deref().unwrap_or(container.short_id()).as_bytes());
    }
}

/// Writes text as UTF-8. Invalid bytes become U+FFFD.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Writes the content of an `AnyValue`. Text that is not UTF-8 is written as bytes, and a number
/// beyond 63 bits in decimal, as OpenTelemetry's "Mapping Arbitrary Data to OTLP `AnyValue`"
/// requires.
fn any_value(out: &mut Vec<u8>, clock: &mut Clock, value: Value<'_>) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => int(out, VALUE_BOOL, flag.into()),
        Value::Int(number) => int(out, VALUE_INT, number),
        Value::Uint(number) => match i64::try_from(number) {
            Ok(number) => int(out, VALUE_INT, number),
            Err(_) => {
                bytes(out, VALUE_STRING, itoa::Buffer::new().format(number).as_bytes());
            }
        },
        Value::Text(text) => string_or_bytes(out, text),
        Value::Texts(texts) => message(out, VALUE_ARRAY, |out| {
            for text in texts.iter() {
                message(out, ARRAY_VALUES, |out| string_or_bytes(out, text));
            }
        }),
        Value::Time(time) => message(out, VALUE_STRING, |out| clock.rfc3339(out, time)),
    }
}

fn string_or_bytes(out: &mut Vec<u8>, text: &[u8]) {
    let field = if std::str::from_utf8(text).is_ok() { VALUE_STRING } else { VALUE_BYTES };
    bytes(out, field, text);
}
