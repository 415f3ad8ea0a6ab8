//! Cgroup id → container: the first and best evidence for "which container did it".
//!
//! The kernel reports a cgroup's path when the cgroup is made, before any process can run in it.
//! The path names the container (`path`); where a runtime allows any name, its state folder does
//! (`state`, with `arrivals`). `hierarchy` reads the cgroups that are there already.

mod arrivals;
mod hierarchy;
mod path;
mod state;

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::containers::Serial;

pub(crate) use hierarchy::Hierarchy;
pub(crate) use path::{Identity, OwnedIdentity, container_in, outwards};
pub(crate) use state::StateFolders;

/// What a cgroup says about the processes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// They are in this container.
    Container(Serial),
    /// They are in this container according to the cgroup's name. But anybody may choose such a
    /// name, and no runtime has confirmed the container yet.
    Doubtful(Serial),
    /// They are on the host.
    Host,
    /// Nothing: the path is not known, and did not come within the hold.
    Silent,
}

impl Answer {
    /// Returns the container, confirmed or doubtful.
    pub(crate) fn container(self) -> Option<Serial> {
        match self {
            Self::Container(serial) | Self::Doubtful(serial) => Some(serial),
            Self::Host | Self::Silent => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    answer: Answer,
    /// When to forget the cgroup. Set once it is removed, or silent.
    forget_at: Option<Duration>,
}

/// The known cgroups. At most `max`; a removed one stays for the grace period, because events from
/// it may arrive late.
#[derive(Debug)]
pub(crate) struct Cgroups {
    entries: FxHashMap<u64, Entry>,
    /// Removed cgroups with the time to forget them, the earliest first. An element whose entry has
    /// another time by now is stale.
    leaving: VecDeque<(Duration, u64)>,
    max: usize,
    grace: Duration,
    refused: u64,
}

impl Cgroups {
    pub(crate) fn new(max: usize, grace: Duration) -> Self {
        let (entries, leaving) = (FxHashMap::default(), VecDeque::new());
        Self { entries, leaving, max, grace, refused: 0 }
    }

    /// Returns what the cgroup says; `None` for one that is not known.
    pub(crate) fn get(&self, id: u64) -> Option<Answer> {
        self.entries.get(&id).map(|e| e.answer)
    }

    /// Adds a cgroup, or replaces its answer. Returns whether there was room.
    pub(crate) fn insert(&mut self, id: u64, answer: Answer) -> bool {
        if self.entries.len() >= self.max && !self.entries.contains_key(&id) && !self.evict() {
            self.refused += 1;
            return false;
        }
        self.entries.insert(id, Entry { answer, forget_at: None });
        true
    }

    /// Remembers for the grace period that nobody knows this cgroup's path.
    pub(crate) fn silence(&mut self, id: u64, now: Duration) {
        if self.insert(id, Answer::Silent) {
            self.remove(id, now);
        }
    }

    /// Marks a cgroup as removed; returns its answer, which stays for the grace period.
    pub(crate) fn remove(&mut self, id: u64, now: Duration) -> Option<Answer> {
        let entry = self.entries.get_mut(&id)?;
        if entry.forget_at.is_none() {
            let forget_at = now + self.grace;
            entry.forget_at = Some(forget_at);
            self.leaving.push_back((forget_at, id));
        }
        Some(entry.answer)
    }

    /// Ends the doubt about a cgroup: a runtime has reported this container.
    pub(crate) fn confirm(&mut self, id: u64, container: Serial) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.answer == Answer::Doubtful(container)
        {
            entry.answer = Answer::Container(container);
        }
    }

    /// Forgets a cgroup at once.
    pub(crate) fn forget(&mut self, id: u64) {
        self.entries.remove(&id);
    }

    /// Forgets the cgroups whose grace period is over.
    pub(crate) fn sweep(&mut self, now: Duration) {
        while let Some((forget_at, id)) = self.leaving.pop_front_if(|(when, _)| *when <= now) {
            self.forget_if_due(forget_at, id);
        }
    }

    /// Returns when the next sweep is due.
    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.leaving.front().map(|&(when, _)| when)
    }

