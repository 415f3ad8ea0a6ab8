//! A field takes its value from the event's own type.

use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

#[derive(Clone)]
struct Seen;

struct Other(u64);

impl Event for Seen {
    const NAME: &'static str = "seen";
    const KINDS: &'static [&'static str] = &["seen"];
    const FIELDS: &'static [Field<Self>] = &[Field {
        info: FieldInfo { name: "seen.count", ty: Type::Uint, doc: "how often" },
        get: |other: &Other| Value::Uint(other.0),
    }];

    fn kind(&self) -> &'static str {
        "seen"
    }

    fn time(&self) -> Timestamp {
        Timestamp(0)
    }

    fn process(&self) -> Option<&Process> {
        None
    }
}

fn main() {}
