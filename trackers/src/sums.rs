//! Sums that the kernel keeps in two tables: while the programs add to one, the other is read and
//! emptied, so that nothing is counted twice or falls between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread;

use aya::maps::{Array, MapData};

use crate::LoadError;
use crate::program::{Attached, wait_for_running_programs};

/// Says which of two tables the programs add to.
pub struct Epochs {
    epoch: Array<MapData, u32>,
    current: u32,
    /// Set once no program is left that adds to the table before.
    settled: Option<Arc<AtomicBool>>,
}

impl Epochs {
    /// Those of an object whose programs ask `EPOCH`.
    pub(crate) fn new(attached: &mut Attached) -> Result<Self, LoadError> {
        Ok(Self { epoch: attached.map("EPOCH")?, current: 0, settled: None })
    }

    /// Has the programs add to the other table from now on.
    pub(crate) fn turn(&mut self) {
        self.current ^= 1;
        if self.epoch.set(0, self.current, 0).is_err() {
            // Cannot be for a map of one element; the sums would only come with the next turn.
            self.current ^= 1;
            return;
        }
        let settled = Arc::new(AtomicBool::new(false));
        self.settled = Some(Arc::clone(&settled));
        // A program may still be adding to the other one: waiting for that takes some 10 ms, which
        // no actor may.
        let wait = move || {
            wait_for_running_programs();
            settled.store(true, Release);
        };
        let spawned = thread::Builder::new().name("epoch".into()).spawn(wait);
        if spawned.is_err() {
            wait_for_running_programs();
            self.settled = Some(Arc::new(AtomicBool::new(true)));
        }
    }

    /// Whether a turn has been made whose table has not been read.
    pub(crate) fn is_turning(&self) -> bool {
        self.settled.is_some()
    }

    /// The table that is ready to be read, if one is; once for each turn.
    pub(crate) fn take_settled(&mut self) -> Option<usize> {
        let settled = self.settled.as_ref().is_some_and(|settled| settled.load(Acquire));
        settled.then(|| self.settled = None)?;
        Some((self.current ^ 1) as usize)
    }
}
