//! Counts the suppressed events of each key, and reports them as `throttle.suppressed` events.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{Attribution, Batch, EventRef, OwnedValue, Timestamp, Type};
use whalewatch_kit::{Clock, Keys, Shape, Shaped};

/// The kinds of these events.
const KINDS: &[&str] = &["throttle.suppressed"];

/// Returns the schema of the reports, for keys of these fields.
pub(crate) fn shape(by: &[String]) -> &'static Shape {
    let mut fields = vec![
        ("throttle.count".to_owned(), Type::Uint, "number of events suppressed"),
        ("throttle.since".to_owned(), Type::Time, "time of the first suppressed event"),
        ("throttle.until".to_owned(), Type::Time, "time of the last suppressed event"),
        (
            "throttle.rest".to_owned(),
            Type::Bool,
            "true for the suppressed events of all keys beyond `max_keys` together",
        ),
    ];
    let key = "the key's value of this field, as text";
    fields.extend(by.iter().map(|field| (format!("throttle.key.{field}"), Type::Text, key)));
    Shape::of("throttle", KINDS, &fields)
}

/// A time in which events of a key are being suppressed.
#[derive(Debug)]
pub(crate) struct Suppression {
    /// The index of the key's slot.
    pub(crate) slot: usize,
    /// `None` for the keys beyond `max_keys`.
    key: Option<Arc<[u8]>>,
    /// The number of events suppressed since the last report.
    count: u64,
    since: Timestamp,
    until: Timestamp,
    /// The time of the last suppressed event, reported or not.
    last: Timestamp,
    /// The time of the last report, or of the first suppressed event if there was none.
    reported: Timestamp,
    /// The attribution of the last event, if the container is part of the key.
    attribution: Attribution,
}

impl Suppression {
    /// Creates a suppression that begins at a time.
    pub(crate) fn new(slot: usize, key: Option<Arc<[u8]>>, time: Timestamp) -> Self {
        Self {
            slot,
            key,
            count: 0,
            since: time,
            until: time,
            last: time,
            reported: time,
            attribution: Attribution::default(),
        }
    }

    /// Counts a suppressed event.
    pub(crate) fn count(&mut self, event: EventRef<'_>, by_container: bool) {
        let time = event.time();
        if self.count == 0 {
            (self.since, self.until) = (time, time);
        }
        self.count += 1;
        self.since = self.since.min(time);
        self.until = self.until.max(time);
        self.last = self.last.max(time);
        if by_container && self.key.is_some() {
            self.attribution.clone_from(event.attribution());
        }
    }

    /// Returns whether no event was suppressed for the time `quiet`.
    pub(crate) fn ended(&self, now: Timestamp, quiet: Duration) -> bool {
        self.last.until(now) >= quiet
    }

    /// Returns whether a report is due; the next one is then due an interval later.
    pub(crate) fn due(&mut self, now: Timestamp, interval: Duration) -> bool {
        let due = self.reported.until(now) >= interval;
        if due {
            self.reported = now;
        }
        due
    }
}

/// Collects the reports until they are emitted.
#[derive(Debug)]
pub(crate) struct Reports {
    name: Arc<str>,
    shape: &'static Shape,
    clock: Clock,
    events: Vec<(Shaped, Attribution)>,
}

impl Reports {
    /// Creates the collection of the handler `name`, for keys of these fields.
    pub(crate) fn new(name: Arc<str>, by: &[String]) -> Self {
        Self { name, shape: shape(by), clock: Clock::new(), events: Vec::new() }
    }

    /// Adds a report of the events suppressed since the last one, if there are any.
    pub(crate) fn add(&mut self, keys: &Keys, suppression: &mut Suppression) {
        let count = std::mem::take(&mut suppression.count);
        if count == 0 {
            return;
        }
        let rest = suppression.key.is_none();
        let mut values = vec![
            OwnedValue::Uint(count),
            OwnedValue::Time(suppression.since),
            OwnedValue::Time(suppression.until),
            if rest { OwnedValue::Bool(true) } else { OwnedValue::Null },
        ];
        if let Some(key) = &suppression.key {
            values.extend(keys.texts(key, &mut self.clock));
        }
        let event = Shaped { kind: KINDS[0], time: suppression.until, values };
        self.events.push((event, suppression.attribution.clone()));
    }

    /// Returns the reports added since the last call; `None` if there are none.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.events.is_empty() {
            return None;
        }
        let (events, attributions): (Vec<_>, Vec<_>) = self.events.drain(..).unzip();
        let batch = self.shape.batch(Arc::clone(&self.name), events);
        Some(batch.with_attributions(attributions))
    }
}
