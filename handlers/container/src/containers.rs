//! The containers that are known, by id and by a short number that processes and cgroups refer to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{ChainId, Container, Status};

use crate::options::RuntimeKind;

/// A container for short. Never used again, so that what refers to a forgotten one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Serial(u32);

/// How the name of a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It is known, or can come any moment: events wait for it.
    Awaited,
    /// It has not come within the hold: events wait no more, and are completed when it comes.
    Late,
    /// Nobody is expected to tell it.
    Hopeless,
}

/// Whether it is known in which containers a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// No process of it has been seen yet that tells.
    Untold,
    /// In the parents that its snapshot has, or in none.
    Told,
}

/// A container that is known.
#[derive(Debug)]
pub(crate) struct Known {
    /// What events share.
    pub(crate) snapshot: Arc<Container>,
    pub(crate) naming: Naming,
    /// Whether it is there: told as found and not as gone.
    pub(crate) present: bool,
    /// Whether the runtime says that it runs.
    pub(crate) listed: bool,
    /// The runtime that has it, by its own word.
    pub(crate) told_by: Option<RuntimeKind>,
    /// Runtimes that say that they do not know it.
    pub(crate) denied_by: Vec<RuntimeKind>,
    /// Its cgroups and those below them.
    pub(crate) cgroups: Vec<u64>,
    /// The last of those that it had.
    pub(crate) former_cgroups: Vec<u64>,
    /// Whether it has, or had, a cgroup that is not below another container's.
    pub(crate) stands_alone: bool,
    /// Whether it is known in which containers it runs.
    pub(crate) nesting: Nesting,
    /// Its mount namespace, once a process of it was seen in one that is not the host's, and until
    /// its first process ends.
    pub(crate) mnt: u32,
    /// Chains that got an event of it without its name.
    pub(crate) unnamed_in: Vec<ChainId>,
    /// Events that were attributed to it.
    pub(crate) events: u64,
    /// Since when it is known.
    pub(crate) since: Duration,
    /// When it is forgotten.
    leaves: Option<Duration>,
}

impl Known {
    pub(crate) fn named(&self) -> bool {
        self.snapshot.name.is_some()
    }
}

/// All that are known. Bounded; one that is gone is kept for the grace period.
#[derive(Debug)]
pub(crate) struct Containers {
    known: FxHashMap<Serial, Known>,
    by_id: FxHashMap<Arc<str>, Serial>,
    by_mnt: FxHashMap<u32, Serial>,
    by_init: FxHashMap<u32, Serial>,
    leaving: VecDeque<(Duration, Serial)>,
    next: u32,
    most: usize,
    refused: u64,
}

