//! Sums that the programs keep in two tables: while they add to one, the other is read and emptied,
//! so that nothing is counted twice or missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread;

use aya::maps::{Array, MapData};

use crate::LoadError;
use crate::program::{Attached, wait_for_running_programs};

/// The switch that says which of two tables the programs add to.
pub struct Epochs {
    epoch: Array<MapData, u32>,
    current: u32,
    /// After a switch: set once no program adds to the previous table any more.
    settled: Option<Arc<AtomicBool>>,
}

impl Epochs {
    /// Takes the map `EPOCH` from the object.
    pub(crate) fn new(attached: &mut Attached) -> Result<Self, LoadError> {
        Ok(Self { epoch: attached.map("EPOCH")?, current: 0, settled: None })
    }

    /// Makes the programs add to the other table from now on.
    pub(crate) fn switch(&mut self) {
        self.current ^= 1;
        if self.epoch.set(0, self.current, 0).is_err() {
            // Setting the only element of an array cannot fail. If it did, the sums would be
            // reported after the next switch.
            self.current ^= 1;
            return;
        }
        let settled = Arc::new(AtomicBool::new(false));
        self.settled = Some(Arc::clone(&settled));
        // A program may still be adding to the other table. Waiting for it takes about 10 ms, for
        // which an actor must not block.
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

    /// Whether the table of the last switch has not been read yet.
    pub(crate) fn is_switching(&self) -> bool {
        self.settled.is_some()
    }

    /// Returns the table to read once it no longer changes, once per switch.
    pub(crate) fn take_settled(&mut self) -> Option<usize> {
        let settled = self.settled.as_ref().is_some_and(|settled| settled.load(Acquire));
        settled.then(|| self.settled = None)?;
        Some((self.current ^ 1) as usize)
    }
}
