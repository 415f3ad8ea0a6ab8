//! Which single containers a client asks its runtime about: each once at a time, few at once, and
//! again while the runtime does not know them.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Bound on the questions that run at the same time.
const MAX_RUNNING: usize = 8;
/// Bound on the wanted containers. The next listing reports those beyond it.
const MAX_WANTED: usize = 4096;
/// How often a runtime must say that it does not know a container before that is final: one that is
/// being made appears a moment later.
pub(super) const DENIALS: u32 = 5;

/// The containers to inspect.
#[derive(Default)]
pub(super) struct Inspections {
    /// The wanted containers, with the number of failed attempts.
    wanted: FxHashMap<Arc<str>, u32>,
    queue: VecDeque<Arc<str>>,
    running: usize,
}

impl Inspections {
    /// Adds a container; returns whether it is new and there is room.
    pub(super) fn want(&mut self, id: &Arc<str>) -> bool {
        if self.wanted.len() >= MAX_WANTED || self.wanted.contains_key(id) {
            return false;
        }
        self.wanted.insert(Arc::clone(id), 0);
        self.queue.push_back(Arc::clone(id));
        true
    }

    /// Empties the list and returns the containers that were wanted.
    pub(super) fn give_up(&mut self) -> Vec<Arc<str>> {
        self.queue.clear();
        self.wanted.drain().map(|(id, _)| id).collect()
    }

    pub(super) fn forget(&mut self, id: &str) {
        if self.wanted.remove(id).is_some() {
            self.queue.retain(|queued| &**queued != id);
        }
    }

    /// Returns the next container to ask about now.
    pub(super) fn next(&mut self) -> Option<Arc<str>> {
        if self.running >= MAX_RUNNING {
            return None;
        }
        let id = self.queue.pop_front()?;
        self.running += 1;
        Some(id)
    }

    /// Whether a container is still wanted.
    pub(super) fn wants(&self, id: &str) -> bool {
        self.wanted.contains_key(id)
    }

    /// Notes that a question has been answered, or has timed out.
    pub(super) fn answered(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Removes a container that is known now, or given up; returns whether it was wanted.
    pub(super) fn settle(&mut self, id: &str) -> bool {
        self.wanted.remove(id).is_some()
    }

    /// Queues a container again, if it is still wanted.
    pub(super) fn again(&mut self, id: Arc<str>) {
        if self.wants(&id) {
            self.queue.push_back(id);
        }
    }

    /// Counts a failed attempt and returns their number; `None` if the container is not wanted any
    /// more.
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
    fn each_container_is_asked_about_once_and_few_at_once() {
        let mut inspections = Inspections::default();
        for i in 0..100 {
            assert!(inspections.want(&i.to_string().into()));
            assert!(!inspections.want(&i.to_string().into()));
        }
        let asked = std::iter::from_fn(|| inspections.next()).count();
        assert_eq!(asked, MAX_RUNNING);
        assert_eq!(inspections.queue.len(), 100 - MAX_RUNNING);
    }

    #[test]
    fn forgotten_container_is_not_asked_about() {
        let mut inspections = Inspections::default();
        inspections.want(&"a".into());
        inspections.forget("a");
        assert_eq!(inspections.next(), None);
        assert_eq!(inspections.failed("a"), None);
    }

    #[test]
    fn wanted_containers_are_bounded() {
        let mut inspections = Inspections::default();
        let wanted =
            (0..2 * MAX_WANTED).filter(|i| inspections.want(&i.to_string().into())).count();
        assert_eq!((wanted, inspections.queue.len()), (MAX_WANTED, MAX_WANTED));
    }
}
