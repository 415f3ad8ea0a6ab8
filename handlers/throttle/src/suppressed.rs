//! What was kept back of each key, and the events that tell of it.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{Attribution, Batch, EventRef, OwnedValue, Timestamp, Type};
use whalewatch_kit::{Clock, Keys, Shape, Shaped};

/// The one kind that there is.
const KINDS: &[&str] = &["throttle.suppressed"];

/// What the events look like that tell how much was kept back, for keys of these fields.
pub(crate) fn shape(by: &[String]) -> &'static Shape {
    let mut fields = vec![
        ("throttle.count".to_owned(), Type::Uint, "how many events were kept back"),
        ("throttle.since".to_owned(), Type::Time, "when the first of them happened"),
        ("throttle.until".to_owned(), Type::Time, "when the last of them happened"),
        (
            "throttle.rest".to_owned(),
            Type::Bool,
            "true for what the keys beyond `max_keys` had kept back together",
        ),
    ];
    let key = "value of this field of the key, as text";
    fields.extend(by.iter().map(|field| (format!("throttle.key.{field}"), Type::Text, key)));
    Shape::of("throttle", KINDS, &fields)
}

/// What is being kept back of a key.
#[derive(Debug)]
pub(crate) struct Suppression {
    /// Which slot it belongs to.
    pub(crate) slot: usize,
    /// `None` for the keys beyond the most that are known.
    key: Option<Arc<[u8]>>,
    /// Since the last report.
    count: u64,
    since: Timestamp,
    until: Timestamp,
    /// When the last event was kept back, reported or not.
    last: Timestamp,
    /// When the last report was due.
    reported: Timestamp,
    /// Of the last event.
    attribution: Attribution,
}

impl Suppression {
    /// One that begins at that time.
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

    /// Counts an event that is kept back.
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

    /// Whether nothing was kept back for so long that it has ended.
    pub(crate) fn ended(&self, now: Timestamp, quiet: Duration) -> bool {
        self.last.until(now) >= quiet
    }

    /// Whether it is time for a report while it lasts; if so, the next one is due an interval
    /// later.
    pub(crate) fn due(&mut self, now: Timestamp, interval: Duration) -> bool {
        let due = self.reported.until(now) >= interval;
        if due {
            self.reported = now;
        }
        due
    }
}

/// Makes the events.
#[derive(Debug)]
pub(crate) struct Reports {
    name: Arc<str>,
    shape: &'static Shape,
    clock: Clock,
    events: Vec<(Shaped, Attribution)>,
}

impl Reports {
    /// For keys of these fields, in the name of the handler.
    pub(crate) fn new(name: Arc<str>, by: &[String]) -> Self {
        Self { name, shape: shape(by), clock: Clock::new(), events: Vec::new() }
    }

    /// Tells what was kept back since the last report, if anything was.
    pub(crate) fn tell(&mut self, keys: &Keys, suppression: &mut Suppression) {
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

    /// The events made since the last time.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.events.is_empty() {
            return None;
        }
        let (events, attributions): (Vec<_>, Vec<_>) = self.events.drain(..).unzip();
        let batch = self.shape.batch(Arc::clone(&self.name), events);
        Some(batch.with_attributions(attributions))
    }
}
