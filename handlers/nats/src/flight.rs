//! What is on its way: sent, and not answered.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;

/// Records that are on their way, in their order.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    sent: VecDeque<Sent>,
    /// How many of them are answered: they stand behind one that is not.
    ahead: usize,
    /// Places of records that were answered on an earlier connection, or given up, while one before
    /// them was not.
    known: BTreeSet<u64>,
}

#[derive(Debug)]
struct Sent {
    place: u64,
    at: Instant,
    answered: bool,
}

impl Flight {
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Since when the first one is on its way.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.sent.front().map(|first| first.at)
    }

    /// Whether a later one was answered before an earlier one: something was lost between here and
    /// the stream.
    pub(crate) fn has_hole(&self) -> bool {
        self.ahead > 0
    }

    /// A record was sent. Places rise.
    pub(crate) fn sent(&mut self, place: u64, at: Instant) {
        self.sent.push_back(Sent { place, at, answered: false });
    }

    /// A record was answered. Whether it was on its way without an answer until now.
    pub(crate) fn answered(&mut self, place: u64) -> bool {
        let Ok(index) = self.sent.binary_search_by_key(&place, |sent| sent.place) else {
            return false;
        };
        if std::mem::replace(&mut self.sent[index].answered, true) {
            return false;
        }
        self.ahead += 1;
        while self.sent.front().is_some_and(|first| first.answered) {
            self.sent.pop_front();
            self.ahead -= 1;
        }
        true
    }

    /// Whether a record is done with already, and so is not sent again.
    pub(crate) fn is_known(&self, place: u64) -> bool {
        self.known.contains(&place)
    }

    /// Records of a range are done with, without having been sent.
    pub(crate) fn give_up(&mut self, from: u64, to: u64) {
        self.known.extend(from..to);
    }

    /// How many records of a range are done with already.
    pub(crate) fn known_in(&self, from: u64, to: u64) -> u64 {
        self.known.range(from..to.max(from)).count() as u64
    }

    /// The place before which all is settled, if records up to before `next` were sent. What is
    /// known of those is forgotten.
    pub(crate) fn settle(&mut self, next: u64) -> u64 {
        let place = self.sent.front().map_or(next, |first| first.place);
        while self.known.first().is_some_and(|known| *known < place) {
            self.known.pop_first();
        }
        place
    }

    /// The connection is gone; what has no answer is sent again, except what stands before `there`:
    /// the number of these.
    pub(crate) fn break_off(&mut self, there: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        for sent in self.sent.drain(..) {
            if sent.answered {
                self.known.insert(sent.place);
            } else if sent.place < there {
                gone.push(sent.place);
            }
        }
        self.ahead = 0;
        self.known = self.known.split_off(&there);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(places: impl IntoIterator<Item = u64>) -> Flight {
        let mut flight = Flight::default();
        places.into_iter().for_each(|place| flight.sent(place, Instant::now()));
        flight
    }

    #[test]
    fn all_before_the_first_without_an_answer_is_settled() {
        let mut flight = flight(3..7);
        assert_eq!(flight.settle(7), 3);
        assert!(flight.answered(4) && flight.has_hole());
        assert_eq!(flight.settle(7), 3);
        assert!(flight.answered(3) && !flight.has_hole());
        assert_eq!(flight.settle(7), 5);
        assert!(!flight.answered(4), "each is counted once");
        assert!(!flight.answered(99));
        assert!(flight.answered(5) && flight.answered(6));
        assert_eq!((flight.settle(7), flight.len()), (7, 0));
    }

    #[test]
    fn what_was_answered_is_not_sent_again_on_the_next_connection() {
        let mut flight = flight(0..6);
        for place in [2, 4] {
            flight.answered(place);
        }
        assert_eq!(flight.known_in(0, 6), 0);
        assert_eq!(flight.break_off(2), [0, 1]);
        assert_eq!((flight.len(), flight.has_hole()), (0, false));
        assert_eq!(flight.known_in(0, 6), 2);
        assert!(flight.is_known(2) && !flight.is_known(3) && flight.is_known(4));
        // Nor on the one after that, as long as one before it has no answer.
        flight.give_up(5, 7);
        flight.sent(3, Instant::now());
        assert_eq!(flight.settle(7), 3);
        assert_eq!(flight.break_off(0), [0; 0]);
        assert!(!flight.is_known(2) && flight.is_known(4) && flight.is_known(6));
        assert_eq!(flight.settle(7), 7);
        assert_eq!(flight.known_in(0, 10), 0);
    }
}
