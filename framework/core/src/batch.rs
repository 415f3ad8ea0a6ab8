//! Batches: what travels between a tracker and the handlers of a chain.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::attribution::{ATTRIBUTION_FIELDS, Attribution};
use crate::event::{Change, Event};
use crate::extension::{Extended, Extension};
use crate::field::{Accessor, Schema, Value};
use crate::process::{PROCESS_FIELDS, Process};
use crate::time::Timestamp;

/// The events of a batch, their type erased.
///
/// Every `Vec` of events implements it. Other implementations are for events that have no Rust
/// type, such as those read from a recording, or whose fields come from a configuration. All events
/// with the same [`Events::name`] must have the same schema, since readers cache what they derive
/// from a schema by that name.
pub trait Events: Any + Send + Sync {
    /// The number of events.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// [`Event::NAME`].
    fn name(&self) -> &'static str;
    /// [`Event::kind`] of one.
    fn kind(&self, index: usize) -> &'static str;
    /// [`Event::time`] of one.
    fn time(&self, index: usize) -> Timestamp;
    /// [`Event::process`] of one.
    fn process(&self, index: usize) -> Option<&Process>;
    /// [`Event::target`] of one.
    fn target(&self, index: usize) -> Option<&Process>;
    /// [`Event::cgroup`] of one.
    fn cgroup(&self, index: usize) -> Option<u64>;
    /// [`Event::change`] of one.
    fn change(&self, index: usize) -> Option<Change<'_>>;
    /// The number of fields of the type itself.
    fn own_fields(&self) -> usize;
    /// The value of one of the type's own fields.
    fn own(&self, index: usize, field: usize) -> Value<'_>;
    /// The schema of the events.
    fn schema(&self) -> Schema;
    /// The events as `Any`, for typed access.
    fn as_any(&self) -> &dyn Any;
}

