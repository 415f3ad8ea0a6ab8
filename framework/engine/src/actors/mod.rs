//! The actors: [`tracker::Tracker`] and [`stage::Stage`], and what joins them.

mod drain_timer;
pub(crate) mod lane;
pub(crate) mod output;
pub(crate) mod stage;
pub(crate) mod tracker;

use std::sync::Arc;

/// Identifies one actor of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ActorId(pub(crate) u64);

/// What an actor reports to the system that runs it.
#[derive(Debug)]
pub(crate) enum Report {
    /// The actor is ready to take events, or could not be built.
    Built { id: ActorId, name: Arc<str>, result: Result<(), String> },
    /// The actor failed for good: the run has to stop.
    Fatal { name: Arc<str>, message: String },
    /// The reader of an output is gone: the run ends without an error.
    Closed,
    /// The actor has passed on everything and has ended.
    Ended { id: ActorId },
}
