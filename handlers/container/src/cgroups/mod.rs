//! Cgroup id → container: the first and best answer to "which container did it".

mod arrivals;
mod hierarchy;
mod path;
mod state;

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::containers::Serial;

pub(crate) use hierarchy::Hierarchy;
pub(crate) use path::{Home, InPath, container_in, outwards};
pub(crate) use state::StateFolders;

/// What a cgroup says of the processes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// They are in this container.
    Container(Serial),
    /// By its name they are in this container; but a cgroup can be called anything, and no runtime
    /// has spoken for it yet.
    Doubtful(Serial),
    /// They are in none.
    Host,
    /// It does not answer: nobody told its path within the hold.
    Silent,
}

impl Answer {
    /// The container, with or without doubt.
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
    /// It was removed (or is silent) and is forgotten when its time in `leaving` has come.
    leaving: bool,
}

/// The cgroups that are known. Bounded; a removed one is kept for the grace period.
#[derive(Debug)]
pub(crate) struct Cgroups {
    entries: FxHashMap<u64, Entry>,
    leaving: VecDeque<(Duration, u64)>,
    most: usize,
    grace: Duration,
    refused: u64,
}

impl Cgroups {
    pub(crate) fn new(most: usize, grace: Duration) -> Self {
        let (entries, leaving) = (FxHashMap::default(), VecDeque::new());
        Self { entries, leaving, most, grace, refused: 0 }
    }

    /// What the cgroup says; `None` if it was never heard of.
    pub(crate) fn get(&self, id: u64) -> Option<Answer> {
        self.entries.get(&id).map(|e| e.answer)
    }

    /// A cgroup is there, or its path has changed. Says whether there was room for it.
    pub(crate) fn insert(&mut self, id: u64, answer: Answer) -> bool {
        if self.entries.len() >= self.most && !self.entries.contains_key(&id) && !self.evict() {
            self.refused += 1;
            return false;
        }
        self.entries.insert(id, Entry { answer, leaving: false });
        true
    }

    /// A cgroup of which nobody has told. That is remembered for the grace period only.
    pub(crate) fn silent(&mut self, id: u64, now: Duration) {
        if self.insert(id, Answer::Silent) {
            self.remove(id, now);
        }
    }

    /// A cgroup was removed: what it said is kept for the grace period.
    pub(crate) fn remove(&mut self, id: u64, now: Duration) -> Option<Answer> {
        let entry = self.entries.get_mut(&id)?;
        if !entry.leaving {
            entry.leaving = true;
            self.leaving.push_back((now + self.grace, id));
        }
        Some(entry.answer)
    }

    /// A runtime speaks for its container.
    pub(crate) fn confirm(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id)
            && let Answer::Doubtful(serial) = entry.answer
        {
            entry.answer = Answer::Container(serial);
        }
    }

    /// Forgets a cgroup at once.
    pub(crate) fn forget(&mut self, id: u64) {
        self.entries.remove(&id);
    }

    /// Forgets what was removed longer ago than the grace period.
    pub(crate) fn sweep(&mut self, now: Duration) {
        while self.leaving.front().is_some_and(|&(when, _)| when <= now) {
            self.evict();
        }
    }

    /// When there is something to sweep.
    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.leaving.front().map(|&(when, _)| when)
    }

    /// All that are known, with what they say.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Answer)> {
        self.entries.iter().map(|(&id, entry)| (id, entry.answer))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many there was no room for.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets the one that was removed first, if any was.
    fn evict(&mut self) -> bool {
        while let Some((_, id)) = self.leaving.pop_front() {
            // It may have got another path since, or have gone already.
            if self.entries.get(&id).is_some_and(|e| e.leaving) {
                self.entries.remove(&id);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_removed_cgroup_answers_during_the_grace_period_and_then_no_more() {
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
    fn a_silent_cgroup_is_asked_again_after_the_grace_period_or_when_its_path_comes() {
        let mut cgroups = Cgroups::new(10, S(5));
        cgroups.silent(7, S(0));
        assert_eq!(cgroups.get(7), Some(Answer::Silent));
        cgroups.insert(7, Answer::Host);
        cgroups.sweep(S(9));
        assert_eq!(cgroups.get(7), Some(Answer::Host));
        cgroups.silent(8, S(9));
        cgroups.sweep(S(14));
        assert_eq!(cgroups.get(8), None);
    }

    #[test]
    fn no_more_are_kept_than_the_bound_and_the_removed_make_room_first() {
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
