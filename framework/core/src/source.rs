//! Sources, which yield a tracker's events, and the types of trackers.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::BudgetEvent;
use crate::directory::Directory;
use crate::event::Event;
use crate::options::{Options, Problem};

/// The result of [`Source::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// More events may be ready: drain again.
    More,
    /// No more events for now.
    Empty,
    /// No more events ever.
    Ended,
}

/// A source's counts since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Events that happened and were selected: delivered, lost, refused and invalid ones.
    pub generated: u64,
    /// Events that were lost because a buffer was full.
    pub lost: u64,
    /// Events that a budget refused.
    pub refused: u64,
    /// Records that could not be decoded: too short, or of an unknown kind.
    pub invalid: u64,
    /// `lost` by cgroup id, as far as the table of cgroups has room.
    pub lost_by_cgroup: HashMap<u64, u64>,
    /// `refused` by cgroup id, as far as the table of cgroups has room.
    pub refused_by_cgroup: HashMap<u64, u64>,
}

/// Yields events: from an eBPF ring buffer, a recording, a script.
pub trait Source<E: Event>: Send {
    /// Appends at most `max` events to `out`. It must not block.
    ///
    /// # Errors
    /// If the source is permanently broken.
    fn drain(&mut self, out: &mut Vec<E>, max: usize) -> Result<Drain, SourceError>;

    /// Appends events for what existed before the source was opened, such as running processes. It
    /// is called after opening, so that nothing in between is missed. These events go to handlers
    /// that need the tracker, not to chains.
    ///
    /// # Errors
    /// If the existing state cannot be read.
    fn existing(&mut self, out: &mut Vec<E>) -> Result<(), SourceError> {
        let _ = out;
        Ok(())
    }

    /// Appends reports about budgets: at most one per cgroup and interval, and the rest once the
    /// source has ended. These events also count as generated.
    fn budgets(&mut self, out: &mut Vec<BudgetEvent>) {
        let _ = out;
    }

    /// How long to wait before the next drain after [`Drain::Empty`].
    fn interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    /// A descriptor that becomes readable when the source should be drained before the interval
    /// ends.
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Returns the counts so far.
    fn counts(&self) -> SourceCounts;

    /// Stops new events. Earlier ones can still be drained, followed by [`Drain::Ended`].
    fn detach(&mut self) {}
}

/// A type of tracker: how it is configured and opened. Its name in configurations is given when it
/// is registered.
pub trait TrackerSpec: 'static {
    /// What it watches, in one line.
    const ABOUT: &'static str;
    /// Its events.
    type Event: Event;
    /// Its options.
    type Options: Options;

    /// What it costs the traced processes, in a phrase, for `whalewatch explain`.
    const COST: &'static str = "not known";

    /// The hooks in the kernel that it attaches to, for `whalewatch explain`: `sched_process_exec`,
    /// …
    fn attaches(options: &Self::Options) -> Vec<&'static str> {
        let _ = options;
        Vec::new()
    }

    /// Checks options beyond their types. It must not do I/O.
    fn check(options: &Self::Options) -> Vec<Problem> {
        let _ = options;
        Vec::new()
    }

    /// Whether a handler that needs this type of tracker can use one with these options: it yields
    /// everything that it yields by default, and nothing that would mislead the handler. If not,
    /// the engine opens a second tracker with default options for the handler.
    fn whole(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Whether it reads from the [`Directory`] which container each cgroup belongs to. A
    /// configuration in which no handler publishes that is refused.
    fn needs_directory(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Whether a budget is set, so that the source may yield [`BudgetEvent`]s.
    fn has_budget(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Opens the source: loads and attaches its programs, if it has any. Events may arrive as soon
    /// as this returns.
    ///
    /// # Errors
    /// If this host cannot run it; the error says how to fix that.
    fn open(
        options: &Self::Options,
        directory: &Directory,
    ) -> Result<Box<dyn Source<Self::Event>>, OpenError>;
}

/// A source could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// What failed and how to fix it.
    pub message: String,
    /// The cause.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl OpenError {
    /// Makes an error of a text that says what failed and how to fix it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Wraps an error whose text says what failed and how to fix it, and keeps its causes.
    pub fn from_error(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { message: error.to_string(), source: Some(Arc::new(error)) }
    }
}

/// A source broke while running.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
