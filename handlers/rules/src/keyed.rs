//! Maps of bounded size: what a rule remembers of each key.

use lru::LruCache;
use rustc_hash::FxBuildHasher;
use whalewatch_core::Timestamp;

/// Values by key, at most so many: the one that was silent longest makes room for a new one.
#[derive(Debug)]
pub(crate) struct Keyed<V> {
    entries: LruCache<Vec<u8>, (V, Timestamp), FxBuildHasher>,
    most: usize,
    /// How many had to make room.
    pub(crate) evicted: u64,
}

impl<V> Keyed<V> {
    pub(crate) fn new(most: usize) -> Self {
        let entries = LruCache::unbounded_with_hasher(FxBuildHasher);
        Self { entries, most, evicted: 0 }
    }

    /// The value of a key that is there.
    pub(crate) fn get(&mut self, key: &[u8], now: Timestamp) -> Option<&mut V> {
        let (value, last) = self.entries.get_mut(key)?;
        *last = (*last).max(now);
        Some(value)
    }

    /// The value of a key, made where there is none.
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

    /// Forgets keys that were silent since before that time.
    pub(crate) fn forget(&mut self, before: Timestamp) {
        while self.entries.peek_lru().is_some_and(|(_, (_, last))| *last < before) {
            self.entries.pop_lru();
        }
    }
}