impl Containers {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            known: FxHashMap::default(),
            by_id: FxHashMap::default(),
            by_mnt: FxHashMap::default(),
            by_init: FxHashMap::default(),
            leaving: VecDeque::new(),
            next: 0,
            most,
            refused: 0,
        }
    }

    pub(crate) fn get(&self, serial: Serial) -> Option<&Known> {
        self.known.get(&serial)
    }

    pub(crate) fn get_mut(&mut self, serial: Serial) -> Option<&mut Known> {
        self.known.get_mut(&serial)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Serial> {
        self.by_id.get(id).copied()
    }

    /// The container that lives in this mount namespace; none does in 0, which is not known.
    pub(crate) fn by_mnt(&self, mnt: u32) -> Option<Serial> {
        self.by_mnt.get(&mnt).copied()
    }

    /// The container whose first process this is, says its runtime.
    pub(crate) fn by_init(&self, pid: u32) -> Option<Serial> {
        let serial = self.by_init.get(&pid).copied()?;
        self.known.get(&serial).filter(|k| k.present && k.snapshot.init_pid == Some(pid))?;
        Some(serial)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Serial, &Known)> {
        self.known.iter().map(|(&serial, known)| (serial, known))
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// How many there was no room for.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes in a container; `None` if there is no room.
    pub(crate) fn insert(
        &mut self,
        container: Container,
        naming: Naming,
        now: Duration,
    ) -> Option<Serial> {
        debug_assert!(!self.by_id.contains_key(&container.id), "known already");
        if self.known.len() >= self.most && !self.evict() {
            self.refused += 1;
            return None;
        }
        let serial = Serial(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_id.insert(Arc::clone(&container.id), serial);
        if let Some(pid) = container.init_pid {
            self.by_init.insert(pid, serial);
        }
        let known = Known {
            snapshot: Arc::new(container),
            naming,
            present: false,
            listed: false,
            told_by: None,
            denied_by: Vec::new(),
            cgroups: Vec::new(),
            former_cgroups: Vec::new(),
            stands_alone: false,
            nesting: Nesting::Untold,
            mnt: 0,
            unnamed_in: Vec::new(),
            events: 0,
            since: now,
            leaves: None,
        };
        self.known.insert(serial, known);
        Some(serial)
    }

    /// Puts together what was known and what is told now: what is not told stays.
    pub(crate) fn merge(&mut self, serial: Serial, told: Container) {
        let Some(known) = self.known.get_mut(&serial) else { return };
        let old = &*known.snapshot;
        let merged = Container {
            id: Arc::clone(&old.id),
            name: told.name.or_else(|| old.name.clone()),
            image: told.image.or_else(|| old.image.clone()),
            runtime: told.runtime,
            status: newer(old.status, told.status),
            labels: if told.labels.is_empty() { old.labels.clone() } else { told.labels },
            init_pid: told.init_pid.or(old.init_pid),
            started_at: told.started_at.or(old.started_at),
            parents: old.parents.clone(),
        };
        if merged.init_pid != old.init_pid {
            // The pid may be another container's by now.
            if let Some(pid) = old.init_pid.filter(|pid| self.by_init.get(pid) == Some(&serial)) {
                self.by_init.remove(&pid);
            }
            merged.init_pid.map(|pid| self.by_init.insert(pid, serial));
        }
        if merged != *old {
            known.snapshot = Arc::new(merged);
        }
    }

    /// Changes the snapshot that later events get.
    pub(crate) fn change(&mut self, serial: Serial, change: impl FnOnce(&mut Container)) {
        if let Some(known) = self.known.get_mut(&serial) {
            change(Arc::make_mut(&mut known.snapshot));
        }
    }

    /// A process of the container lives in this mount namespace.
    pub(crate) fn lives_in(&mut self, serial: Serial, mnt: u32) {
        if let Some(known) = self.known.get_mut(&serial).filter(|k| k.mnt == 0) {
            known.mnt = mnt;
            self.by_mnt.insert(mnt, serial);
        }
    }

    /// Nothing of the container lives in this mount namespace any more: its number is soon
    /// another's.
    pub(crate) fn lives_no_more_in(&mut self, serial: Serial, mnt: u32) {
        let Some(known) = self.known.get_mut(&serial).filter(|k| k.mnt == mnt) else { return };
        known.mnt = 0;
        if self.by_mnt.get(&mnt) == Some(&serial) {
            self.by_mnt.remove(&mnt);
        }
    }

    /// The container is gone: it is forgotten at `when`, if it does not stay after all.
    ///
    /// That the last of its cgroups is gone comes after what happened in it, and its mount
    /// namespace is gone as well. But what a runtime says of one without cgroups overtakes events:
    /// of that the end of its first process tells.
    pub(crate) fn leave(&mut self, serial: Serial, when: Duration) {
        if let Some(known) = self.known.get(&serial).filter(|k| !k.former_cgroups.is_empty()) {
            self.lives_no_more_in(serial, known.mnt);
        }
        if let Some(known) = self.known.get_mut(&serial).filter(|k| k.leaves.is_none()) {
            known.leaves = Some(when);
            self.leaving.push_back((when, serial));
        }
    }

    /// It is there after all, or again, and then among mounts of its own again.
    pub(crate) fn stay(&mut self, serial: Serial) {
        let Some(known) = self.known.get_mut(&serial) else { return };
        let mnt = known.mnt;
        if known.leaves.take().is_some() {
            self.lives_no_more_in(serial, mnt);
        }
    }

    /// Forgets the next one whose time has come.
    pub(crate) fn sweep(&mut self, now: Duration) -> Option<(Serial, Known)> {
        while let Some(&(when, serial)) = self.leaving.front().filter(|&&(when, _)| when <= now) {
            self.leaving.pop_front();
            // It may have stayed, and perhaps left again later.
            if self.known.get(&serial).is_some_and(|k| k.leaves == Some(when)) {
                return self.forget(serial).map(|known| (serial, known));
            }
        }
        None
    }

    /// When there is something to sweep.
    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.leaving.front().map(|&(when, _)| when)
    }

    /// Makes room: forgets the first of those that no cgroup and no runtime speaks for.
    fn evict(&mut self) -> bool {
        let idle = self.known.iter().filter(|(_, k)| k.cgroups.is_empty() && !k.listed);
        let first = idle.map(|(&serial, _)| serial).min();
        first.and_then(|serial| self.forget(serial)).is_some()
    }

    fn forget(&mut self, serial: Serial) -> Option<Known> {
        let known = self.known.remove(&serial)?;
        self.by_id.remove(&known.snapshot.id);
        let ours = |other: Option<&Serial>| other == Some(&serial);
        if ours(self.by_mnt.get(&known.mnt)) {
            self.by_mnt.remove(&known.mnt);
        }
        if let Some(pid) = known.snapshot.init_pid.filter(|pid| ours(self.by_init.get(pid))) {
            self.by_init.remove(&pid);
        }
        Some(known)
    }
}

/// The daemon's answers may be older than what is known: no container goes back to `created`.
pub(crate) fn newer(known: Status, told: Status) -> Status {
    match (known, told) {
        (Status::Unknown, told) => told,
        (known, Status::Unknown | Status::Created) => known,
        (_, told) => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whalewatch_core::Runtime;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn bare(id: &str) -> Container {
        Container::bare(id, Runtime::Docker)
    }

    #[test]
    fn what_is_not_told_again_stays_known() {
        let mut all = Containers::new(9);
        let first = Container {
            name: Some("web".into()),
            init_pid: Some(7),
            labels: [("a".into(), "b".into())].into(),
            ..bare("x")
        };
        let x = all.insert(first.clone(), Naming::Awaited, S(0)).unwrap();
        all.merge(x, bare("x"));
        assert_eq!(*all.get(x).unwrap().snapshot, first);
        all.merge(x, Container { name: Some("web2".into()), init_pid: Some(8), ..bare("x") });
        assert_eq!(all.get(x).unwrap().snapshot.name.as_deref(), Some("web2"));
        all.get_mut(x).unwrap().present = true;
        assert_eq!((all.by_init(7), all.by_init(8)), (None, Some(x)));
    }

    #[test]
    fn one_that_comes_back_within_the_grace_period_is_not_forgotten() {
        let mut all = Containers::new(9);
        let x = all.insert(bare("x"), Naming::Awaited, S(0)).unwrap();
        all.leave(x, S(5));
        all.stay(x);
        all.leave(x, S(9));
        assert!(all.sweep(S(8)).is_none());
        assert!(all.sweep(S(9)).is_some());
        assert_eq!((all.len(), all.by_id("x"), all.next_sweep()), (0, None, None));
    }

    #[test]
    fn a_mount_namespace_is_a_container_s_while_that_is_there_and_another_s_later() {
        let mut all = Containers::new(9);
        let x = all.insert(bare("x"), Naming::Awaited, S(0)).unwrap();
        let y = all.insert(bare("y"), Naming::Awaited, S(0)).unwrap();
        all.lives_in(x, 77);
        all.leave(x, S(5));
        assert_eq!(all.by_mnt(77), Some(x), "what it did may still come");
        all.lives_in(y, 77);
        all.stay(x);
        all.lives_in(x, 78); // started again
        all.lives_no_more_in(x, 77);
        assert_eq!((all.by_mnt(77), all.by_mnt(78)), (Some(y), Some(x)));
        all.lives_no_more_in(x, 78);
        assert_eq!(all.by_mnt(78), None);
        all.lives_in(x, 79);
        all.get_mut(x).unwrap().former_cgroups.push(7);
        all.leave(x, S(5));
        assert_eq!(all.by_mnt(79), None, "its cgroup went after all that");
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let mut all = Containers::new(1);
        let x = all.insert(bare("x"), Naming::Awaited, S(0)).unwrap();
        all.get_mut(x).unwrap().cgroups.push(7);
        assert_eq!(all.insert(bare("y"), Naming::Awaited, S(0)), None);
        assert_eq!(all.refused(), 1);
        all.lives_in(x, 77);
        all.get_mut(x).unwrap().cgroups.clear(); // nothing speaks for it any more
        let y = all.insert(bare("y"), Naming::Awaited, S(0)).unwrap();
        assert_ne!(x, y);
        assert_eq!(all.by_mnt(77), None);
    }
}
