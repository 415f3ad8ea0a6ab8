//! The actors: [`tracker::Tracker`] and [`stage::Stage`], and the channels between them.

pub(crate) mod lane;
pub(crate) mod outlet;
pub(crate) mod stage;
mod ticker;
pub(crate) mod tracker;

use std::sync::Arc;

/// Tells one actor from all others of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ActorId(pub(crate) u64);

/// What an actor tells the system that runs it.
#[derive(Debug)]
pub(crate) enum Report {
    /// It is ready to take events, or could not be made.
    Built { id: ActorId, name: Arc<str>, result: Result<(), String> },
    /// It failed for good: the run has to stop.
    Fatal { name: Arc<str>, message: String },
    /// Whoever read its output is gone: the run ends quietly.
    Closed,
    /// It has taken and passed on everything and is gone.
    Ended { id: ActorId },
}
