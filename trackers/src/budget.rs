//! Reads from the kernel what budgets refused, and reports it as events.

use std::collections::HashMap as StdHashMap;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData};
use whalewatch_core::{BudgetEvent, BudgetState, Timestamp};

/// The refused events of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refused {
    /// The count in the kernel's bucket when it was read last.
    bucket: u64,
    /// All refused events.
    total: u64,
    /// The reported ones among them.
    reported: u64,
    /// Whether the last report said that events are being refused.
    active: bool,
}

/// Reports what budgets refused.
#[derive(Debug)]
pub(crate) struct Budgets {
    buckets: HashMap<MapData, u64, [u64; 2]>,
    book: Book,
    interval: Duration,
    reported_at: Instant,
    /// The total of refused events when buckets were read last.
    seen: u64,
    pub(crate) events: u64,
}

impl Budgets {
    pub(crate) fn new(
        buckets: HashMap<MapData, u64, [u64; 2]>,
        events_per_second: u32,
        interval: Duration,
    ) -> Self {
        let book = Book { refused: StdHashMap::new(), events_per_second };
        Self { buckets, book, interval, reported_at: Instant::now(), seen: 0, events: 0 }
    }

    /// Appends the reports that are due. `total` is the number of all refused events so far; `last`
    /// says that there will be no more.
    pub(crate) fn report(&mut self, total: u64, last: bool, out: &mut Vec<BudgetEvent>) {
        let due = last || self.reported_at.elapsed() >= self.interval;
        let changed = total != self.seen;
        let goes_on = due && self.book.is_active();
        if !changed && !goes_on {
            return;
        }
        if changed {
            self.seen = total;
            self.read();
        }
        let before = out.len();
        self.book.report(due, last, out);
        if due {
            self.reported_at = Instant::now();
        }
        self.events += (out.len() - before) as u64;
    }

    fn read(&mut self) {
        for (cgroup, [_, refused]) in self.buckets.iter().flatten() {
            if refused > 0 {
                self.book.enter(cgroup, refused);
            }
        }
    }

    /// Refused events by cgroup.
    pub(crate) fn by_cgroup(&self) -> StdHashMap<u64, u64> {
        self.book.refused.iter().map(|(&cgroup, refused)| (cgroup, refused.total)).collect()
    }
}

/// Refused and reported events by cgroup.
#[derive(Debug)]
struct Book {
    refused: StdHashMap<u64, Refused>,
    events_per_second: u32,
}

impl Book {
    /// Enters the count of a cgroup's bucket.
    fn enter(&mut self, cgroup: u64, bucket: u64) {
        let refused = self.refused.entry(cgroup).or_default();
        // A lower count means that the kernel evicted the bucket and started a new one.
        let new = bucket.checked_sub(refused.bucket).unwrap_or(bucket);
        refused.total += new;
        refused.bucket = bucket;
    }

    fn is_active(&self) -> bool {
        self.refused.values().any(|refused| refused.active)
    }

    fn report(&mut self, due: bool, last: bool, out: &mut Vec<BudgetEvent>) {
        let time = Timestamp::now();
        for (&cgroup, refused) in &mut self.refused {
            let new = refused.total - refused.reported;
            let state = match (refused.active, new > 0) {
                (false, true) => BudgetState::Exceeded,
                (true, true) if due && !last => BudgetState::Refused,
                (true, _) if due => BudgetState::Ended,
                _ => continue,
            };
            refused.active = state != BudgetState::Ended;
            refused.reported = refused.total;
            let event = |state, new| BudgetEvent {
                state,
                time,
                cgroup,
                refused: new,
                refused_total: refused.total,
                events_per_second: self.events_per_second,
            };
            out.push(event(state, new));
            if last && refused.active {
                refused.active = false;
                out.push(event(BudgetState::Ended, 0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(book: &mut Book, due: bool, last: bool) -> Vec<(BudgetState, u64)> {
        let mut out = Vec::new();
        book.report(due, last, &mut out);
        out.iter().map(|event| (event.state, event.refused)).collect()
    }

    #[test]
    fn reports_of_a_flood_add_up() {
        let mut book = Book { refused: StdHashMap::new(), events_per_second: 10 };
        assert_eq!(reports(&mut book, true, false), []);
        book.enter(7, 5);
        assert_eq!(reports(&mut book, false, false), [(BudgetState::Exceeded, 5)]);
        book.enter(7, 9);
        assert_eq!(reports(&mut book, false, false), []);
        assert_eq!(reports(&mut book, true, false), [(BudgetState::Refused, 4)]);
        book.enter(7, 10);
        assert_eq!(reports(&mut book, true, false), [(BudgetState::Refused, 1)]);
        assert_eq!(reports(&mut book, true, false), [(BudgetState::Ended, 0)]);
        assert_eq!(reports(&mut book, true, false), []);
        book.enter(7, 12);
        let last = [(BudgetState::Exceeded, 2), (BudgetState::Ended, 0)];
        assert_eq!(reports(&mut book, true, true), last);
    }

    #[test]
    fn a_new_bucket_adds_to_the_old_count() {
        let mut book = Book { refused: StdHashMap::new(), events_per_second: 10 };
        book.enter(7, 5);
        book.enter(7, 2);
        assert_eq!(reports(&mut book, false, false), [(BudgetState::Exceeded, 7)]);
    }
}
