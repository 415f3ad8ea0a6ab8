//! Which single containers a client is to ask for: each once at a time, few at once, again while
//! unknown.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// How many are asked for at once.
const AT_ONCE: usize = 8;
/// How many may want to be asked for; those beyond it are told by the next listing.
const MOST: usize = 4096;
/// How often a runtime may say that it knows no such container: one that is just being made is not
/// there yet.
pub(super) const DENIALS: u32 = 5;

/// What is to be inspected.
#[derive(Default)]
pub(super) struct Inspections {
    /// Tries that failed so far.
    wanted: FxHashMap<Arc<str>, u32>,
    queue: VecDeque<Arc<str>>,
    running: usize,
}

impl Inspections {
    /// Says whether it was not wanted already.
    pub(super) fn want(&mut self, id: &Arc<str>) -> bool {
        if self.wanted.len() >= MOST || self.wanted.contains_key(id) {
            return false;
        }
        self.wanted.insert(Arc::clone(id), 0);
        self.queue.push_back(Arc::clone(id));
        true
    }

    /// All that were wanted; none is any more.
    pub(super) fn give_up(&mut self) -> Vec<Arc<str>> {
        self.queue.clear();
        self.wanted.drain().map(|(id, _)| id).collect()
    }

    pub(super) fn forget(&mut self, id: &str) {
        if self.wanted.remove(id).is_some() {
            self.queue.retain(|queued| &**queued != id);
        }
    }

    /// The next that may be asked for now.
    pub(super) fn next(&mut self) -> Option<Arc<str>> {
        if self.running >= AT_ONCE {
            return None;
        }
        let id = self.queue.pop_front()?;
        self.running += 1;
        Some(id)
    }

    /// Whether it is still wanted.
    pub(super) fn wants(&self, id: &str) -> bool {
        self.wanted.contains_key(id)
    }

    /// One of those that were asked for has been answered, or was not in time.
    pub(super) fn answered(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// It is known now, or given up; says whether it was wanted.
    pub(super) fn settle(&mut self, id: &str) -> bool {
        self.wanted.remove(id).is_some()
    }

    /// Queues it once more, if it is still wanted.
    pub(super) fn again(&mut self, id: Arc<str>) {
        if self.wants(&id) {
            self.queue.push_back(id);
        }
    }

    /// One more try of this has failed; `None` if it is no longer wanted.
    pub(super) fn failed(&mut self, id: &str) -> Option<u32> {
        let failures = self.wanted.get_mut(id)?;
        *failures += 1;
        Some(*failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_for_once_and_few_at_once() {
        let mut inspections = Inspections::default();
        for i in 0..100 {
            assert!(inspections.want(&i.to_string().into()));
            assert!(!inspections.want(&i.to_string().into()));
        }
        let asked = std::iter::from_fn(|| inspections.next()).count();
        assert_eq!(asked, AT_ONCE);
        assert_eq!(inspections.queue.len(), 100 - AT_ONCE);
    }

    #[test]
    fn one_that_is_forgotten_is_not_asked_for() {
        let mut inspections = Inspections::default();
        inspections.want(&"a".into());
        inspections.forget("a");
        assert_eq!(inspections.next(), None);
        assert_eq!(inspections.failed("a"), None);
    }

    #[test]
    fn no_more_are_wanted_than_the_bound() {
        let mut inspections = Inspections::default();
        let wanted = (0..2 * MOST).filter(|i| inspections.want(&i.to_string().into())).count();
        assert_eq!((wanted, inspections.queue.len()), (MOST, MOST));
    }
}
