//! Event types that are defined by a handler's options, such as the results of computations in the
//! configuration.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use whalewatch_core::{
    Batch, Change, Events, FieldInfo, OwnedValue, Process, Schema, Timestamp, Type, Value,
};

/// An event type that is defined at run time. Shapes live as long as the program. Equal shapes are
/// shared, so reloading a configuration adds none, and the memory they take is bounded by the
/// number of different configurations.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    name: &'static str,
    kinds: &'static [&'static str],
    fields: &'static [FieldInfo],
}

/// All shapes of the program.
static SHAPES: Mutex<Vec<&'static Shape>> = Mutex::new(Vec::new());

impl Shape {
    /// Returns the shape with these kinds and these fields: name, type and documentation. The name
    /// of the event type consists of `base` and the fields, so events with the same name have the
    /// same fields.
    pub fn of(
        base: &str,
        kinds: &'static [&'static str],
        fields: &[(String, Type, &'static str)],
    ) -> &'static Self {
        let listed: Vec<_> =
            fields.iter().map(|(name, ty, _)| format!("{name}: {}", ty.as_str())).collect();
        let name = format!("{base}({})", listed.join(", "));
        let mut shapes = SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shapes.iter().find(|shape| shape.name == name && shape.kinds == kinds)
        {
            return known;
        }
        let infos: Vec<_> = fields
            .iter()
            .map(|(name, ty, doc)| FieldInfo { name: name.clone().leak(), ty: *ty, doc })
            .collect();
        let shape: &Self =
            Box::leak(Box::new(Self { name: name.leak(), kinds, fields: infos.leak() }));
        shapes.push(shape);
        shape
    }

    /// Returns the schema, for checks of a configuration.
    pub fn schema(&self) -> Schema {
        Schema::new(self.name, self.kinds, self.fields.iter().copied())
    }

    /// Creates a batch of events of this shape, from the handler with this name.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` events.
    pub fn batch(&'static self, handler: Arc<str>, events: Vec<Shaped>) -> Batch {
        Batch::of(handler, ShapedEvents { shape: self, events })
    }
}

/// An event of some [`Shape`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped {
    /// One of the shape's kinds.
    pub kind: &'static str,
    /// When it happened.
    pub time: Timestamp,
    /// The values of the shape's fields, in order; missing ones at the end are null.
    pub values: Vec<OwnedValue>,
}

/// The events of a batch of one shape.
struct ShapedEvents {
    shape: &'static Shape,
    events: Vec<Shaped>,
}

impl Events for ShapedEvents {
    fn len(&self) -> usize {
        self.events.len()
    }

    fn name(&self) -> &'static str {
        self.shape.name
    }

    fn kind(&self, index: usize) -> &'static str {
        self.events[index].kind
    }

    fn time(&self, index: usize) -> Timestamp {
        self.events[index].time
    }

    fn process(&self, _: usize) -> Option<&Process> {
        None
    }

    fn target(&self, _: usize) -> Option<&Process> {
        None
    }

    fn cgroup(&self, _: usize) -> Option<u64> {
        None
    }

    fn change(&self, _: usize) -> Option<Change<'_>> {
        None
    }

    fn own_fields(&self) -> usize {
        self.shape.fields.len()
    }

    fn own(&self, index: usize, field: usize) -> Value<'_> {
        self.events[index].values.get(field).map_or(Value::Null, OwnedValue::get)
    }

    fn schema(&self) -> Schema {
        self.shape.schema()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Json};

    const KINDS: &[&str] = &["made"];

    fn shape(fields: &[(&str, Type)]) -> &'static Shape {
        let fields: Vec<_> =
            fields.iter().map(|(name, ty)| ((*name).to_owned(), *ty, "")).collect();
        Shape::of("made", KINDS, &fields)
    }

    #[test]
    fn equal_fields_share_a_shape_and_others_have_another_name() {
        let (one, again) = (shape(&[("a.b", Type::Int)]), shape(&[("a.b", Type::Int)]));
        assert!(std::ptr::eq(one, again));
        assert_ne!(one.name, shape(&[("a.b", Type::Uint)]).name);
        assert_ne!(one.name, shape(&[("a.c", Type::Int)]).name);
    }

    #[test]
    fn shaped_event_is_read_like_any_other() {
        let shape = shape(&[
            ("made.number", Type::Int),
            ("made.list", Type::Texts),
            ("made.flag", Type::Bool),
        ]);
        let values = vec![OwnedValue::Int(-3), OwnedValue::texts([&b"a\0b"[..], b""])];
        let event = Shaped { kind: KINDS[0], time: Timestamp(1_000_000_000), values };
        let batch = shape.batch("maker".into(), vec![event]);

        let condition =
            Condition::parse("when", "made.number < 0 && '' in made.list && !made.flag");
        let condition = condition.expect("a condition");
        assert_eq!(condition.check(&[shape.schema()]), []);
        let test = condition.compile(&batch.schema(), None).expect("it fits");
        assert!(test.holds(batch.iter().next().expect("an event")));

        let (mut json, mut out) = (Json::new("node-1"), Vec::new());
        json.batch(&mut out, &batch);
        let want = concat!(
            r#"{"time":"1970-01-01T00:00:01.000000000Z","kind":"made","host":{"name":"node-1"},"#,
            "\"made\":{\"number\":-3,\"list\":[\"a\u{fffd}b\",\"\"]}}\n",
        );
        assert_eq!(String::from_utf8(out).expect("UTF-8"), want);
    }
}
