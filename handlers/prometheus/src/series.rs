//! The time series of one metric: a number for each combination of label values.

use std::collections::HashMap;
use std::sync::Arc;

use whalewatch_core::{Batch, EventRef, PerType, Schema, Value};
use whalewatch_kit::fields::Selected;
use whalewatch_kit::{Clock, Test};

use crate::definition::Definition;
use crate::label::{self, SEPARATOR};
use crate::options::Kind;

/// A combination without an event for more than this many sweeps expires.
pub(crate) const SWEEPS: u32 = 4;

/// The label values of one combination, in the order of [`Definition::labels`].
pub(crate) type LabelValues = Arc<[Box<str>]>;

/// The series limit that all metrics share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Current number of time series.
    pub(crate) used: u64,
    /// Maximum number of time series.
    pub(crate) max: u64,
}

/// Counts of uncounted events and of expired combinations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that were not counted because a limit on series was reached.
    pub(crate) refused: u64,
    /// Events that were not counted because their value is negative.
    pub(crate) negative: u64,
    /// Combinations that expired.
    pub(crate) expired: u64,
}

/// A metric and its numbers.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) definition: Arc<Definition>,
    /// Maps a type of events to how it is counted; `None` if none of its events can be counted.
    plans: PerType<Option<Plan>>,
    /// Maps label values, each followed by [`SEPARATOR`], to indexes into `rows`. Traced programs
    /// choose the values, so the hasher is the standard one, which is safe against chosen
    /// collisions.
    index: HashMap<Box<[u8]>, usize>,
    rows: Vec<Row>,
    /// Indexes of free entries in `rows`.
    free: Vec<usize>,
    /// `width` numbers for each row: a counter's number, or a histogram's buckets and sum.
    numbers: Vec<u64>,
    width: usize,
    used: u64,
    pub(crate) tally: Tally,
    /// Whether the metric was reported as full.
    reported_full: bool,
    /// Events refused up to the last call of [`Metric::is_no_longer_full`].
    refused_before: u64,
    /// The key of the current event, kept to avoid an allocation for each lookup.
    key: Vec<u8>,
    /// The previous key and its row: neighbouring events often have the same one.
    last: Option<(Vec<u8>, usize)>,
}

#[derive(Debug)]
struct Row {
    /// `None` if the row is free.
    labels: Option<LabelValues>,
    /// Number of sweeps before its last event.
    touched: u32,
}

/// How to count events of one type.
#[derive(Debug)]
struct Plan {
    test: Option<Test>,
    labels: Box<[Selected]>,
    value: Option<Selected>,
}

/// A copy of a metric's numbers.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) definition: Arc<Definition>,
    rows: Vec<(LabelValues, usize)>,
    numbers: Vec<u64>,
    width: usize,
    /// Current number of time series.
    pub(crate) used: u64,
    pub(crate) tally: Tally,
}

impl Snapshot {
    /// Iterates over the combinations and their numbers.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[Box<str>], &[u64])> {
        let numbers = |row: usize| &self.numbers[row * self.width..(row + 1) * self.width];
        self.rows.iter().map(move |(labels, row)| (&**labels, numbers(*row)))
    }
}

impl Metric {
    pub(crate) fn new(definition: Arc<Definition>) -> Self {
        let width = match definition.kind {
            Kind::Counter => 1,
            Kind::Histogram => definition.bounds.len() + 2,
        };
        Self {
            definition,
            plans: PerType::new(),
            index: HashMap::new(),
            rows: Vec::new(),
            free: Vec::new(),
            numbers: Vec::new(),
            width,
            used: 0,
            tally: Tally::default(),
            reported_full: false,
            refused_before: 0,
            key: Vec::new(),
            last: None,
        }
    }

    /// Counts the events of a batch. `now` is the number of sweeps so far.
    ///
    /// # Errors
    /// If the condition does not match events of this type; the check of the options reports that
    /// first.
    pub(crate) fn count(
        &mut self,
        batch: &Batch,
        host: &str,
        clock: &mut Clock,
        now: u32,
        room: &mut Room,
    ) -> Result<(), String> {
        let definition = &self.definition;
        let plan = self.plans.try_place(batch, |schema| Plan::new(definition, schema))?;
        // Taken out and put back, so that `self` can be borrowed meanwhile.
        let Some(taken) = self.plans[plan].take() else { return Ok(()) };
        for event in batch.iter() {
            self.event(&taken, event, host, clock, now, room);
        }
        self.plans[plan] = Some(taken);
        Ok(())
    }

