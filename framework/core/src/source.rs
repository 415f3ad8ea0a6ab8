//! Sources: where a tracker's events come from.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::BudgetEvent;
use crate::directory::Directory;
use crate::event::Event;
use crate::options::{Options, Problem};

/// What came of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// There may be more: drain again.
    More,
    /// Nothing more now.
    Empty,
    /// Nothing more ever.
    Ended,
}

/// What a source has counted since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Events that happened and were to be reported: those handed over, lost, and refused.
    pub generated: u64,
    /// Events that could not be handed over, for want of room.
    pub lost: u64,
    /// Events that a budget refused.
    pub refused: u64,
    /// Records that could not be read: too short, or of an unknown kind.
    pub invalid: u64,
    /// `lost` by cgroup id, for the cgroups that there was room to remember.
    pub lost_by_cgroup: HashMap<u64, u64>,
    /// `refused` by cgroup id, for the cgroups that there was room to remember.
    pub refused_by_cgroup: HashMap<u64, u64>,
}

/// Where events come from: an eBPF ring buffer, a recording, a script.
pub trait Source<E: Event>: Send {
    /// Appends at most `max` events to `out`; never waits.
    ///
    /// # Errors
    /// If the source is broken for good.
    fn drain(&mut self, out: &mut Vec<E>, max: usize) -> Result<Drain, SourceError>;

    /// Appends what was there before watching began (running processes, say), read after watching
    /// began so that nothing falls between. Such events go to handlers that need the tracker, not
    /// down the chains.
    ///
    /// # Errors
    /// If it cannot be read.
    fn existing(&mut self, out: &mut Vec<E>) -> Result<(), SourceError> {
        let _ = out;
        Ok(())
    }

    /// Appends what there is to tell of budgets: at most every `interval`, and what is left once it
    /// has ended. Such events count as generated, too.
    fn budgets(&mut self, out: &mut Vec<BudgetEvent>) {
        let _ = out;
    }

    /// How long to wait between drains once empty.
    fn interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    /// A descriptor that becomes readable when a drain should not wait for the interval.
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What it has counted.
    fn counts(&self) -> SourceCounts;

    /// Stops new events; what happened before can still be drained, and then the answer is
    /// [`Drain::Ended`].
    fn detach(&mut self) {}
}

/// A tracker's type: how it is configured and opened. It gets its name in the configuration where
/// it is registered.
pub trait TrackerSpec: 'static {
    /// What it watches, in one line.
    const ABOUT: &'static str;
    /// Its events.
    type Event: Event;
    /// Its options.
    type Options: Options;

    /// What it costs the traced processes, in a sentence without a stop, for `whalewatch explain`.
    const COST: &'static str = "not known";

    /// Where in the kernel it attaches, for `whalewatch explain`: `sched_process_exec`, …
    fn attaches(options: &Self::Options) -> Vec<&'static str> {
        let _ = options;
        Vec::new()
    }

    /// Checks options for what their types do not say. Touches nothing but the options.
    fn check(options: &Self::Options) -> Vec<Problem> {
        let _ = options;
        Vec::new()
    }

    /// Whether handlers that need this tracker can live on what it yields with these options:
    /// everything that it yields by default, and nothing that would mislead them. If not, they get
    /// one of their own.
    fn whole(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Whether it must hear from the directory who lives in which cgroup. A configuration in which
    /// nobody publishes that is refused.
    fn needs_directory(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Whether it has a budget, so that it may yield [`BudgetEvent`]s.
    fn has_budget(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Opens the source: loads and attaches what there is to attach. Events may come from now on.
    ///
    /// # Errors
    /// If this host cannot run it; the error says how to mend that.
    fn open(
        options: &Self::Options,
        directory: &Directory,
    ) -> Result<Box<dyn Source<Self::Event>>, OpenError>;
}

/// A source could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// What failed and how to mend it, with the causes.
    pub message: String,
    /// The cause.
    #[source]
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl OpenError {
    /// From a text that says what failed and how to mend it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// From an error whose text says what failed and how to mend it; its causes are kept.
    pub fn from_error(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { message: error.to_string(), source: Some(Arc::new(error)) }
    }
}

/// A source broke while running.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);
