//! Fields that a handler adds to the events of others.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::Events;
use crate::event::Change;
use crate::field::{Accessor, Field, Schema, Value};
use crate::process::Process;
use crate::time::Timestamp;

/// Fields that a handler adds to an event of any type: see [`Batch::extend`](crate::Batch::extend).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be added to events",
    label = "has no fields of events",
    note = "implement `whalewatch_core::Extension` for it: a `NAME` and its `FIELDS`"
)]
pub trait Extension: Sized + Send + Sync + 'static {
    /// A short name, unique in a program: `geo`. Events of the type `network` become events of the
    /// type `network+geo`.
    const NAME: &'static str;
    /// Its fields. Names are dotted paths that no event has yet.
    const FIELDS: &'static [Field<Self>];
}

impl Schema {
    /// Returns the schema of these events once `X` is added to them. The new fields come after the
    /// type's own.
    #[must_use]
    pub fn extended<X: Extension>(&self) -> Self {
        let count = self.own().count();
        // The attribution's fields come last.
        let place = self
            .fields
            .iter()
            .rposition(|(_, accessor)| !matches!(accessor, Accessor::Attribution(_)));
        let added = X::FIELDS.iter().zip(count..).map(|(field, number)| {
            (field.info, Accessor::Own(u16::try_from(number).unwrap_or(u16::MAX)))
        });
        let mut fields = self.fields.clone();
        let place = place.map_or(0, |last| last + 1);
        fields.splice(place..place, added);
        Self { name: extended_name(self.name, X::NAME), kinds: self.kinds, fields }
    }

    /// Returns the name of the type without additions of handlers: `network` of `network+geo`.
    pub fn base_name(&self) -> &'static str {
        self.name.split('+').next().unwrap_or(self.name)
    }
}

/// Returns `network+geo`. Names are never freed; their number is bounded by the types of events and
/// extensions in a program.
fn extended_name(event: &'static str, extension: &'static str) -> &'static str {
    static NAMES: Mutex<BTreeMap<(&str, &str), &'static str>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names
        .entry((event, extension))
        .or_insert_with(|| Box::leak(format!("{event}+{extension}").into_boxed_str()))
}

/// Events with something added to each.
pub(crate) struct Extended<X> {
    events: Arc<dyn Events>,
    name: &'static str,
    /// The number of the type's own fields without those of `X`.
    own: usize,
    /// By the event's index; `None` for events that were not in the batch or got no addition.
    added: Vec<Option<X>>,
}

impl<X: Extension> Extended<X> {
    pub(crate) fn new(events: Arc<dyn Events>, added: Vec<Option<X>>) -> Self {
        let name = extended_name(events.name(), X::NAME);
        Self { own: events.own_fields(), name, events, added }
    }
}

impl<X: Extension> Events for Extended<X> {
    fn len(&self) -> usize {
        self.events.len()
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self, index: usize) -> &'static str {
        self.events.kind(index)
    }

    fn time(&self, index: usize) -> Timestamp {
        self.events.time(index)
    }

    fn process(&self, index: usize) -> Option<&Process> {
        self.events.process(index)
    }

    fn target(&self, index: usize) -> Option<&Process> {
        self.events.target(index)
    }

    fn cgroup(&self, index: usize) -> Option<u64> {
        self.events.cgroup(index)
    }

    fn change(&self, index: usize) -> Option<Change<'_>> {
        self.events.change(index)
    }

    fn own_fields(&self) -> usize {
        self.own + X::FIELDS.len()
    }

    fn own(&self, index: usize, field: usize) -> Value<'_> {
        match field.checked_sub(self.own) {
            None => self.events.own(index, field),
            Some(field) => self.added[index].as_ref().map_or(Value::Null, X::FIELDS[field].get),
        }
    }

    fn schema(&self) -> Schema {
        self.events.schema().extended::<X>()
    }

    fn as_any(&self) -> &dyn Any {
        // The events are unchanged, so typed access still works.
        self.events.as_any()
    }
}

