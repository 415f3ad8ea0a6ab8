//! How the running whole is doing, for handlers that tell it: an endpoint for a monitoring system,
//! say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Asks the runtime how all trackers and handlers are doing. Cheap to clone; asking is meant for
/// once a second, not for each event.
#[derive(Clone)]
pub struct Health(Arc<dyn Fn() -> HealthReport + Send + Sync>);

impl Health {
    /// One that is answered by `ask`. For the runtime, and for tests of a handler alone.
    pub fn new(ask: impl Fn() -> HealthReport + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// How everything is doing now. All counts are since the start.
    pub fn report(&self) -> HealthReport {
        (self.0)()
    }
}

impl Default for Health {
    /// One that knows of nothing.
    fn default() -> Self {
        Self::new(HealthReport::default)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

/// How everything was doing at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// Each tracker.
    pub trackers: Vec<TrackerHealth>,
    /// Each handler; one that stands in several chains is there once.
    pub handlers: Vec<HandlerHealth>,
}

/// How a tracker was doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackerHealth {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Events that happened and were to be reported.
    pub generated: u64,
    /// Events that went on to handlers.
    pub delivered: u64,
    /// Events that the kernel could not hand over.
    pub lost: u64,
    /// Events that a budget refused.
    pub refused: u64,
    /// Records that could not be read.
    pub invalid: u64,
    /// How old the newest event was when it was read: how far behind the tracker is.
    pub lag: Duration,
}

/// How a handler was doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerHealth {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Events that came in.
    pub input: u64,
    /// Events that it made itself.
    pub added: u64,
    /// Events that went on or, at the end of a chain, were delivered.
    pub output: u64,
    /// Events that it was asked to leave out.
    pub filtered: u64,
    /// Events that were refused for want of room or of a reader.
    pub dropped: u64,
    /// Events that an error or a panic took.
    pub errors: u64,
    /// Times it was started again.
    pub restarts: u64,
    /// Batches that wait to come in, over all chains.
    pub queued: u64,
    /// How many may wait, over all chains.
    pub queue_capacity: u64,
    /// Containers that it has counted events of; 0 for handlers that do not.
    pub containers: u64,
}
