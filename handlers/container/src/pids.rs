//! The pid map: process → where it is. The manager alone owns it, so it needs no lock.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{Namespaces, Process, ProcessKey};

use crate::containers::Serial;
use crate::proc::{ProcEntry, TICK};

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a container.
    Container(Serial),
    /// On the host: in no container.
    Host,
    /// There is no evidence.
    Unknown,
}

/// Inode numbers of a process's user, pid and mount namespace; 0 for one that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spaces {
    pub(crate) user: u32,
    pub(crate) pid: u32,
    pub(crate) mnt: u32,
}

impl From<Namespaces> for Spaces {
    fn from(ns: Namespaces) -> Self {
        Self { user: ns.user, pid: ns.pid, mnt: ns.mnt }
    }
}

impl Spaces {
    /// Whether no known namespace differs. An unknown one agrees with any.
    pub(crate) fn agrees(self, other: Self) -> bool {
        let same = |a: u32, b: u32| a == b || a == 0 || b == 0;
        same(self.user, other.user) && same(self.pid, other.pid) && same(self.mnt, other.mnt)
    }
}

/// What the map knows about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Start time in nanoseconds since boot; rounded down to a [`TICK`] if it comes from `/proc`.
    pub(crate) start_time: u64,
    pub(crate) cgroup: u64,
    pub(crate) parent: u32,
    pub(crate) spaces: Spaces,
    pub(crate) place: Place,
    /// Whether it has ended. Then the queue `ended` has the time to forget it.
    ended: bool,
}

impl Entry {
    pub(crate) fn new(process: &Process, place: Place) -> Self {
        Self {
            start_time: process.start_time,
            cgroup: process.cgroup_id,
            parent: process.parent_pid,
            spaces: process.namespaces.into(),
            place,
            ended: false,
        }
    }

    pub(crate) fn from_proc(process: &ProcEntry, place: Place) -> Self {
        Self {
            start_time: process.key.start_time,
            cgroup: 0,
            parent: process.parent,
            spaces: process.namespaces.into(),
            place,
            ended: false,
        }
    }
}

/// Whether two start times of one pid may belong to the same process: `/proc` has them to the tick
/// only.
fn same_start(a: u64, b: u64) -> bool {
    a == b || (a / TICK == b / TICK && (a.is_multiple_of(TICK) || b.is_multiple_of(TICK)))
}

/// The known processes. At most `max`; an ended one stays for the grace period.
///
/// `now` has the process that has a pid now, `before` those that had it before and ended within the
/// grace period. So a lookup is one probe in the usual case, and a reused pid never finds the wrong
/// container.
#[derive(Debug)]
pub(crate) struct Pids {
    now: FxHashMap<u32, Entry>,
    before: FxHashMap<(u32, u64), Entry>,
    ended: VecDeque<(Duration, ProcessKey)>,
    max: usize,
    grace: Duration,
    evicted: u64,
}

impl Pids {
    pub(crate) fn new(max: usize, grace: Duration) -> Self {
        Self {
            now: FxHashMap::default(),
            before: FxHashMap::default(),
            ended: VecDeque::new(),
            max,
            grace,
            evicted: 0,
        }
    }

    /// Returns a process. A start time of 0 stands for the process that has the pid now.
    pub(crate) fn get(&self, key: ProcessKey) -> Option<&Entry> {
        let entry = self.now.get(&key.pid)?;
        if key.start_time == 0 || same_start(entry.start_time, key.start_time) {
            return Some(entry);
        }
        self.before.get(&(key.pid, key.start_time))
    }

    /// As [`Pids::get`], for changes.
    pub(crate) fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Entry> {
        let entry = self.now.get_mut(&key.pid)?;
        if key.start_time == 0 || same_start(entry.start_time, key.start_time) {
            return Some(entry);
        }
        self.before.get_mut(&(key.pid, key.start_time))
    }

    /// Adds or updates a process. If another process had its pid, that one has ended; it stays for
    /// late events.
    pub(crate) fn insert(&mut self, pid: u32, entry: Entry, now: Duration) {
        if let Some(known) = self.now.get_mut(&pid) {
            if same_start(known.start_time, entry.start_time) {
                // The queue of ended processes knows this one by its start time; and an exact one
                // is better than one to the tick.
                let keep = known.ended || entry.start_time.is_multiple_of(TICK);
                let start_time = if keep { known.start_time } else { entry.start_time };
                *known = Entry { start_time, ended: known.ended, ..entry };
            } else if known.start_time < entry.start_time {
                self.displace(pid, entry, now);
            }
            // Else the pid belongs to a younger process already: this report comes too late.
        } else if self.len() < self.max || self.evict() {
            self.now.insert(pid, entry);
        } else {
            self.evicted += 1;
        }
    }

    fn displace(&mut self, pid: u32, entry: Entry, now: Duration) {
        self.end(ProcessKey { pid, start_time: 0 }, now);
        if self.len() >= self.max {
            self.evict();
        }
        if let Some(old) = self.now.insert(pid, entry) {
            self.before.insert((pid, old.start_time), old);
        }
    }

