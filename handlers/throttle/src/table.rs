//! The known keys and their buckets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::Timestamp;

use crate::bucket::{Allowance, Bucket};

/// The slot that the keys beyond `max_keys` share.
pub(crate) const REST: usize = 0;

/// How often to look for keys to forget, in the events' time.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) bucket: Bucket,
    pub(crate) key: Option<Arc<[u8]>>,
    /// The index of the key's suppression.
    pub(crate) suppression: Option<usize>,
}

/// A bounded map from keys to slots.
#[derive(Debug)]
pub(crate) struct Table {
    allowance: Allowance,
    max_keys: usize,
    index: HashMap<Arc<[u8]>, usize>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The slot of the last event: neighbours in a batch mostly have the same key.
    last: usize,
    /// When to look for keys to forget again, at the earliest.
    next_sweep: Timestamp,
}

impl Table {
    pub(crate) fn new(allowance: Allowance, max_keys: usize) -> Self {
        let rest = Slot { bucket: Bucket::new(allowance), key: None, suppression: None };
        Self {
            allowance,
            max_keys,
            index: HashMap::new(),
            slots: vec![rest],
            free: Vec::new(),
            last: REST,
            next_sweep: Timestamp(0),
        }
    }

    pub(crate) fn slot(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// Returns the slot of a key, which is [`REST`] if there is no room for the key.
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
        if self.index.len() >= self.max_keys && !self.sweep(now) {
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

    /// Forgets the keys that have a full bucket and no suppression; such a key gets the same bucket
    /// when it returns. Returns whether there is room now.
    fn sweep(&mut self, now: Timestamp) -> bool {
        if now < self.next_sweep {
            return false;
        }
        // A sweep visits all keys, so it must not happen for each new one.
        let wait = self.allowance.refill_time().min(SWEEP).as_nanos() as u64;
        self.next_sweep = Timestamp(now.as_nanos().saturating_add(wait));
        let (slots, free, allowance) = (&mut self.slots, &mut self.free, self.allowance);
        self.index.retain(|_, at| {
            let slot = &mut slots[*at];
            let is_kept = slot.suppression.is_some() || !slot.bucket.is_full(allowance, now);
            if !is_kept {
                slot.key = None;
                free.push(*at);
            }
            is_kept
        });
        self.index.len() < self.max_keys
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}