#[cfg(test)]
mod tests {
    use crate::attribution::Attribution;
    use crate::batch::Batch;
    use crate::event::Event;
    use crate::field::{FieldInfo, Type};

    use super::*;

    #[derive(Clone)]
    struct Tick(u64);

    impl Event for Tick {
        const NAME: &'static str = "tick";
        const KINDS: &'static [&'static str] = &["tick"];
        const FIELDS: &'static [Field<Self>] = &[Field {
            info: FieldInfo { name: "tick.number", ty: Type::Uint, doc: "" },
            get: |tick| Value::Uint(tick.0),
        }];

        fn kind(&self) -> &'static str {
            "tick"
        }

        fn time(&self) -> Timestamp {
            Timestamp(self.0)
        }

        fn process(&self) -> Option<&Process> {
            None
        }
    }

    struct Half(u64);

    impl Extension for Half {
        const NAME: &'static str = "half";
        const FIELDS: &'static [Field<Self>] = &[Field {
            info: FieldInfo { name: "tick.half", ty: Type::Uint, doc: "" },
            get: |half| Value::Uint(half.0),
        }];
    }

    struct Word(&'static str);

    impl Extension for Word {
        const NAME: &'static str = "word";
        const FIELDS: &'static [Field<Self>] = &[Field {
            info: FieldInfo { name: "word", ty: Type::Text, doc: "" },
            get: |word| Value::Text(word.0.as_bytes()),
        }];
    }

    fn values(batch: &Batch, name: &str) -> Vec<String> {
        let (_, accessor) = batch.schema().find(name).expect("a field of that name");
        batch.iter().map(|event| format!("{:?}", event.value(accessor))).collect()
    }

    #[test]
    fn added_fields_are_found_by_name_beside_the_others() {
        let mut batch = Batch::new("t".into(), (0..5).map(Tick).collect());
        batch.retain(|event| event.time() != Timestamp(1));
        batch.attribute(|_| Attribution::unknown());
        let number = batch.schema().find("tick.number").expect("a number").1;
        batch.extend(|event| match event.value(number) {
            Value::Uint(number) if number % 2 == 0 => Some(Half(number / 2)),
            _ => None,
        });
        batch.extend(|_| Some(Word("x")));
        assert_eq!(values(&batch, "tick.number"), ["Uint(0)", "Uint(2)", "Uint(3)", "Uint(4)"]);
        assert_eq!(values(&batch, "tick.half"), ["Uint(0)", "Uint(1)", "Null", "Uint(2)"]);
        assert_eq!(values(&batch, "word").len(), 4);
        assert_eq!(
            values(&batch, "attribution.state")[0],
            "Text([117, 110, 107, 110, 111, 119, 110])"
        );
        let ticks = batch.typed::<Tick>().expect("they are still ticks");
        assert_eq!(ticks.map(|(tick, _)| tick.0).collect::<Vec<_>>(), [0, 2, 3, 4]);
        assert_eq!(batch.event_name(), "tick+half+word");
        assert_eq!(batch.event_name(), batch.schema().name);
        assert_eq!(batch.schema().base_name(), "tick");
    }

    #[test]
    fn extended_schema_is_that_of_extended_batches() {
        let mut batch = Batch::new("t".into(), vec![Tick(0)]);
        batch.extend(|_| Some(Half(1)));
        assert_eq!(Schema::of::<Tick>().extended::<Half>(), batch.schema());
        let names: Vec<_> = batch.schema().fields.iter().map(|(info, _)| info.name).collect();
        let own = names.iter().position(|name| *name == "tick.number").expect("a number");
        assert_eq!(names[own + 1], "tick.half", "after the type's own, before the container's");
    }

    #[test]
    fn other_chains_see_unextended_events() {
        let mut batch = Batch::new("t".into(), vec![Tick(0)]);
        let other = batch.clone();
        batch.extend(|_| Some(Half(1)));
        assert_eq!(other.event_name(), "tick");
        assert!(other.schema().find("tick.half").is_none());
    }
}
