//! Replays: a recording through the chains of a plan, without privileges, and each time with the
//! same result.
//!
//! Nothing runs concurrently here. Each batch goes through its chains to the end before the next is
//! read, timers go off when the recording's clock reaches them, and what handlers heard from
//! outside comes when it came then. So the output depends on the recording and the plan alone,
//! however fast the replay goes.

mod chains;
mod offline;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use whalewatch_core::Batch;

use crate::plan::Plan;
use crate::recording::{Reader, RecordingError};
use crate::registry::Registry;
use crate::stats::Totals;
use chains::{Chains, Stopped};
pub(crate) use offline::{OfflineHandler, OfflineSetup, offline};

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// As fast as the chains take it.
    #[default]
    Fastest,
    /// As it happened.
    RealTime,
}

/// A replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording could not be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A handler could not be built.
    #[error("\"{name}\" cannot start: {message}")]
    Build {
        /// Name of the handler.
        name: String,
        /// Why, and how to fix it.
        message: String,
    },
    /// A handler failed.
    #[error("\"{name}\" failed: {message}")]
    Failed {
        /// Name of the handler.
        name: String,
        /// Why.
        message: String,
    },
}

/// Gets what reaches the ends of chains, instead of the outputs: the chain's name and a batch.
pub type Collector<'a> = dyn FnMut(&str, &Batch) + 'a;

/// A recording, and the plan that it goes through.
pub struct Replay<'a> {
    registry: &'a Registry,
    plan: &'a Plan,
    path: PathBuf,
    speed: Speed,
    stop: Arc<AtomicBool>,
}

/// What a replay did.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The totals, as those of a run.
    pub totals: Totals,
    /// Events of trackers that the plan lacks, by the name of the tracker.
    pub left_out: HashMap<String, u64>,
}

impl<'a> Replay<'a> {
    /// A replay of the recording at `path` through `plan`, whose trackers are not opened.
    pub fn new(registry: &'a Registry, plan: &'a Plan, path: &Path) -> Self {
        let stop = Arc::default();
        Self { registry, plan, path: path.into(), speed: Speed::default(), stop }
    }

    /// Sets how fast the recording is replayed.
    #[must_use]
    pub fn speed(mut self, speed: Speed) -> Self {
        self.speed = speed;
        self
    }

    /// Returns a flag that ends the replay when it is set. What was read by then still goes
    /// through.
    pub fn stopper(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Replays into the plan's outputs.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn run(&self) -> Result<Replayed, ReplayError> {
        self.play(None)
    }

    /// Replays into `collector`, without building outputs.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn collect(&self, collector: &mut Collector<'_>) -> Result<Replayed, ReplayError> {
        self.play(Some(collector))
    }

    fn play(&self, collector: Option<&mut Collector<'_>>) -> Result<Replayed, ReplayError> {
        let schemas = self.registry.schemas();
        let answers = Reader::open(&self.path, schemas.clone())?.answers()?;
        let mut reader = Reader::open(&self.path, schemas)?;
        let clock = Arc::new(AtomicU64::new(reader.start().0));
        let mut chains = Chains::new(self.plan, &reader, answers, clock, collector)?;
        match self.feed(&mut reader, &mut chains) {
            // The reader of the output has seen enough.
            Ok(()) | Err(Stopped::Closed) => Ok(chains.finish()),
            Err(Stopped::Error(error)) => Err(error),
        }
    }

    fn feed(&self, reader: &mut Reader, chains: &mut Chains<'_, '_>) -> Result<(), Stopped> {
        let begin = (Instant::now(), reader.start().0);
        chains.deliver_messages()?;
        while let Some(item) = reader.next().map_err(ReplayError::from)? {
            if self.stop.load(Relaxed) {
                break;
            }
            if self.speed == Speed::RealTime {
                // Everything that came before must be printed by now.
                chains.flush()?;
                let due = begin.0 + Duration::from_nanos(item.at.0.saturating_sub(begin.1));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            chains.take(item)?;
        }
        chains.end()
    }
}
