//! A source that yields events from memory: for tests, benchmarks, and programs with events from
//! elsewhere.

use std::collections::VecDeque;

use whalewatch_core::{Drain, Event, Source, SourceCounts, SourceError};

/// Yields prepared events in order. Then it ends, or, if [kept open](Scripted::keep_open), waits
/// until it is detached.
pub struct Scripted<E> {
    existing: Vec<E>,
    events: VecDeque<E>,
    generated: u64,
    ends: bool,
}

impl<E: Event> Scripted<E> {
    /// Creates a source of `events`.
    pub fn new(events: impl IntoIterator<Item = E>) -> Self {
        let events: VecDeque<E> = events.into_iter().collect();
        Self { existing: Vec::new(), generated: 0, events, ends: true }
    }

    /// Sets the events about what existed before watching started.
    #[must_use]
    pub fn existing(mut self, existing: Vec<E>) -> Self {
        self.existing = existing;
        self
    }

    /// Keeps the source open after its last event, until it is detached.
    #[must_use]
    pub fn keep_open(mut self) -> Self {
        self.ends = false;
        self
    }
}

impl<E: Event> Source<E> for Scripted<E> {
    fn drain(&mut self, out: &mut Vec<E>, max: usize) -> Result<Drain, SourceError> {
        let count = max.min(self.events.len());
        out.extend(self.events.drain(..count));
        self.generated += count as u64;
        Ok(match (self.events.is_empty(), self.ends) {
            (false, _) => Drain::More,
            (true, true) => Drain::Ended,
            (true, false) => Drain::Empty,
        })
    }

    fn existing(&mut self, out: &mut Vec<E>) -> Result<(), SourceError> {
        out.extend(self.existing.iter().cloned());
        Ok(())
    }

    fn counts(&self) -> SourceCounts {
        SourceCounts { generated: self.generated, ..SourceCounts::default() }
    }

    fn detach(&mut self) {
        self.ends = true;
    }
}
