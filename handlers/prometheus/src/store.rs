//! All metrics, shared by the handler that counts and the server that shows.

use std::sync::Arc;

use whalewatch_core::Batch;
use whalewatch_kit::Clock;

use crate::definition::Definition;
use crate::series::{Metric, Room, Snapshot};

/// All metrics with their numbers.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) metrics: Vec<Metric>,
    room: Room,
    host: Arc<str>,
    clock: Clock,
    /// Sweeps so far.
    now: u32,
}

impl Store {
    pub(crate) fn new(metrics: &[Arc<Definition>], max_series: u32, host: &Arc<str>) -> Self {
        Self {
            metrics: metrics.iter().map(|metric| Metric::new(Arc::clone(metric))).collect(),
            room: Room { used: 0, max: max_series.into() },
            host: Arc::clone(host),
            clock: Clock::new(),
            now: 0,
        }
    }

    /// Counts the events of a batch.
    ///
    /// # Errors
    /// If a condition does not fit events of this type, which the check would have said.
    pub(crate) fn count(&mut self, batch: &Batch) -> Result<(), String> {
        for metric in &mut self.metrics {
            metric.count(batch, &self.host, &mut self.clock, self.now, &mut self.room)?;
        }
        Ok(())
    }

    /// Lets go what has had no event for long.
    pub(crate) fn sweep(&mut self) {
        self.now = self.now.wrapping_add(1);
        for metric in &mut self.metrics {
            metric.sweep(self.now, &mut self.room);
        }
    }

    /// Names of the metrics that have begun to refuse events and were not told here before.
    pub(crate) fn newly_full(&mut self) -> Vec<String> {
        let full = self.metrics.iter_mut().filter_map(Metric::is_newly_full);
        full.map(Definition::name).collect()
    }

    /// Names of the metrics that were told there and have refused nothing since the last sweep.
    pub(crate) fn newly_roomy(&mut self) -> Vec<String> {
        let roomy = self.metrics.iter_mut().filter_map(Metric::is_newly_roomy);
        roomy.map(Definition::name).collect()
    }

    /// A copy of all numbers, all of the same moment.
    pub(crate) fn snapshot(&self) -> Vec<Snapshot> {
        self.metrics.iter().map(Metric::snapshot).collect()
    }
}
