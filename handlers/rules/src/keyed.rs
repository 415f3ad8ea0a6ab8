//! Maps of bounded size: the state of a rule for each key.

use lru::LruCache;
use rustc_hash::FxBuildHasher;
use whalewatch_core::Timestamp;

/// At most `most` values by key. A new key replaces the one that was unused for the longest time.
#[derive(Debug)]
pub(crate) struct Keyed<V> {
    entries: LruCache<Vec<u8>, (V, Timestamp), FxBuildHasher>,
    most: usize,
    /// Number of evicted keys.
    pub(crate) evicted: u64,
}

impl<V> Keyed<V> {
    pub(crate) fn new(most: usize) -> Self {
        let entries = LruCache::unbounded_with_hasher(FxBuildHasher);
        Self { entries, most, evicted: 0 }
    }

    /// Returns the value of a key, if it exists.
    pub(crate) fn get(&mut self, key: &[u8], now: Timestamp) -> Option<&mut V> {
        let (value, last) = self.entries.get_mut(key)?;
        *last = (*last).max(now);
        Some(value)
    }

    /// Returns the value of a key. Creates it if necessary.
    pub(crate) fn get_or(
        &mut self,
        key: &[u8],
        now: Timestamp,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        if !self.entries.contains(key) && self.entries.len() >= self.most {
            self.evicted += u64::from(self.entries.pop_lru().is_some());
        }
        let (value, last) = self.entries.get_or_insert_mut_ref(key, || (make(), now));
        *last = (*last).max(now);
        value
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes keys that were last used before a time.
    pub(crate) fn forget(&mut self, before: Timestamp) {
        while self.entries.peek_lru().is_some_and(|(_, (_, last))| *last < before) {
            self.entries.pop_lru();
        }
    }
}
