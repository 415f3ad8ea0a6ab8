//! Records in flight: sent, but not answered.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;

/// The records in flight, in order.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    sent: VecDeque<Sent>,
    /// The number of records in `sent` that are answered, although an earlier one is not.
    ahead: usize,
    /// Places of records that were answered on an earlier connection or given up, while an earlier
    /// record was not answered.
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

    /// Returns when the oldest record in flight was sent.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.sent.front().map(|first| first.at)
    }

    /// Returns whether a record was answered before an earlier one. Then the earlier one was lost
    /// on its way to the stream.
    pub(crate) fn has_hole(&self) -> bool {
        self.ahead > 0
    }

    /// Adds a record that was sent. Its place is higher than those of all earlier records.
    pub(crate) fn sent(&mut self, place: u64, at: Instant) {
        self.sent.push_back(Sent { place, at, answered: false });
    }

    /// Marks a record as answered. Returns whether it was in flight without an answer.
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

    /// Returns whether a record is finished already, so that it must not be sent again.
    pub(crate) fn is_known(&self, place: u64) -> bool {
        self.known.contains(&place)
    }

    /// Marks the records of a range as finished, although they were not sent.
    pub(crate) fn give_up(&mut self, from: u64, to: u64) {
        self.known.extend(from..to);
    }

    /// Returns how many records of a range are finished already.
    pub(crate) fn known_in(&self, from: u64, to: u64) -> u64 {
        self.known.range(from..to.max(from)).count() as u64
    }

    /// Returns the place before which every record is settled, if all records before `next` were
    /// sent. Forgets the finished records before that place.
    pub(crate) fn settle(&mut self, next: u64) -> u64 {
        let place = self.sent.front().map_or(next, |first| first.place);
        while self.known.first().is_some_and(|known| *known < place) {
            self.known.pop_first();
        }
        place
    }

    /// Clears the flight after a connection broke: unanswered records are sent again, except those
    /// before `first`, which no longer exist. Returns the places of the latter.
    pub(crate) fn disconnect(&mut self, first: u64) -> Vec<u64> {
        let mut lost = Vec::new();
        for sent in self.sent.drain(..) {
            if sent.answered {
                self.known.insert(sent.place);
            } else if sent.place < first {
                lost.push(sent.place);
            }
        }
        self.ahead = 0;
        self.known = self.known.split_off(&first);
        lost
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
    fn settle_stops_at_the_first_record_without_an_answer() {
        let mut flight = flight(3..7);
        assert_eq!(flight.settle(7), 3);
        assert!(flight.answered(4) && flight.has_hole());
        assert_eq!(flight.settle(7), 3);
        assert!(flight.answered(3) && !flight.has_hole());
        assert_eq!(flight.settle(7), 5);
        assert!(!flight.answered(4), "a record is counted once");
        assert!(!flight.answered(99));
        assert!(flight.answered(5) && flight.answered(6));
        assert_eq!((flight.settle(7), flight.len()), (7, 0));
    }

    #[test]
    fn answered_records_are_not_sent_again_after_a_disconnect() {
        let mut flight = flight(0..6);
        for place in [2, 4] {
            flight.answered(place);
        }
        assert_eq!(flight.known_in(0, 6), 0);
        assert_eq!(flight.disconnect(2), [0, 1]);
        assert_eq!((flight.len(), flight.has_hole()), (0, false));
        assert_eq!(flight.known_in(0, 6), 2);
        assert!(flight.is_known(2) && !flight.is_known(3) && flight.is_known(4));
        // The same holds after another disconnect, while an earlier record has no answer.
        flight.give_up(5, 7);
        flight.sent(3, Instant::now());
        assert_eq!(flight.settle(7), 3);
        assert_eq!(flight.disconnect(0), [0; 0]);
        assert!(!flight.is_known(2) && flight.is_known(4) && flight.is_known(6));
        assert_eq!(flight.settle(7), 7);
        assert_eq!(flight.known_in(0, 10), 0);
    }
}
