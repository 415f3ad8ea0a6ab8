//! The keys that are known, and what each has left.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::Timestamp;

use crate::bucket::{Allowance, Bucket};

/// The slot that keys share that have no room for one of their own.
pub(crate) const REST: usize = 0;

/// How often, in the events' time, keys are looked for that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) bucket: Bucket,
    pub(crate) key: Option<Arc<[u8]>>,
    /// Where in the list of suppressions this key's is.
    pub(crate) suppression: Option<usize>,
}

/// Slots by key; at most so many.
#[derive(Debug)]
pub(crate) struct Table {
    allowance: Allowance,
    most: usize,
    index: HashMap<Arc<[u8]>, usize>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The slot that was asked for last: neighbours in a batch are mostly of one key.
    last: usize,
    /// From when on it may be looked for keys to forget.
    sweep_from: Timestamp,
}

impl Table {
    pub(crate) fn new(allowance: Allowance, most: usize) -> Self {
        let rest = Slot { bucket: Bucket::new(allowance), key: None, suppression: None };
        Self {
            allowance,
            most,
            index: HashMap::new(),
            slots: vec![rest],
            free: Vec::new(),
            last: REST,
            sweep_from: Timestamp(0),
        }
    }

    pub(crate) fn slot(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// The slot of a key: its own, or [`REST`] where there is no room for it.
    pub(crate) fn find(&mut self, key: &[u8], now: Timestamp) -> usize {
        if self.slots[self.last].key.as_deref() == Some(key) {
            return self.last;
        }
        let found = self.index.get(key).copied();
        let slot = found.or_else(|| self.insert(key, now)).unwrap_or(REST);
        self.last = slot;
        slot
    }

    fn insert(&mut self, key: &[u8], now: Timestamp) -> Option<usize> {
        if self.index.len() >= self.most && !self.sweep(now) {
            return None;
        }
        let key: Arc<[u8]> = key.into();
        let bucket = Bucket::new(self.allowance);
        let slot = Slot { bucket, key: Some(Arc::clone(&key)), suppression: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, at);
        Some(at)
    }

    /// Forgets the keys of which nothing is kept back and that have all of their allowance: one
    /// that comes again finds what it would have found. Says whether there is room now.
    fn sweep(&mut self, now: Timestamp) -> bool {
        if now < self.sweep_from {
            return false;
        }
        // A whole look at each new key would cost more the more keys there are.
        let wait = self.allowance.whole().min(SWEEP).as_nanos() as u64;
        self.sweep_from = Timestamp(now.as_nanos().saturating_add(wait));
        let (slots, free, allowance) = (&mut self.slots, &mut self.free, self.allowance);
        self.index.retain(|_, at| {
            let slot = &mut slots[*at];
            let stays = slot.suppression.is_some() || !slot.bucket.is_full(allowance, now);
            if !stays {
                slot.key = None;
                free.push(*at);
            }
            stays
        });
        self.index.len() < self.most
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}
