//! The pid map: process → common data and container. Owned by the manager alone, so it needs no
//! lock.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{Namespaces, Process, ProcessKey};

use crate::containers::Serial;
use crate::proc::TICK;

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a container.
    Container(Serial),
    /// In none.
    Host,
    /// It cannot be told.
    Unknown,
}

/// User, pid and mount namespace; 0 where not known.
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
    /// Whether nothing says that they are different: what is not known differs from nothing.
    pub(crate) fn agrees(self, other: Self) -> bool {
        let same = |a: u32, b: u32| a == b || a == 0 || b == 0;
        same(self.user, other.user) && same(self.pid, other.pid) && same(self.mnt, other.mnt)
    }
}

/// What is kept of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Nanoseconds since boot; a multiple of [`TICK`] if it comes from `/proc`.
    pub(crate) start_time: u64,
    pub(crate) cgroup: u64,
    pub(crate) parent: u32,
    pub(crate) spaces: Spaces,
    pub(crate) place: Place,
    /// It has ended and is forgotten when its time in `ended` has come.
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

    pub(crate) fn seen(seen: &crate::proc::Seen, place: Place) -> Self {
        Self {
            start_time: seen.key.start_time,
            cgroup: 0,
            parent: seen.parent,
            spaces: seen.namespaces.into(),
            place,
            ended: false,
        }
    }
}

/// Whether two start times of one pid can be the same process's: `/proc` tells them only to the
/// tick.
fn same_start(a: u64, b: u64) -> bool {
    a == b || (a / TICK == b / TICK && (a.is_multiple_of(TICK) || b.is_multiple_of(TICK)))
}

/// The processes that are known. Bounded; an ended one is kept for the grace period.
///
/// The number alone finds the process that has it now; one that had it before, and ended less than
/// the grace period ago, lies apart. So a look-up is one probe, and a reused number never finds
/// another's container.
#[derive(Debug)]
pub(crate) struct Pids {
    now: FxHashMap<u32, Entry>,
    before: FxHashMap<(u32, u64), Entry>,
    ended: VecDeque<(Duration, ProcessKey)>,
    most: usize,
    grace: Duration,
    evicted: u64,
}

impl Pids {
    pub(crate) fn new(most: usize, grace: Duration) -> Self {
        Self {
            now: FxHashMap::default(),
            before: FxHashMap::default(),
            ended: VecDeque::new(),
            most,
            grace,
            evicted: 0,
        }
    }

    /// The process, if it is known. With a start time of 0 the one that has the number now.
    pub(crate) fn get(&self, key: ProcessKey) -> Option<&Entry> {
        let entry = self.now.get(&key.pid)?;
        if key.start_time == 0 || same_start(entry.start_time, key.start_time) {
            return Some(entry);
        }
        self.before.get(&(key.pid, key.start_time))
    }

    /// As [`Pids::get`], to change it.
    pub(crate) fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Entry> {
        let entry = self.now.get_mut(&key.pid)?;
        if key.start_time == 0 || same_start(entry.start_time, key.start_time) {
            return Some(entry);
        }
        self.before.get_mut(&(key.pid, key.start_time))
    }

    /// A process is there. If its number was another's, that one has ended, and is kept for late
    /// events.
    pub(crate) fn insert(&mut self, pid: u32, entry: Entry, now: Duration) {
        if let Some(known) = self.now.get_mut(&pid) {
            if same_start(known.start_time, entry.start_time) {
                let ended = known.ended;
                *known = Entry { ended, ..entry };
            } else if known.start_time < entry.start_time {
                self.displace(pid, entry, now);
            }
            // Else it is news of a process older than the one that has the number: too late to be
            // of use.
        } else if self.len() < self.most || self.evict() {
            self.now.insert(pid, entry);
        } else {
            self.evicted += 1;
        }
    }

    fn displace(&mut self, pid: u32, entry: Entry, now: Duration) {
        self.end(ProcessKey { pid, start_time: 0 }, now);
        if self.len() >= self.most {
            self.evict();
        }
        if let Some(old) = self.now.insert(pid, entry) {
            self.before.insert((pid, old.start_time), old);
        }
    }

    /// The process has ended: kept for the grace period.
    pub(crate) fn end(&mut self, key: ProcessKey, now: Duration) {
        let when = now + self.grace;
        if let Some(entry) = self.get_mut(key).filter(|e| !e.ended) {
            entry.ended = true;
            let key = ProcessKey { pid: key.pid, start_time: entry.start_time };
            self.ended.push_back((when, key));
        }
    }

    /// Forgets what ended longer ago than the grace period.
    pub(crate) fn sweep(&mut self, now: Duration) {
        while self.ended.front().is_some_and(|&(when, _)| when <= now) {
            self.forget_first_ended();
        }
        // A storm leaves big tables behind: give them back.
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

    /// When there is something to sweep.
    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.ended.front().map(|&(when, _)| when)
    }

    pub(crate) fn len(&self) -> usize {
        self.now.len() + self.before.len()
    }

    /// How many were forgotten before their time, or not taken in, for want of room.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Bytes that the tables take.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        // hashbrown keeps a control byte a bucket and fills at most 7 of 8 buckets.
        let table = |capacity: usize, entry: usize| (capacity * 8).div_ceil(7) * (entry + 1);
        table(self.now.capacity(), size_of::<(u32, Entry)>())
            + table(self.before.capacity(), size_of::<((u32, u64), Entry)>())
            + self.ended.capacity() * size_of::<(Duration, ProcessKey)>()
    }

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
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn entry(start_time: u64, place: Place) -> Entry {
        Entry::new(&Process { start_time, ..Process::default() }, place)
    }

    fn place(pids: &Pids, pid: u32, start_time: u64) -> Option<Place> {
        pids.get(ProcessKey { pid, start_time }).map(|e| e.place)
    }

    /// A hash table doubles when seven of its eight places are taken, so right after that it has
    /// more than two for each.
    #[test]
    fn a_process_takes_less_than_200_bytes_where_the_table_has_just_grown() {
        let place = size_of::<(u32, Entry)>() + 1;
        assert!(place * 16 / 7 < 200, "{place} bytes for each of sixteen places that seven have");
    }

    #[test]
    fn a_start_time_from_proc_matches_the_exact_one_and_no_other() {
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
    fn a_reused_number_finds_each_process_by_its_start() {
        let mut pids = Pids::new(10, S(5));
        pids.insert(7, entry(11, Place::Host), S(0));
        pids.insert(7, entry(22, Place::Unknown), S(1));
        assert_eq!(place(&pids, 7, 11), Some(Place::Host));
        assert_eq!(place(&pids, 7, 22), Some(Place::Unknown));
        pids.sweep(S(6)); // the first has ended, at the latest when its number was used again
        assert_eq!(place(&pids, 7, 11), None);
        assert_eq!(place(&pids, 7, 22), Some(Place::Unknown));
        pids.insert(7, entry(11, Place::Host), S(7)); // old news changes nothing
        assert_eq!(place(&pids, 7, 0), Some(Place::Unknown));
    }

    #[test]
    fn an_ended_process_lingers_for_the_grace_period() {
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
    fn no_more_are_kept_than_the_bound_and_what_had_to_go_is_counted() {
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
    fn a_process_costs_less_than_200_bytes_and_a_storm_gives_its_memory_back() {
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
