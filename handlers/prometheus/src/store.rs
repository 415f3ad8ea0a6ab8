//! All metrics, shared by the handler, which counts, and the server, which reads.

use std::sync::Arc;

use whalewatch_core::Batch;
use whalewatch_kit::Clock;

use crate::definition::Definition;
use crate::series::{Metric, Room, Snapshot};

/// All metrics and their numbers.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) metrics: Vec<Metric>,
    room: Room,
    host: Arc<str>,
    clock: Clock,
    /// Number of sweeps so far.
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
    /// If a condition does not match events of this type; the check of the options reports that
    /// first.
    pub(crate) fn count(&mut self, batch: &Batch) -> Result<(), String> {
        for metric in &mut self.metrics {
            metric.count(batch, &self.host, &mut self.clock, self.now, &mut self.room)?;
        }
        Ok(())
    }

    /// Removes expired series.
    pub(crate) fn sweep(&mut self) {
        self.now = self.now.wrapping_add(1);
        for metric in &mut self.metrics {
            metric.sweep(self.now, &mut self.room);
        }
    }

    /// Returns the names of metrics that have begun to refuse events and were not reported yet.
    pub(crate) fn newly_full(&mut self) -> Vec<String> {
        let full = self.metrics.iter_mut().filter_map(Metric::is_newly_full);
        full.map(Definition::name).collect()
    }

    /// Returns the names of metrics that were reported as full and have refused nothing since the
    /// last sweep.
    pub(crate) fn no_longer_full(&mut self) -> Vec<String> {
        let recovered = self.metrics.iter_mut().filter_map(Metric::is_no_longer_full);
        recovered.map(Definition::name).collect()
    }

    /// Copies all numbers at one moment.
    pub(crate) fn snapshot(&self) -> Vec<Snapshot> {
        self.metrics.iter().map(Metric::snapshot).collect()
    }
}
