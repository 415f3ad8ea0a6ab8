//! The known containers, by id and by a serial number that processes and cgroups refer to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{ChainId, Container, Status};

use crate::options::RuntimeClient;

/// Bound on the former cgroups that are remembered of one container. Losses in the kernel are known
/// by cgroup only, so these tell whose the lost events were.
pub(crate) const MAX_FORMER_CGROUPS: usize = 16;

/// Number of a container. It is never reused, so a reference to a forgotten container finds
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Serial(u32);

/// Whether a container's name may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The name is known, or may come any moment: events wait for it.
    Awaited,
    /// The name has not come within the hold: events no longer wait, and `container.resolved`
    /// follows if it comes.
    Late,
    /// No runtime will report a name.
    Hopeless,
}

/// Whether it is known which containers a container runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// No process has shown it yet.
    Unknown,
    /// The container runs in the parents of its snapshot, or in none.
    Known,
}

/// A known container.
#[derive(Debug)]
pub(crate) struct Known {
    /// The snapshot that events share.
    pub(crate) snapshot: Arc<Container>,
    pub(crate) naming: Naming,
    /// Whether the container exists: it was announced as found, and not yet as gone.
    pub(crate) present: bool,
    /// Whether a runtime lists the container as existing and not ended.
    pub(crate) listed: bool,
    /// The client that reported the container.
    pub(crate) reported_by: Option<RuntimeClient>,
    /// The clients that reported not to know the container.
    pub(crate) denied_by: Vec<RuntimeClient>,
    /// The container's cgroups, including those below its top-level one.
    pub(crate) cgroups: Vec<u64>,
    /// The first removed cgroups of the container, at most [`MAX_FORMER_CGROUPS`].
    pub(crate) former_cgroups: Vec<u64>,
    /// Whether the container has, or had, a cgroup that is not below another container's.
    pub(crate) has_top_cgroup: bool,
    /// Whether it is known which containers this one runs in.
    pub(crate) nesting: Nesting,
    /// The container's mount namespace; 0 before a process of it was seen in one other than the
    /// host's, and after its first process has ended.
    pub(crate) mnt: u32,
    /// The chains that got an event of the container without its name.
    pub(crate) unnamed_in: Vec<ChainId>,
    /// Events that were attributed to the container.
    pub(crate) events: u64,
    /// When the container became known.
    pub(crate) since: Duration,
    /// When to forget the container. Set while it is gone.
    forget_at: Option<Duration>,
}

impl Known {
    pub(crate) fn named(&self) -> bool {
        self.snapshot.name.is_some()
    }
}

/// The known containers. At most `max`; one that has gone stays for the grace period.
#[derive(Debug)]
pub(crate) struct Containers {
    known: FxHashMap<Serial, Known>,
    by_id: FxHashMap<Arc<str>, Serial>,
    by_mnt: FxHashMap<u32, Serial>,
    by_init: FxHashMap<u32, Serial>,
    leaving: VecDeque<(Duration, Serial)>,
    next: u32,
    max: usize,
    refused: u64,
}

impl Containers {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            known: FxHashMap::default(),
            by_id: FxHashMap::default(),
            by_mnt: FxHashMap::default(),
            by_init: FxHashMap::default(),
            leaving: VecDeque::new(),
            next: 0,
            max,
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

    /// Returns the container that has this mount namespace. 0 stands for an unknown one and finds
    /// none.
    pub(crate) fn by_mnt(&self, mnt: u32) -> Option<Serial> {
        self.by_mnt.get(&mnt).copied()
    }

    /// Returns the container whose first process this is according to its runtime.
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

    /// Returns how many containers found no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Adds a container that is not known yet; `None` if there is no room.
    pub(crate) fn insert(
        &mut self,
        container: Container,
        naming: Naming,
        now: Duration,
    ) -> Option<Serial> {
        debug_assert!(!self.by_id.contains_key(&container.id), "known already");
        if self.is_full() {
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
            reported_by: None,
            denied_by: Vec::new(),
            cgroups: Vec::new(),
            former_cgroups: Vec::new(),
            has_top_cgroup: false,
            nesting: Nesting::Unknown,
            mnt: 0,
            unnamed_in: Vec::new(),
            events: 0,
            since: now,
            forget_at: None,
        };
        self.known.insert(serial, known);
        Some(serial)
    }