    fn event(
        &mut self,
        plan: &Plan,
        event: EventRef<'_>,
        host: &str,
        clock: &mut Clock,
        now: u32,
        room: &mut Room,
    ) {
        if plan.test.as_ref().is_some_and(|test| !test.holds(event)) {
            return;
        }
        let value = match plan.value.map(|field| field.value(event, host)) {
            None => 1,
            Some(Value::Uint(value)) => value,
            Some(Value::Int(value)) => match u64::try_from(value) {
                Ok(value) => value,
                Err(_) => {
                    self.tally.negative += 1;
                    return;
                }
            },
            // The event lacks the field.
            Some(_) => return,
        };
        self.key.clear();
        for field in &plan.labels {
            label::push(&mut self.key, clock, field.value(event, host));
        }
        let Some(row) = self.find(room) else {
            self.tally.refused += 1;
            return;
        };
        self.rows[row].touched = now;
        self.add(row, value);
    }

    /// Returns the row of the combination in `key`; `None` if it is new and a limit is reached.
    fn find(&mut self, room: &mut Room) -> Option<usize> {
        if let Some((key, row)) = &self.last
            && *key == self.key
        {
            return Some(*row);
        }
        let row = match self.index.get(&*self.key) {
            Some(row) => *row,
            None => self.insert(room)?,
        };
        let (key, place) = self.last.get_or_insert_default();
        key.clone_from(&self.key);
        *place = row;
        Some(row)
    }

    fn insert(&mut self, room: &mut Room) -> Option<usize> {
        let cost = self.definition.series();
        if room.used + cost > room.max || self.used + cost > self.definition.max_series {
            return None;
        }
        room.used += cost;
        self.used += cost;
        let values = self.key.split_inclusive(|byte| *byte == SEPARATOR);
        let labels = values.map(|value| {
            let text = value.strip_suffix(&[SEPARATOR]).unwrap_or(value);
            String::from_utf8_lossy(text).into_owned().into_boxed_str()
        });
        let row = Row { labels: Some(labels.collect()), touched: 0 };
        let place = match self.free.pop() {
            Some(place) => {
                self.rows[place] = row;
                place
            }
            None => {
                self.rows.push(row);
                self.numbers.resize(self.rows.len() * self.width, 0);
                self.rows.len() - 1
            }
        };
        self.index.insert(self.key.as_slice().into(), place);
        Some(place)
    }

    fn add(&mut self, row: usize, value: u64) {
        let numbers = &mut self.numbers[row * self.width..(row + 1) * self.width];
        match numbers {
            [number] => *number = number.wrapping_add(value),
            [buckets @ .., sum] => {
                let scaled = value as f64 * self.definition.scale;
                buckets[self.definition.bounds.partition_point(|bound| *bound < scaled)] += 1;
                *sum = sum.wrapping_add(value);
            }
            [] => {}
        }
    }

    /// Removes expired combinations.
    pub(crate) fn sweep(&mut self, now: u32, room: &mut Room) {
        let cost = self.definition.series();
        let (rows, numbers, free) = (&mut self.rows, &mut self.numbers, &mut self.free);
        let (width, before) = (self.width, self.index.len());
        self.index.retain(|_, place| {
            let keep = now.wrapping_sub(rows[*place].touched) <= SWEEPS;
            if !keep {
                rows[*place].labels = None;
                numbers[*place * width..(*place + 1) * width].fill(0);
                free.push(*place);
            }
            keep
        });
        let expired = (before - self.index.len()) as u64;
        if expired > 0 {
            self.last = None;
        }
        self.tally.expired += expired;
        self.used -= expired * cost;
        room.used -= expired * cost;
    }

    /// Returns the definition if the metric has begun to refuse events since the last report.
    pub(crate) fn is_newly_full(&mut self) -> Option<&Definition> {
        let newly = !self.reported_full && self.tally.refused > self.refused_before;
        self.reported_full |= newly;
        newly.then_some(&*self.definition)
    }

    /// Returns the definition if the metric was reported as full and has refused nothing since the
    /// previous call.
    pub(crate) fn is_no_longer_full(&mut self) -> Option<&Definition> {
        let newly = self.reported_full && self.tally.refused == self.refused_before;
        self.refused_before = self.tally.refused;
        self.reported_full &= !newly;
        newly.then_some(&*self.definition)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let rows = self.rows.iter().enumerate();
        Snapshot {
            definition: Arc::clone(&self.definition),
            rows: rows.filter_map(|(place, row)| Some((row.labels.clone()?, place))).collect(),
            numbers: self.numbers.clone(),
            width: self.width,
            used: self.used,
            tally: self.tally,
        }
    }
}

impl Plan {
    /// For events of the type `schema`; `None` if none of them can be counted.
    fn new(definition: &Definition, schema: &Schema) -> Result<Option<Self>, String> {
        let test = definition.when.as_ref().map(|when| when.compile(schema, None)).transpose();
        let test = test.map_err(|problems| {
            let problems: Vec<_> = problems.into_iter().map(|p| p.message).collect();
            format!("the condition does not fit {} events: {}", schema.name, problems.join("; "))
        })?;
        let value = definition.value.as_ref().map(|field| Selected::new(schema, field));
        if value == Some(Selected::Absent) {
            return Ok(None);
        }
        let labels = definition.labels.iter().map(|label| Selected::new(schema, &label.field));
        Ok(Some(Self { test, labels: labels.collect(), value }))
    }
}