    /// Marks a process as ended.
    pub(crate) fn end(&mut self, key: ProcessKey, now: Duration) {
        let when = now + self.grace;
        if let Some(entry) = self.get_mut(key).filter(|e| !e.ended) {
            entry.ended = true;
            let key = ProcessKey { pid: key.pid, start_time: entry.start_time };
            self.ended.push_back((when, key));
        }
    }

    /// Forgets the processes whose grace period is over.
    pub(crate) fn sweep(&mut self, now: Duration) {
        while self.ended.front().is_some_and(|&(when, _)| when <= now) {
            self.forget_first_ended();
        }
        // A fork storm leaves large tables behind: shrink them.
        if self.now.capacity() > 4 * self.now.len().max(1024) {
            self.now.shrink_to(2 * self.now.len());
        }
        if self.before.is_empty() {
            self.before.shrink_to_fit();
        }
        if self.ended.capacity() > 4 * self.ended.len().max(1024) {
            self.ended.shrink_to(2 * self.ended.len());
        }
    }

    /// Returns when the next sweep is due.
    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.ended.front().map(|&(when, _)| when)
    }

    pub(crate) fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }

    /// Returns how many processes were forgotten early, or not added, because the map was full.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Returns the size of the tables in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        // hashbrown has a control byte for each bucket and fills at most 7 of 8 buckets.
        let table = |capacity: usize, entry: usize| (capacity * 8).div_ceil(7) * (entry + 1);
        table(self.now.capacity(), size_of::<(u32, Entry)>())
            + table(self.before.capacity(), size_of::<((u32, u64), Entry)>())
            + self.ended.capacity() * size_of::<(Duration, ProcessKey)>()
    }

    /// Panics unless
    /// * there are at most `max` processes,
    /// * every process that lost its number has ended, and
    /// * the queue has each ended process exactly once, so that none stays for ever.
    #[cfg(debug_assertions)]
    pub(crate) fn check_invariants(&self) {
        assert!(self.len() <= self.max, "{} processes", self.len());
        assert!(self.before.values().all(|entry| entry.ended), "a lost number without an end");
        let current = self.now.iter().map(|(&pid, entry)| (pid, entry));
        let former = self.before.iter().map(|(&(pid, _), entry)| (pid, entry));
        let mut ended: Vec<(u32, u64)> = current
            .chain(former)
            .filter(|(_, entry)| entry.ended)
            .map(|(pid, entry)| (pid, entry.start_time))
            .collect();
        let queue = self.ended.iter().map(|(_, key)| (key.pid, key.start_time));
        let mut queue: Vec<(u32, u64)> = queue.collect();
        ended.sort_unstable();
        queue.sort_unstable();
        assert_eq!(ended, queue, "ended processes, and the queue to forget them");
    }

    /// Returns where each process is.
    #[cfg(debug_assertions)]
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.now.values().chain(self.before.values()).map(|entry| entry.place)
    }

    /// Makes room: forgets the process that ended first. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let there_was = self.forget_first_ended();
        self.evicted += u64::from(there_was);
        there_was
    }

    fn forget_first_ended(&mut self) -> bool {
        while let Some((_, key)) = self.ended.pop_front() {
            let is_it = |e: &Entry| e.ended && e.start_time == key.start_time;
            if self.now.get(&key.pid).is_some_and(is_it) {
                self.now.remove(&key.pid);
                return true;
            }
            if self.before.remove(&(key.pid, key.start_time)).is_some() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn entry(start_time: u64, place: Place) -> Entry {
        Entry::new(&Process { start_time, ..Process::default() }, place)
    }

    fn place(pids: &Pids, pid: u32, start_time: u64) -> Option<Place> {
        pids.get(ProcessKey { pid, start_time }).map(|e| e.place)
    }

    /// A hash table doubles when seven of eight buckets are taken, so right after that it has 16
    /// buckets for seven entries.
    #[test]
    fn process_takes_less_than_200_bytes_in_a_grown_table() {
        let place = size_of::<(u32, Entry)>() + 1;
        assert!(place * 16 / 7 < 200, "{place} bytes a bucket, 16 buckets for 7 entries");
    }

    #[test]
    fn start_time_from_proc_matches_the_exact_one_and_no_other() {
        let mut pids = Pids::new(10, S(5));
        pids.insert(7, entry(50_000_000, Place::Host), S(0)); // from /proc
        assert_eq!(place(&pids, 7, 51_234_567), Some(Place::Host));
        assert_eq!(place(&pids, 7, 60_000_001), None);
        pids.insert(7, entry(51_234_567, Place::Unknown), S(0)); // the exact one replaces it
        assert_eq!(pids.len(), 1);
        assert_eq!(place(&pids, 7, 50_000_000), Some(Place::Unknown));
        assert_eq!(place(&pids, 7, 51_234_568), None); // exact times differ: another process
        assert_eq!(place(&pids, 7, 0), Some(Place::Unknown));
    }

    #[test]
    fn reused_pid_finds_each_process_by_its_start() {
        let mut pids = Pids::new(10, S(5));
        pids.insert(7, entry(11, Place::Host), S(0));
        pids.insert(7, entry(22, Place::Unknown), S(1));
        assert_eq!(place(&pids, 7, 11), Some(Place::Host));
        assert_eq!(place(&pids, 7, 22), Some(Place::Unknown));
        pids.sweep(S(6)); // the first has ended, at the latest when its pid was reused
        assert_eq!(place(&pids, 7, 11), None);
        assert_eq!(place(&pids, 7, 22), Some(Place::Unknown));
        pids.insert(7, entry(11, Place::Host), S(7)); // an old report changes nothing
        assert_eq!(place(&pids, 7, 0), Some(Place::Unknown));
    }

    #[test]
    fn ended_process_stays_for_the_grace_period() {
        let mut pids = Pids::new(10, S(5));
        pids.insert(7, entry(11, Place::Host), S(0));
        pids.end(ProcessKey { pid: 7, start_time: 11 }, S(1));
        pids.end(ProcessKey { pid: 7, start_time: 11 }, S(3)); // twice is once
        pids.sweep(S(5));
        assert_eq!(place(&pids, 7, 11), Some(Place::Host));
        pids.sweep(S(6));
        assert_eq!((pids.len(), pids.next_sweep()), (0, None));
    }

    #[test]
    fn ended_process_is_forgotten_though_its_exact_start_comes_late() {
        let mut pids = Pids::new(10, S(5));
        pids.insert(7, entry(50_000_000, Place::Host), S(0)); // from /proc, to the tick
        pids.end(ProcessKey { pid: 7, start_time: 51_234_567 }, S(1));
        pids.insert(7, entry(51_234_567, Place::Host), S(1));
        pids.sweep(S(6));
        assert_eq!((pids.len(), pids.next_sweep()), (0, None));
    }

    #[test]
    fn exact_start_is_not_replaced_by_one_to_the_tick() {
        let mut pids = Pids::new(10, S(5));
        pids.insert(7, entry(51_234_567, Place::Host), S(0));
        // The pid is reused within the tick, and then the second process is read from /proc.
        pids.insert(7, entry(52_345_678, Place::Unknown), S(0));
        pids.insert(7, entry(50_000_000, Place::Unknown), S(0));
        assert_eq!(place(&pids, 7, 51_234_567), Some(Place::Host));
        pids.check_invariants();
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u64),
        End(u32, u64),
        Sweep,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Few pids and start times, some of them to the tick: numbers are reused all the time.
        let start = prop_oneof![Just(0), Just(TICK), Just(TICK + 1), Just(2 * TICK), 1..4 * TICK];
        prop_oneof![
            5 => (1..4_u32, start.clone()).prop_map(|(pid, start)| Step::Insert(pid, start)),
            3 => (1..4_u32, start).prop_map(|(pid, start)| Step::End(pid, start)),
            1 => Just(Step::Sweep),
        ]
    }

    proptest! {
        #[test]
        fn invariants_hold_whatever_happens(steps in prop::collection::vec(step(), 0..80)) {
            let mut pids = Pids::new(4, S(5));
            for (second, step) in (0..).zip(steps) {
                match step {
                    Step::Insert(pid, start) => {
                        pids.insert(pid, entry(start, Place::Host), S(second));
                    }
                    Step::End(pid, start_time) => {
                        pids.end(ProcessKey { pid, start_time }, S(second));
                    }
                    Step::Sweep => pids.sweep(S(second)),
                }
                pids.check_invariants();
            }
            for pid in 1..4 {
                pids.end(ProcessKey { pid, start_time: 0 }, S(100));
            }
            pids.sweep(S(200));
            prop_assert_eq!(pids.len(), 0);
        }
    }

    #[test]
    fn processes_are_bounded_and_evictions_counted() {
        let mut pids = Pids::new(2, S(5));
        for pid in 1..=3 {
            pids.insert(pid, entry(11, Place::Host), S(0));
        }
        assert_eq!((pids.len(), pids.evicted()), (2, 1)); // no room for the third
        pids.end(ProcessKey { pid: 1, start_time: 11 }, S(0));
        pids.insert(3, entry(11, Place::Host), S(0));
        assert_eq!((pids.len(), pids.evicted()), (2, 2)); // the ended one made room
        assert_eq!(place(&pids, 1, 11), None);
    }

    #[test]
    fn memory_is_returned_after_a_fork_storm() {
        let mut pids = Pids::new(1 << 21, S(5));
        let (mut worst, count) = (0, 300_000);
        for pid in 0..count {
            pids.insert(pid, entry(u64::from(pid) + 1, Place::Host), S(0));
            if pid > 10_000 {
                worst = worst.max(pids.bytes() / pids.len());
            }
        }
        assert!(worst < 200, "{worst} bytes a process");
        for pid in 0..count {
            pids.end(ProcessKey { pid, start_time: 0 }, S(1));
        }
        assert!(pids.bytes() / pids.len() < 200, "{} bytes", pids.bytes() / pids.len());
        pids.sweep(S(10));
        assert!(pids.bytes() < 500_000, "{} bytes", pids.bytes());
    }
}
