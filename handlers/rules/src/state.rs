//! What a rule remembers: counts, steps that have come, keys that it has met, keys that it is quiet
//! about. All by the times of the events, so that a replay tells the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{OwnedValue, Timestamp};

use crate::evidence::{Captured, Cause, MOST_EVENTS, Room, add};
use crate::keyed::Keyed;
use crate::rule::Shape;

/// How many beginnings of one sequence are kept for a key; the oldest makes room.
const MOST_PARTIALS: usize = 16;

/// A later point in time.
fn after(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// An earlier point in time.
fn before(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp(time.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// A rule is right.
#[derive(Debug)]
pub(crate) struct Match {
    /// The newest of the events it comes of.
    pub(crate) causes: VecDeque<Cause>,
    /// How many there were.
    pub(crate) count: u64,
    /// When the first of them happened.
    pub(crate) since: Timestamp,
    /// What was kept of steps.
    pub(crate) kept: Option<Captured>,
}

/// An event that may be a later step of a sequence.
pub(crate) trait LaterStep {
    /// Which step, the first being 0.
    fn step(&self) -> usize;
    /// Whether it is the last.
    fn is_last(&self) -> bool;
    /// Whether it is, by what was kept of the steps before.
    fn fits(&self, kept: &[OwnedValue]) -> bool;
    /// Keeps what still later steps ask of it.
    fn capture(&self, kept: &mut [OwnedValue]);
}

/// Events of one key that are counted.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Times and, for different values, the value's hash; by time.
    times: VecDeque<(Timestamp, u64)>,
    causes: VecDeque<Cause>,
}

/// A sequence that has begun.
#[derive(Clone, Debug)]
struct Partial {
    /// How many steps have come.
    stage: usize,
    first: Timestamp,
    last: Timestamp,
    kept: Captured,
    causes: VecDeque<Cause>,
}

/// What one rule remembers.
#[derive(Debug)]
pub(crate) struct State {
    shape: Shape,
    counted: Keyed<Counted>,
    partials: Keyed<Vec<Partial>>,
    met: Keyed<()>,
    quiet: Keyed<Quiet>,
    cooldown: Duration,
    /// Alerts that were not told, as one of the kind had been a while ago.
    pub(crate) suppressed: u64,
    /// Beginnings of sequences that had to make room.
    crowded: u64,
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
            met: Keyed::new(most),
            quiet: Keyed::new(most),
            cooldown,
            suppressed: 0,
            crowded: 0,
        }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Keys that had to make room.
    pub(crate) fn evicted(&self) -> u64 {
        self.counted.evicted
            + self.partials.evicted
            + self.met.evicted
            + self.quiet.evicted
            + self.crowded
    }

    /// Whether to tell what was found of a key, and then how often that was not told since it was
    /// told last.
    pub(crate) fn speak(&mut self, key: &[u8], now: Timestamp) -> Option<u64> {
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

    /// Whether a key is met for the first time; those in the first time of learning are not told.
    pub(crate) fn first(&mut self, key: &[u8], now: Timestamp, started: Timestamp) -> bool {
        let Shape::First { learn } = self.shape else { return false };
        if self.met.get(key, now).is_some() {
            return false;
        }
        self.met.get_or(key, now, || ());
        now >= after(started, learn)
    }

    /// Counts an event; `cause` is asked for where an alert may come of it.
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
        if counted.times.len() + MOST_EVENTS > *count {
            add(&mut counted.causes, cause());
        }
        if counted.times.len() < *count {
            return None;
        }
        let mut causes = std::mem::take(&mut counted.causes);
        // Those that were counted no more when it was reached.
        causes.retain(|cause| cause.time >= start);
        let since = counted.times.front().map_or(now, |(first, _)| *first);
        let count = counted.times.len() as u64;
        counted.times.clear();
        Some(Match { causes, count, since, kept: None })
    }

    /// Whether any sequence has begun.
    pub(crate) fn has_begun(&self) -> bool {
        !self.partials.is_empty()
    }

    /// An event is the first step of a sequence. `values`: what later steps ask of it.
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
        self.crowded += enter(partials, partial);
    }

    /// An event may be a later step of sequences that have begun. If it is the last step of some,
    /// gives the newest of them.
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
            let comes =
                partial.stage == step && now >= partial.last && later.fits(&partial.kept.values);
            if comes && last {
                found.push(partials.remove(at));
                continue;
            }
            if comes {
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
            self.crowded += enter(partials, partial);
        }
        None
    }
}

/// Adds a beginning. One that later steps could not tell from it gives way to it, as it ends
/// sooner; else, of too many, the oldest. Says how many had to make room.
fn enter(partials: &mut Vec<Partial>, partial: Partial) -> u64 {
    let alike =
        |other: &Partial| other.stage == partial.stage && other.kept.values == partial.kept.values;
    if let Some(place) = partials.iter().position(alike) {
        if partials[place].first <= partial.first {
            partials.remove(place);
            partials.push(partial);
        }
        return 0;
    }
    let crowded = partials.len() >= MOST_PARTIALS;
    if crowded {
        partials.remove(0);
    }
    partials.push(partial);
    u64::from(crowded)
}