impl<E: Event> Events for Vec<E> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn name(&self) -> &'static str {
        E::NAME
    }

    fn kind(&self, index: usize) -> &'static str {
        self[index].kind()
    }

    fn time(&self, index: usize) -> Timestamp {
        self[index].time()
    }

    fn process(&self, index: usize) -> Option<&Process> {
        self[index].process()
    }

    fn target(&self, index: usize) -> Option<&Process> {
        self[index].target()
    }

    fn cgroup(&self, index: usize) -> Option<u64> {
        self[index].cgroup()
    }

    fn change(&self, index: usize) -> Option<Change<'_>> {
        self[index].change()
    }

    fn own_fields(&self) -> usize {
        E::FIELDS.len()
    }

    fn own(&self, index: usize, field: usize) -> Value<'_> {
        (E::FIELDS[field].get)(&self[index])
    }

    fn schema(&self) -> Schema {
        Schema::of::<E>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A row of a batch: the index of an event, and its attribution.
#[derive(Clone, Debug)]
struct Row {
    index: u32,
    attribution: Attribution,
}

/// Events of one tracker, in the kernel's order.
///
/// The events themselves are shared: a clone for a second chain copies none of them. A batch owns
/// the list of the events that are still in it, with their attributions. So filtering moves no
/// event, and holding some events back is a split.
#[derive(Clone)]
pub struct Batch {
    tracker: Arc<str>,
    events: Arc<dyn Events>,
    rows: Vec<Row>,
}

impl Batch {
    /// A batch of all of `events`, made by `tracker`, which may also be a handler.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` events.
    pub fn new<E: Event>(tracker: Arc<str>, events: Vec<E>) -> Self {
        Self::of(tracker, events)
    }

    /// A batch of all of `events`, whatever their representation.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` events.
    pub fn of(tracker: Arc<str>, events: impl Events) -> Self {
        let count = u32::try_from(events.len()).expect("a batch holds fewer than 2^32 events");
        let rows =
            (0..count).map(|index| Row { index, attribution: Attribution::default() }).collect();
        Self { tracker, events: Arc::new(events), rows }
    }

    /// The name of the tracker or handler that made the batch.
    pub fn tracker(&self) -> &Arc<str> {
        &self.tracker
    }

    /// The number of events in the batch.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the batch has no events left.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// [`Event::NAME`] of the events.
    pub fn event_name(&self) -> &'static str {
        self.events.name()
    }

    /// The schema of the events. This allocates: cache what you derive from it, by
    /// [`Batch::event_name`].
    pub fn schema(&self) -> Schema {
        self.events.schema()
    }

    /// The events in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EventRef<'_>> {
        self.rows.iter().map(|row| EventRef {
            events: &*self.events,
            index: row.index as usize,
            attribution: &row.attribution,
        })
    }

    /// The event at this place in the order, counted from 0.
    pub fn get(&self, place: usize) -> Option<EventRef<'_>> {
        self.rows.get(place).map(|row| EventRef {
            events: &*self.events,
            index: row.index as usize,
            attribution: &row.attribution,
        })
    }

    /// The events as `E` with their attributions, or `None` if they are of another type.
    pub fn typed<E: Event>(&self) -> Option<impl ExactSizeIterator<Item = (&E, &Attribution)>> {
        let events = self.events.as_any().downcast_ref::<Vec<E>>()?;
        Some(self.rows.iter().map(|row| (&events[row.index as usize], &row.attribution)))
    }

    /// Keeps the events for which `keep` returns true. Returns how many were removed.
    pub fn retain(&mut self, mut keep: impl FnMut(EventRef<'_>) -> bool) -> u64 {
        let before = self.rows.len();
        let events = &*self.events;
        self.rows.retain(|row| {
            keep(EventRef { events, index: row.index as usize, attribution: &row.attribution })
        });
        (before - self.rows.len()) as u64
    }

    /// Gives each event the attribution that `attribute` returns.
    pub fn attribute(&mut self, mut attribute: impl FnMut(EventRef<'_>) -> Attribution) {
        for row in &mut self.rows {
            row.attribution = attribute(EventRef {
                events: &*self.events,
                index: row.index as usize,
                attribution: &row.attribution,
            });
        }
    }

    /// Gives the events these attributions, in order. Events beyond the last attribution get an
    /// unset one; attributions beyond the last event are not used.
    #[must_use]
    pub fn with_attributions(
        mut self,
        attributions: impl IntoIterator<Item = Attribution>,
    ) -> Self {
        let mut attributions = attributions.into_iter();
        self.attribute(|_| attributions.next().unwrap_or_default());
        self
    }

    /// Adds to each event the fields of the `X` that `add` returns. Where `add` returns `None`,
    /// those fields are null. The events then have a separate type: see [`Schema::extended`],
    /// and declare it with [`Declaration::extends`](crate::Declaration::extends).
    ///
    /// Other chains that share the events do not see the new fields.
    pub fn extend<X: Extension>(&mut self, mut add: impl FnMut(EventRef<'_>) -> Option<X>) {
        let mut added: Vec<Option<X>> = Vec::new();
        added.resize_with(self.events.len(), || None);
        for row in &self.rows {
            let index = row.index as usize;
            added[index] =
                add(EventRef { events: &*self.events, index, attribution: &row.attribution });
        }
        self.events = Arc::new(Extended::new(Arc::clone(&self.events), added));
    }

    /// Moves the events for which `take` returns true into a new batch. Both batches keep their
    /// order.
    #[must_use]
    pub fn split(&mut self, mut take: impl FnMut(EventRef<'_>) -> bool) -> Self {
        let events = &*self.events;
        let rows = self
            .rows
            .extract_if(.., |row| {
                take(EventRef { events, index: row.index as usize, attribution: &row.attribution })
            })
            .collect();
        Self { tracker: Arc::clone(&self.tracker), events: Arc::clone(&self.events), rows }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("tracker", &self.tracker)
            .field("event", &self.events.name())
            .field("len", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// One event of a batch.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    events: &'a dyn Events,
    index: usize,
    attribution: &'a Attribution,
}

impl<'a> EventRef<'a> {
    /// [`Event::kind`].
    pub fn kind(&self) -> &'static str {
        self.events.kind(self.index)
    }

    /// [`Event::time`].
    pub fn time(&self) -> Timestamp {
        self.events.time(self.index)
    }

    /// [`Event::process`].
    pub fn process(&self) -> Option<&'a Process> {
        self.events.process(self.index)
    }

    /// [`Event::target`].
    pub fn target(&self) -> Option<&'a Process> {
        self.events.target(self.index)
    }

    /// [`Event::cgroup`].
    pub fn cgroup(&self) -> Option<u64> {
        self.events.cgroup(self.index)
    }

    /// [`Event::change`].
    pub fn change(&self) -> Option<Change<'a>> {
        self.events.change(self.index)
    }

    /// The attribution so far.
    pub fn attribution(&self) -> &'a Attribution {
        self.attribution
    }

    /// The value of a field that was found in this event type's [`Schema`].
    ///
    /// # Panics
    /// If the accessor is from another event type's schema and this type has fewer fields.
    pub fn value(&self, accessor: Accessor) -> Value<'a> {
        match accessor {
            Accessor::Time => Value::Time(self.time()),
            Accessor::Kind => Value::Text(self.kind().as_bytes()),
            Accessor::Process(i) => {
                self.process().map_or(Value::Null, |p| (PROCESS_FIELDS[i as usize].get)(p))
            }
            Accessor::Attribution(i) => (ATTRIBUTION_FIELDS[i as usize].get)(self.attribution),
            Accessor::Own(i) => self.events.own(self.index, i as usize),
            Accessor::Extra(_) => Value::Null,
        }
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRef")
            .field("kind", &self.kind())
            .field("time", &self.time())
            .field("process", &self.process())
            .field("attribution", self.attribution)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::attribution::Evidence;
    use crate::budget::{BudgetEvent, BudgetState};

    use super::*;

    #[test]
    fn attributions_are_given_in_order_and_missing_ones_are_unset() {
        let event = BudgetEvent {
            state: BudgetState::Ended,
            time: Timestamp(0),
            cgroup: 1,
            refused: 0,
            refused_total: 0,
            events_per_second: 0,
        };
        let given = [Attribution::host(Evidence::Cgroup), Attribution::unknown()];
        let attributions = |events: usize| {
            let batch = Batch::new("t".into(), vec![event.clone(); events]);
            let batch = batch.with_attributions(given.clone());
            batch.iter().map(|event| event.attribution().clone()).collect::<Vec<_>>()
        };
        assert_eq!(attributions(1), given[..1]);
        assert_eq!(attributions(3)[..2], given);
        assert_eq!(attributions(3)[2], Attribution::default());
    }
}
