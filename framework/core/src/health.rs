//! Health of trackers and handlers, for handlers that report it, such as an endpoint for a
//! monitoring system.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Queries the health of all trackers and handlers. Cheap to clone; meant to be queried about once
/// a second, not for each event.
#[derive(Clone)]
pub struct Health(Arc<dyn Fn() -> HealthReport + Send + Sync>);

impl Health {
    /// Creates one that calls `ask`. For the engine, and for tests of a single handler.
    pub fn new(ask: impl Fn() -> HealthReport + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Returns the current counts of all trackers and handlers, since the start.
    pub fn report(&self) -> HealthReport {
        (self.0)()
    }
}

impl Default for Health {
    /// Creates one whose reports are empty.
    fn default() -> Self {
        Self::new(HealthReport::default)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

/// Counts of all trackers and handlers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// All trackers.
    pub trackers: Vec<TrackerHealth>,
    /// All handlers; one that is in several chains is listed once.
    pub handlers: Vec<HandlerHealth>,
}

/// Counts of a tracker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackerHealth {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Events that happened and matched the tracker's scope.
    pub generated: u64,
    /// Events passed on to handlers.
    pub delivered: u64,
    /// Events that the kernel could not hand over.
    pub lost: u64,
    /// Events that a budget refused.
    pub refused: u64,
    /// Records that could not be read.
    pub invalid: u64,
    /// The age of the newest event when it was read, which is how far behind the tracker is.
    pub lag: Duration,
}

/// Counts of a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerHealth {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Events that came in.
    pub input: u64,
    /// Events that it created itself.
    pub added: u64,
    /// Events passed on or, at the end of a chain, delivered.
    pub output: u64,
    /// Events that it left out as configured.
    pub filtered: u64,
    /// Events refused because there was no room or no reader.
    pub dropped: u64,
    /// Events lost to an error or a panic.
    pub errors: u64,
    /// The number of restarts.
    pub restarts: u64,
    /// Batches waiting for it, over all chains.
    pub queued: u64,
    /// The most batches that can wait, over all chains.
    pub queue_capacity: u64,
    /// The number of containers whose events it counted; 0 for handlers that do not count by
    /// container.
    pub containers: u64,
}
