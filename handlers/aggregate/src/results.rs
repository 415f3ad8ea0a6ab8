//! Turns closed groups into `aggregate.window` events.

use std::collections::BTreeMap;
use std::sync::Arc;

use whalewatch_core::{Attribution, Batch, OwnedValue, Timestamp, Type};
use whalewatch_kit::{Clock, Keys, Shape, Shaped};

use crate::compute::{Computation, Function};
use crate::groups::Group;

/// The kinds of these events.
const KINDS: &[&str] = &["aggregate.window"];

/// Returns the schema of the results. An invalid computation has a field too, so that a later
/// handler that uses it is not reported as a second mistake.
pub(crate) fn shape(
    by: &[String],
    names: &BTreeMap<String, String>,
    computations: &[(String, Computation)],
) -> &'static Shape {
    let field = |name: &str, ty, doc| (format!("aggregate.{name}"), ty, doc);
    let mut fields = vec![
        field("start", Type::Time, "when the window began"),
        field("end", Type::Time, "when the window ended: the first moment after it"),
        field("events", Type::Uint, "number of events of the group in the window"),
        field(
            "late",
            Type::Uint,
            "number of events of the group that arrived after their window had closed",
        ),
        field("rest", Type::Bool, "true for the combined events of groups beyond `max_groups`"),
        field(
            "estimated",
            Type::Texts,
            "names of the results that are estimates: more values than `max_values`",
        ),
    ];
    let key = "the group's value of this field, as text";
    fields.extend(by.iter().map(|name| (format!("aggregate.key.{name}"), Type::Text, key)));
    for name in names.keys() {
        let compute = computations.iter().find(|(known, _)| known == name);
        let value = |part: &str, ty, doc| (format!("aggregate.value.{name}{part}"), ty, doc);
        match compute.map(|(_, compute)| compute.function) {
            Some(Function::Count | Function::Distinct) => {
                fields.push(value("", Type::Uint, "the result of the computation"));
            }
            Some(Function::Sum | Function::Min | Function::Max) | None => {
                fields.push(value("", Type::Int, "the result of the computation"));
            }
            Some(Function::Top(_)) => fields.extend([
                value(".values", Type::Texts, "the most frequent values, in descending order"),
                value(".counts", Type::Texts, "the count of each of these values"),
                value(".highest", Type::Uint, "the count of the most frequent value"),
            ]),
        }
    }
    Shape::of("aggregate", KINDS, &fields)
}

/// Collects the events until they are emitted.
#[derive(Debug)]
pub(crate) struct Results {
    name: Arc<str>,
    shape: &'static Shape,
    /// The names of the computations, in the order of a group's states.
    names: Box<[Box<str>]>,
    clock: Clock,
    events: Vec<(Shaped, Attribution)>,
}

impl Results {
    /// Creates the collection of the handler `name`.
    pub(crate) fn new(
        name: Arc<str>,
        shape: &'static Shape,
        computations: &[(String, Computation)],
    ) -> Self {
        let names = computations.iter().map(|(name, _)| name.as_str().into()).collect();
        Self { name, shape, names, clock: Clock::new(), events: Vec::new() }
    }

    /// Adds the result of a group in a window from `start` to `end`, in nanoseconds since 1970.
    pub(crate) fn add(&mut self, keys: &Keys, start: u64, end: u64, group: Group) {
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

    /// Returns the events added since the last call; `None` if there are none.
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