    /// Merges a report; fields that it lacks keep their value.
    pub(crate) fn merge(&mut self, serial: Serial, report: Container) {
        let Some(known) = self.known.get_mut(&serial) else { return };
        let old = &*known.snapshot;
        let merged = Container {
            id: Arc::clone(&old.id),
            name: report.name.or_else(|| old.name.clone()),
            image: report.image.or_else(|| old.image.clone()),
            runtime: report.runtime,
            status: newer(old.status, report.status),
            labels: if report.labels.is_empty() { old.labels.clone() } else { report.labels },
            init_pid: report.init_pid.or(old.init_pid),
            started_at: report.started_at.or(old.started_at),
            parents: old.parents.clone(),
        };
        if merged.init_pid != old.init_pid {
            // Another container may have this pid by now.
            if let Some(pid) = old.init_pid.filter(|pid| self.by_init.get(pid) == Some(&serial)) {
                self.by_init.remove(&pid);
            }
            merged.init_pid.map(|pid| self.by_init.insert(pid, serial));
        }
        if merged != *old {
            known.snapshot = Arc::new(merged);
        }
    }

    /// Changes the snapshot that later events share.
    pub(crate) fn change(&mut self, serial: Serial, change: impl FnOnce(&mut Container)) {
        if let Some(known) = self.known.get_mut(&serial) {
            change(Arc::make_mut(&mut known.snapshot));
        }
    }

    /// Notes the container's mount namespace, unless one is known.
    pub(crate) fn set_mount_namespace(&mut self, serial: Serial, mnt: u32) {
        if let Some(known) = self.known.get_mut(&serial).filter(|k| k.mnt == 0) {
            known.mnt = mnt;
            self.by_mnt.insert(mnt, serial);
        }
    }

    /// Forgets the container's mount namespace: the kernel soon reuses its number.
    pub(crate) fn clear_mount_namespace(&mut self, serial: Serial, mnt: u32) {
        let Some(known) = self.known.get_mut(&serial).filter(|k| k.mnt == mnt) else { return };
        known.mnt = 0;
        if self.by_mnt.get(&mnt) == Some(&serial) {
            self.by_mnt.remove(&mnt);
        }
    }

    /// Schedules a container that has gone to be forgotten at `when`.
    ///
    /// The removal of its last cgroup comes after all its events, so its mount namespace is free
    /// from here on. A container without cgroups keeps it: a runtime's report overtakes events.
    /// There the exit of the first process frees it.
    pub(crate) fn schedule_forget(&mut self, serial: Serial, when: Duration) {
        if let Some(known) = self.known.get(&serial).filter(|k| !k.former_cgroups.is_empty()) {
            self.clear_mount_namespace(serial, known.mnt);
        }
        if let Some(known) = self.known.get_mut(&serial).filter(|k| k.forget_at.is_none()) {
            known.forget_at = Some(when);
            self.leaving.push_back((when, serial));
        }
    }

    /// Keeps a container that is there after all, or again. One that had gone has a new mount
    /// namespace.
    pub(crate) fn keep(&mut self, serial: Serial) {
        let Some(known) = self.known.get_mut(&serial) else { return };
        let mnt = known.mnt;
        if known.forget_at.take().is_some() {
            self.clear_mount_namespace(serial, mnt);
        }
    }

    /// Forgets and returns a container whose time has come.
    pub(crate) fn sweep(&mut self, now: Duration) -> Option<(Serial, Known)> {
        while let Some(&(when, serial)) = self.leaving.front().filter(|&&(when, _)| when <= now) {
            self.leaving.pop_front();
            // It may have come back, and perhaps gone again.
            if self.known.get(&serial).is_some_and(|k| k.forget_at == Some(when)) {
                return self.forget(serial).map(|known| (serial, known));
            }
        }
        None
    }

