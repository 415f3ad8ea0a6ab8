//! The events that results are.

use std::collections::BTreeMap;
use std::sync::Arc;

use whalewatch_core::{Attribution, Batch, OwnedValue, Timestamp, Type};
use whalewatch_kit::{Clock, Keys, Shape, Shaped};

use crate::compute::{Compute, Function};
use crate::groups::Group;

/// The one kind that there is.
const KINDS: &[&str] = &["aggregate.window"];

/// What results look like. A computation that cannot be read has a result, too, so that what stands
/// behind is not blamed.
pub(crate) fn shape(
    by: &[String],
    names: &BTreeMap<String, String>,
    computes: &[(String, Compute)],
) -> &'static Shape {
    let field = |name: &str, ty, doc| (format!("aggregate.{name}"), ty, doc);
    let mut fields = vec![
        field("start", Type::Time, "when the window began"),
        field("end", Type::Time, "when it ended: the first moment that is not in it"),
        field("events", Type::Uint, "how many events of the group are in the window"),
        field(
            "late",
            Type::Uint,
            "how many events of the group came after their window had closed",
        ),
        field("rest", Type::Bool, "true for the events that there was no group for"),
        field(
            "estimated",
            Type::Texts,
            "results that are not exact: more values than `max_values`",
        ),
    ];
    let key = "value of this field of the group, as text";
    fields.extend(by.iter().map(|name| (format!("aggregate.key.{name}"), Type::Text, key)));
    for name in names.keys() {
        let compute = computes.iter().find(|(known, _)| known == name);
        let value = |part: &str, ty, doc| (format!("aggregate.value.{name}{part}"), ty, doc);
        match compute.map(|(_, compute)| compute.function) {
            Some(Function::Count | Function::Distinct) => {
                fields.push(value("", Type::Uint, "as computed"));
            }
            Some(Function::Sum | Function::Min | Function::Max) | None => {
                fields.push(value("", Type::Int, "as computed"));
            }
            Some(Function::Top(_)) => fields.extend([
                value(".values", Type::Texts, "the most frequent values, the first most often"),
                value(".counts", Type::Texts, "how often each of them was there"),
                value(".highest", Type::Uint, "how often the first of them was there"),
            ]),
        }
    }
    Shape::of("aggregate", KINDS, &fields)
}

/// Makes the events.
#[derive(Debug)]
pub(crate) struct Results {
    name: Arc<str>,
    shape: &'static Shape,
    /// Names of the computations, in the order of a group's states.
    names: Box<[Box<str>]>,
    clock: Clock,
    events: Vec<(Shaped, Attribution)>,
}

impl Results {
    /// In the name of the handler.
    pub(crate) fn new(
        name: Arc<str>,
        shape: &'static Shape,
        computes: &[(String, Compute)],
    ) -> Self {
        let names = computes.iter().map(|(name, _)| name.as_str().into()).collect();
        Self { name, shape, names, clock: Clock::new(), events: Vec::new() }
    }

    /// The result of a group in a window.
    pub(crate) fn tell(&mut self, keys: &Keys, start: u64, end: u64, group: Group) {
        let estimated = group.states.iter().zip(&self.names).filter(|(s, _)| s.is_estimate());
        let estimated: Vec<_> = estimated.map(|(_, name)| name.as_bytes()).collect();
        let mut values = vec![
            OwnedValue::Time(Timestamp(start)),
            OwnedValue::Time(Timestamp(end)),
            OwnedValue::Uint(group.events),
            OwnedValue::Uint(group.late),
            if group.key.is_none() { OwnedValue::Bool(true) } else { OwnedValue::Null },
            if estimated.is_empty() { OwnedValue::Null } else { OwnedValue::texts(estimated) },
        ];
        match &group.key {
            Some(key) => values.extend(keys.texts(key, &mut self.clock)),
            None => values.extend(keys.fields().map(|_| OwnedValue::Null)),
        }
        for state in group.states {
            state.finish(&mut values);
        }
        let event = Shaped { kind: KINDS[0], time: Timestamp(end), values };
        self.events.push((event, group.attribution));
    }

    /// The events made since the last time.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.events.is_empty() {
            return None;
        }
        let (events, attributions): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events).into_iter().unzip();
        let batch = self.shape.batch(Arc::clone(&self.name), events);
        Some(batch.with_attributions(attributions))
    }
}
