//! The state of a rule: counts, started sequences, known keys and quiet keys. All of it follows the
//! times of the events, so that a replay gives the same alerts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{OwnedValue, Timestamp};

use crate::evidence::{Captured, Cause, MAX_EVENTS, Room, add};
use crate::keyed::Keyed;
use crate::rule::Shape;

/// Maximum number of started sequences for each key. A new one replaces the oldest.
const MAX_PARTIALS: usize = 16;

/// Returns a later time.
fn after(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// Returns an earlier time.
fn before(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// A match of a rule.
#[derive(Debug)]
pub(crate) struct Match {
    /// The newest events of the match.
    pub(crate) causes: VecDeque<Cause>,
    /// Number of events.
    pub(crate) count: u64,
    /// Time of the first event.
    pub(crate) since: Timestamp,
    /// Captured values of the steps.
    pub(crate) kept: Option<Captured>,
}

/// An event that may be a later step of a sequence.
pub(crate) trait LaterStep {
    /// Returns the index of the step; the first is 0.
    fn step(&self) -> usize;
    /// Whether this is the last step.
    fn is_last(&self) -> bool;
    /// Whether the event meets the step's condition, given the captured values of earlier steps.
    fn fits(&self, kept: &[OwnedValue]) -> bool;
    /// Captures the values that later steps use.
    fn capture(&self, kept: &mut [OwnedValue]);
}

/// The counted events of one key.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Times, sorted, each with the hash of the value for `distinct`.
    times: VecDeque<(Timestamp, u64)>,
    causes: VecDeque<Cause>,
}

/// A started sequence.
#[derive(Clone, Debug)]
struct Partial {
    /// Number of completed steps.
    stage: usize,
    first: Timestamp,
    last: Timestamp,
    kept: Captured,
    causes: VecDeque<Cause>,
}

/// The state of one rule.
#[derive(Debug)]
pub(crate) struct State {
    shape: Shape,
    counted: Keyed<Counted>,
    partials: Keyed<Vec<Partial>>,
    known: Keyed<()>,
    quiet: Keyed<Quiet>,
    cooldown: Duration,
    /// Alerts suppressed by the cooldown.
    pub(crate) suppressed: u64,
    /// Started sequences that were replaced by newer ones.
    partials_evicted: u64,
}

#[derive(Debug)]
struct Quiet {
    until: Timestamp,
    repeats: u64,
}

impl State {
    pub(crate) fn new(shape: Shape, cooldown: Duration, most: usize) -> Self {
        Self {
            shape,
            counted: Keyed::new(most),
            partials: Keyed::new(most),
            known: Keyed::new(most),
            quiet: Keyed::new(most),
            cooldown,
            suppressed: 0,
            partials_evicted: 0,
        }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the number of evicted keys and sequences.
    pub(crate) fn evicted(&self) -> u64 {
        self.counted.evicted
            + self.partials.evicted
            + self.known.evicted
            + self.quiet.evicted
            + self.partials_evicted
    }

    /// Applies the cooldown to a match: returns the number of alerts suppressed since the last one,
    /// or `None` if this one is suppressed.
    pub(crate) fn pass_cooldown(&mut self, key: &[u8], now: Timestamp) -> Option<u64> {
        if self.cooldown.is_zero() || matches!(self.shape, Shape::First { .. }) {
            return Some(0);
        }
        let until = after(now, self.cooldown);
        if let Some(quiet) = self.quiet.get(key, now) {
            if now < quiet.until {
                quiet.repeats += 1;
                self.suppressed += 1;
                return None;
            }
            quiet.until = until;
            return Some(std::mem::take(&mut quiet.repeats));
        }
        self.quiet.get_or(key, now, || Quiet { until, repeats: 0 });
        Some(0)
    }

    /// Whether the event is the first one of its key. Keys that appear while learning are never
    /// reported.
    pub(crate) fn first(&mut self, key: &[u8], now: Timestamp, started: Timestamp) -> bool {
        let Shape::First { learn } = self.shape else { return false };
        if self.known.get(key, now).is_some() {
            return false;
        }
        self.known.get_or(key, now, || ());
        now >= after(started, learn)
    }

    /// Counts an event. Calls `cause` only if the event may become part of an alert.
    pub(crate) fn count(
        &mut self,
        key: &[u8],
        now: Timestamp,
        value: u64,
        cause: impl FnOnce() -> Cause,
    ) -> Option<Match> {
        let Shape::Count { count, within, distinct } = &self.shape else { return None };
        self.counted.forget(before(now, *within));
        let counted = self.counted.get_or(key, now, Counted::default);
        let newest = counted.times.back().map_or(now, |(last, _)| now.max(*last));
        let start = before(newest, *within);
        while counted.times.front().is_some_and(|(time, _)| *time < start) {
            counted.times.pop_front();
        }
        if now < start {
            return None;
        }
        if distinct.is_some()
            && let Some(same) = counted.times.iter().position(|(_, known)| *known == value)
        {
            counted.times.remove(same);
        }
        let place = counted.times.iter().rposition(|(time, _)| *time <= now).map_or(0, |i| i + 1);
        counted.times.insert(place, (now, value));
        if counted.times.len() + MAX_EVENTS > *count {
            add(&mut counted.causes, cause());
        }
        if counted.times.len() < *count {
            return None;
        }
        let mut causes = std::mem::take(&mut counted.causes);
        // Remove events that were no longer counted when the number was reached.
        causes.retain(|cause| cause.time >= start);
        let since = counted.times.front().map_or(now, |(first, _)| *first);
        let count = counted.times.len() as u64;
        counted.times.clear();
        Some(Match { causes, count, since, kept: None })
    }

    /// Whether any sequence has started.
    pub(crate) fn has_started(&self) -> bool {
        !self.partials.is_empty()
    }

    /// Starts a sequence with its first event. `values` are the captured ones.
    pub(crate) fn begin(
        &mut self,
        key: &[u8],
        now: Timestamp,
        values: Box<[OwnedValue]>,
        cause: Cause,
        room: &Arc<Room>,
    ) {
        let Shape::Sequence { within } = self.shape else { return };
        self.partials.forget(before(now, within));
        let Some(kept) = Captured::new(values, room) else { return };
        let causes = VecDeque::from([cause]);
        let partial = Partial { stage: 1, first: now, last: now, kept, causes };
        let partials = self.partials.get_or(key, now, Vec::new);
        self.partials_evicted += add_partial(partials, partial);
    }

    /// Advances the started sequences whose next step this event is. If the event completes some,
    /// returns the newest of them.
    pub(crate) fn advance(
        &mut self,
        key: &[u8],
        now: Timestamp,
        later: &impl LaterStep,
        cause: impl FnOnce() -> Cause,
        room: &Arc<Room>,
    ) -> Option<Match> {
        let (step, last) = (later.step(), later.is_last());
        let Shape::Sequence { within } = self.shape else { return None };
        let partials = self.partials.get(key, now)?;
        partials.retain(|partial| now <= after(partial.first, within));
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(partial) = partials.get(at) {
            let matches =
                partial.stage == step && now >= partial.last && later.fits(&partial.kept.values);
            if matches && last {
                found.push(partials.remove(at));
                continue;
            }
            if matches {
                found.push(partial.clone());
            }
            at += 1;
        }
        if found.is_empty() {
            return None;
        }
        let cause = cause();
        if last {
            let Partial { first, kept, mut causes, .. } = found.pop()?;
            add(&mut causes, cause);
            let count = step as u64 + 1;
            return Some(Match { causes, count, since: first, kept: Some(kept) });
        }
        for mut partial in found {
            let mut values = partial.kept.values.clone();
            later.capture(&mut values);
            let Some(kept) = Captured::new(values, room) else { continue };
            add(&mut partial.causes, cause.clone());
            let partial = Partial { stage: step + 1, last: now, kept, ..partial };
            self.partials_evicted += add_partial(partials, partial);
        }
        None
    }
}

/// Adds a started sequence. It replaces an earlier one with the same stage and captured values,
/// which would end sooner; otherwise, beyond the limit, it replaces the oldest. Returns how many
/// were lost to the limit.
fn add_partial(partials: &mut Vec<Partial>, partial: Partial) -> u64 {
    let alike =
        |other: &Partial| other.stage == partial.stage && other.kept.values == partial.kept.values;
    if let Some(place) = partials.iter().position(alike) {
        if partials[place].first <= partial.first {
            partials.remove(place);
            partials.push(partial);
        }
        return 0;
    }
    let evicted = partials.len() >= MAX_PARTIALS;
    if evicted {
        partials.remove(0);
    }
    partials.push(partial);
    u64::from(evicted)
}