    /// Returns when the next sweep is due.
    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.leaving.front().map(|&(when, _)| when)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.known.len() >= self.max
    }

    /// Makes room: forgets and returns the oldest container that has no cgroup and that no runtime
    /// lists.
    pub(crate) fn evict(&mut self) -> Option<Known> {
        let idle = self.known.iter().filter(|(_, k)| k.cgroups.is_empty() && !k.listed);
        let oldest = idle.map(|(&serial, _)| serial).min()?;
        self.forget(oldest)
    }

    /// Whether a container has, or had, this number.
    #[cfg(debug_assertions)]
    pub(crate) fn has_issued(&self, serial: Serial) -> bool {
        serial.0 < self.next
    }

    /// Panics unless
    /// * there are at most `max` containers, each found by its id, and no id finds another,
    /// * each mount namespace and each first process that finds a container is that container's,
    /// * every container that has gone is queued to be forgotten, so that none stays for ever, and
    ///   no container that is present is, and
    /// * no container remembers more former cgroups than the bound.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert!(self.known.len() <= self.max, "{} containers", self.known.len());
        assert_eq!(self.known.len(), self.by_id.len(), "containers and ids");
        for (&mnt, serial) in &self.by_mnt {
            let owner = self.known.get(serial);
            assert!(mnt != 0 && owner.is_some_and(|k| k.mnt == mnt), "mount namespace {mnt}");
        }
        for (&pid, serial) in &self.by_init {
            let owner = self.known.get(serial);
            assert!(owner.is_some_and(|k| k.snapshot.init_pid == Some(pid)), "first process {pid}");
        }
        let queued: rustc_hash::FxHashSet<_> = self.leaving.iter().copied().collect();
        for (&serial, known) in &self.known {
            let id = &known.snapshot.id;
            assert_eq!(self.by_id.get(id), Some(&serial), "{id} by its id");
            assert!(self.has_issued(serial), "{id} has a number that was never given out");
            assert!(known.forget_at.is_none() || !known.present, "{id} is present and leaves");
            let due = known.forget_at.is_none_or(|at| queued.contains(&(at, serial)));
            assert!(due, "{id} has gone and is never forgotten");
            assert!(known.former_cgroups.len() <= MAX_FORMER_CGROUPS, "former cgroups of {id}");
        }
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

/// Returns the newer of two statuses. A report may be older than what is known, so no container
/// goes back to `created`.
pub(crate) fn newer(known: Status, reported: Status) -> Status {
    match (known, reported) {
        (Status::Unknown, reported) => reported,
        (known, Status::Unknown | Status::Created) => known,
        (_, reported) => reported,
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
    fn merged_report_keeps_fields_that_it_lacks() {
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
    fn container_that_comes_back_in_time_is_not_forgotten() {
        let mut all = Containers::new(9);
        let x = all.insert(bare("x"), Naming::Awaited, S(0)).unwrap();
        all.schedule_forget(x, S(5));
        all.keep(x);
        all.schedule_forget(x, S(9));
        assert!(all.sweep(S(8)).is_none());
        assert!(all.sweep(S(9)).is_some());
        assert_eq!((all.len(), all.by_id("x"), all.next_sweep()), (0, None, None));
    }

    #[test]
    fn mount_namespace_passes_to_the_next_container() {
        let mut all = Containers::new(9);
        let x = all.insert(bare("x"), Naming::Awaited, S(0)).unwrap();
        let y = all.insert(bare("y"), Naming::Awaited, S(0)).unwrap();
        all.set_mount_namespace(x, 77);
        all.schedule_forget(x, S(5));
        assert_eq!(all.by_mnt(77), Some(x), "its events may still come");
        all.set_mount_namespace(y, 77);
        all.keep(x);
        all.set_mount_namespace(x, 78); // started again
        all.clear_mount_namespace(x, 77);
        assert_eq!((all.by_mnt(77), all.by_mnt(78)), (Some(y), Some(x)));
        all.clear_mount_namespace(x, 78);
        assert_eq!(all.by_mnt(78), None);
        all.set_mount_namespace(x, 79);
        all.get_mut(x).unwrap().former_cgroups.push(7);
        all.schedule_forget(x, S(5));
        assert_eq!(all.by_mnt(79), None, "its cgroup was removed after its last event");
    }

    #[test]
    fn containers_are_bounded_and_idle_ones_are_evicted() {
        let mut all = Containers::new(1);
        let x = all.insert(bare("x"), Naming::Awaited, S(0)).unwrap();
        all.get_mut(x).unwrap().cgroups.push(7);
        assert!(all.evict().is_none(), "its cgroup is there");
        assert_eq!(all.insert(bare("y"), Naming::Awaited, S(0)), None);
        assert_eq!(all.refused(), 1);
        all.set_mount_namespace(x, 77);
        all.get_mut(x).unwrap().cgroups.clear();
        assert_eq!(all.evict().map(|known| known.snapshot.id.to_string()), Some("x".into()));
        let y = all.insert(bare("y"), Naming::Awaited, S(0)).unwrap();
        assert_ne!(x, y);
        assert_eq!(all.by_mnt(77), None);
    }
}