    /// Returns every known cgroup with its answer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Answer)> {
        self.entries.iter().map(|(&id, entry)| (id, entry.answer))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many cgroups found no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Makes room: forgets the cgroup that was removed first. Returns whether there was one.
    fn evict(&mut self) -> bool {
        while let Some((forget_at, id)) = self.leaving.pop_front() {
            if self.forget_if_due(forget_at, id) {
                return true;
            }
        }
        false
    }

    /// Forgets the cgroup unless it was taken in again since; returns whether it did.
    fn forget_if_due(&mut self, forget_at: Duration, id: u64) -> bool {
        let due = self.entries.get(&id).is_some_and(|e| e.forget_at == Some(forget_at));
        if due {
            self.entries.remove(&id);
        }
        due
    }

    /// Returns the cgroups that are not removed, with their answers.
    #[cfg(debug_assertions)]
    pub(crate) fn live(&self) -> impl Iterator<Item = (u64, Answer)> {
        let live = self.entries.iter().filter(|(_, entry)| entry.forget_at.is_none());
        live.map(|(&id, entry)| (id, entry.answer))
    }

    /// Panics unless
    /// * there are at most `max` cgroups, and
    /// * every removed cgroup is queued to be forgotten, so that none stays for ever.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert!(self.entries.len() <= self.max, "{} cgroups", self.entries.len());
        let queued: rustc_hash::FxHashSet<_> = self.leaving.iter().copied().collect();
        for (&id, entry) in &self.entries {
            let due = entry.forget_at.is_none_or(|at| queued.contains(&(at, id)));
            assert!(due, "removed cgroup {id} is never forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn removed_cgroup_answers_during_the_grace_period() {
        let mut cgroups = Cgroups::new(10, S(5));
        cgroups.insert(7, Answer::Host);
        assert_eq!(cgroups.remove(7, S(1)), Some(Answer::Host));
        cgroups.sweep(S(5));
        assert_eq!(cgroups.get(7), Some(Answer::Host));
        cgroups.sweep(S(6));
        assert_eq!(cgroups.get(7), None);
        assert_eq!(cgroups.next_sweep(), None);
    }

    #[test]
    fn silent_cgroup_is_replaced_by_its_path_or_forgotten() {
        let mut cgroups = Cgroups::new(10, S(5));
        cgroups.silence(7, S(0));
        assert_eq!(cgroups.get(7), Some(Answer::Silent));
        cgroups.insert(7, Answer::Host);
        cgroups.sweep(S(9));
        assert_eq!(cgroups.get(7), Some(Answer::Host));
        cgroups.silence(8, S(9));
        cgroups.sweep(S(14));
        assert_eq!(cgroups.get(8), None);
    }

    #[test]
    fn grace_period_starts_at_the_last_removal() {
        let mut cgroups = Cgroups::new(10, S(5));
        cgroups.silence(7, S(0));
        cgroups.insert(7, Answer::Host); // the path came after all
        cgroups.remove(7, S(2));
        cgroups.sweep(S(5));
        assert_eq!(cgroups.get(7), Some(Answer::Host));
        cgroups.sweep(S(7));
        assert_eq!(cgroups.get(7), None);
    }

    #[test]
    fn cgroups_are_bounded_and_removed_ones_make_room() {
        let mut cgroups = Cgroups::new(2, S(5));
        assert!(cgroups.insert(1, Answer::Host));
        assert!(cgroups.insert(2, Answer::Host));
        assert!(!cgroups.insert(3, Answer::Host));
        assert_eq!(cgroups.refused(), 1);
        cgroups.remove(1, S(0));
        assert!(cgroups.insert(3, Answer::Host));
        assert_eq!((cgroups.get(1), cgroups.get(2)), (None, Some(Answer::Host)));
        assert_eq!(cgroups.len(), 2);
    }
}
