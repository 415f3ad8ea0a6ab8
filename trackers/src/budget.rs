//! What budgets refused, read from the kernel and told as events.

use std::collections::HashMap as StdHashMap;
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData};
use whalewatch_core::{BudgetEvent, BudgetState, Timestamp};

/// A cgroup's refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refused {
    /// What the kernel's bucket said last.
    bucket: u64,
    /// All of them.
    total: u64,
    /// Those that have been told.
    told: u64,
    /// Whether it was said that events are refused, and not yet that it is over.
    active: bool,
}

/// Tells what budgets refused.
#[derive(Debug)]
pub(crate) struct Budgets {
    buckets: HashMap<MapData, u64, [u64; 2]>,
    book: Book,
    interval: Duration,
    told_at: Instant,
    /// All that was refused when buckets were read last.
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
        Self { buckets, book, interval, told_at: Instant::now(), seen: 0, events: 0 }
    }

    /// Appends what there is to tell. `total`: all that was refused by now; `last`: nothing more
    /// will be.
    pub(crate) fn tell(&mut self, total: u64, last: bool, out: &mut Vec<BudgetEvent>) {
        let due = last || self.told_at.elapsed() >= self.interval;
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
        self.book.tell(due, last, out);
        if due {
            self.told_at = Instant::now();
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

    /// What was refused, by cgroup.
    pub(crate) fn by_cgroup(&self) -> StdHashMap<u64, u64> {
        self.book.refused.iter().map(|(&cgroup, refused)| (cgroup, refused.total)).collect()
    }
}

/// What is known of refusals, by cgroup.
#[derive(Debug)]
struct Book {
    refused: StdHashMap<u64, Refused>,
    events_per_second: u32,
}

impl Book {
    /// Takes in what a bucket says.
    fn enter(&mut self, cgroup: u64, bucket: u64) {
        let refused = self.refused.entry(cgroup).or_default();
        // The kernel may have made room for others, and begun anew with this one.
        let news = bucket.checked_sub(refused.bucket).unwrap_or(bucket);
        refused.total += news;
        refused.bucket = bucket;
    }

    fn is_active(&self) -> bool {
        self.refused.values().any(|refused| refused.active)
    }

    fn tell(&mut self, due: bool, last: bool, out: &mut Vec<BudgetEvent>) {
        let time = Timestamp::now();
        for (&cgroup, refused) in &mut self.refused {
            let news = refused.total - refused.told;
            let state = match (refused.active, news > 0) {
                (false, true) => BudgetState::Exceeded,
                (true, true) if due && !last => BudgetState::Refused,
                (true, _) if due => BudgetState::Ended,
                _ => continue,
            };
            refused.active = state != BudgetState::Ended;
            refused.told = refused.total;
            let event = |state, news| BudgetEvent {
                state,
                time,
                cgroup,
                refused: news,
                refused_total: refused.total,
                events_per_second: self.events_per_second,
            };
            out.push(event(state, news));
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

    fn told(book: &mut Book, due: bool, last: bool) -> Vec<(BudgetState, u64)> {
        let mut out = Vec::new();
        book.tell(due, last, &mut out);
        out.iter().map(|event| (event.state, event.refused)).collect()
    }

    #[test]
    fn a_flood_has_a_beginning_a_middle_and_an_end_that_add_up() {
        let mut book = Book { refused: StdHashMap::new(), events_per_second: 10 };
        assert_eq!(told(&mut book, true, false), []);
        book.enter(7, 5);
        assert_eq!(told(&mut book, false, false), [(BudgetState::Exceeded, 5)]);
        book.enter(7, 9);
        assert_eq!(told(&mut book, false, false), []);
        assert_eq!(told(&mut book, true, false), [(BudgetState::Refused, 4)]);
        book.enter(7, 10);
        assert_eq!(told(&mut book, true, false), [(BudgetState::Refused, 1)]);
        assert_eq!(told(&mut book, true, false), [(BudgetState::Ended, 0)]);
        assert_eq!(told(&mut book, true, false), []);
        book.enter(7, 12);
        let last = [(BudgetState::Exceeded, 2), (BudgetState::Ended, 0)];
        assert_eq!(told(&mut book, true, true), last);
    }

    #[test]
    fn a_bucket_that_began_anew_goes_on_where_it_was() {
        let mut book = Book { refused: StdHashMap::new(), events_per_second: 10 };
        book.enter(7, 5);
        book.enter(7, 2);
        assert_eq!(told(&mut book, false, false), [(BudgetState::Exceeded, 7)]);
    }
}
