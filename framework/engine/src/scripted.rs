//! A source that plays events from memory: for tests, benchmarks and programs that bring events of
//! their own.

use std::collections::VecDeque;

use whalewatch_core::{Drain, Event, Source, SourceCounts, SourceError};

/// Yields prepared events in order and then ends, or, if [kept open](Scripted::keep_open), waits to
/// be detached.
pub struct Scripted<E> {
    existing: Vec<E>,
    events: VecDeque<E>,
    generated: u64,
    ends: bool,
}

impl<E: Event> Scripted<E> {
    /// A source of `events`.
    pub fn new(events: impl IntoIterator<Item = E>) -> Self {
        let events: VecDeque<E> = events.into_iter().collect();
        Self { existing: Vec::new(), generated: 0, events, ends: true }
    }

    /// Adds what was there before watching began.
    #[must_use]
    pub fn existing(mut self, existing: Vec<E>) -> Self {
        self.existing = existing;
        self
    }

    /// Stays open when the events are through, until detached.
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
