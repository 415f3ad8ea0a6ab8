//! The one ordered log that every event goes through, from when it is taken until it is settled:
//! acknowledged, or dropped.
//!
//! With a spool each chunk is written to it first. Chunks are also kept in memory until they are
//! settled, as far as there is room, so while a server keeps up nothing is ever read back. Who
//! reads has a place in the order and takes each record from memory if it is there, else from the
//! spool.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::options::WhenFull;
use crate::record::{self, Record};
use crate::spool::{Chunk, Read, Spool};

/// What became of records that were appended, and of older ones in their favour.
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// Records not taken.
    pub(crate) refused: u64,
    /// Places of records that were given up: those before it, from [`Log::settled`] on, as far as
    /// they were not sent.
    pub(crate) given_up: Option<(u64, u64)>,
    /// Why the spool could not be written to.
    pub(crate) error: Option<io::Error>,
}

/// See the module's text. Records are numbered by their place, from 0 at each start.
#[derive(Debug)]
pub(crate) struct Log {
    memory: VecDeque<Chunk>,
    in_memory: usize,
    most_in_memory: usize,
    spool: Option<Spool>,
    when_full: WhenFull,
    /// Place of the first record that is not settled.
    settled: u64,
    /// Place of the record that is read next.
    next: u64,
    /// Place behind the last record.
    end: u64,
    reading: Option<Reading>,
    /// Where the end was when [`Log::tick`] came last.
    at_tick: u64,
}

/// A chunk that is being read.
#[derive(Debug)]
struct Reading {
    chunk: Chunk,
    /// Place of the record that begins at `offset`.
    place: u64,
    offset: usize,
}

/// A record to be sent, or a place from which on there is damage.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Record(u64, Record),
    /// Records from the first to before the second place are gone.
    Damage(u64, u64),
}

impl Log {
    /// A log that keeps so much in memory; with a spool, of which records before `settled` are
    /// settled.
    pub(crate) fn new(
        most_in_memory: usize,
        spool: Option<Spool>,
        settled: u64,
        when_full: WhenFull,
    ) -> Self {
        let end = spool.as_ref().map_or(0, Spool::end);
        Self {
            memory: VecDeque::new(),
            in_memory: 0,
            most_in_memory,
            spool,
            when_full,
            settled,
            next: settled,
            end,
            reading: None,
            at_tick: end,
        }
    }

    /// Whether there is room. A spool always finds some, or says what it refused.
    pub(crate) fn has_room(&self) -> bool {
        self.spool.is_some() || self.in_memory < self.most_in_memory
    }

    pub(crate) fn has_spool(&self) -> bool {
        self.spool.is_some()
    }

    pub(crate) fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }

    pub(crate) fn next_place(&self) -> u64 {
        self.next
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Takes so many records.
    pub(crate) fn append(&mut self, bytes: Bytes, count: u64) -> Appended {
        let mut appended = Appended::default();
        if let Some(spool) = &mut self.spool {
            while !spool.fits(bytes.len()) {
                let may_remove = self.when_full == WhenFull::DropOldest;
                let Some(place) = may_remove.then(|| spool.remove_oldest()).flatten() else {
                    return Appended { refused: count, ..appended };
                };
                let from = appended.given_up.map_or(self.next, |(from, _)| from);
                if place > self.next {
                    appended.given_up = Some((from, place));
                    self.next = place;
                    self.reading = None;
                }
            }
            if let Err(error) = spool.append(&bytes, count) {
                return Appended { refused: count, error: Some(error), ..appended };
            }
        }
        self.keep(Chunk { first: self.end, count, bytes });
        self.end += count;
        appended
    }

    /// Keeps a chunk in memory, if it is to be read next or stands behind one that is there, and
    /// there is room.
    fn keep(&mut self, chunk: Chunk) {
        let follows = match self.memory.back() {
            Some(last) => last.end() == chunk.first,
            None => self.next == chunk.first,
        };
        let room = self.in_memory + chunk.bytes.len() <= self.most_in_memory;
        if self.spool.is_none() || (follows && room) {
            self.in_memory += chunk.bytes.len();
            self.memory.push_back(chunk);
        }
    }

    /// The next record. `None` at the end.
    pub(crate) fn read(&mut self) -> Option<Next> {
        if self.next >= self.end {
            return None;
        }
        if self.reading.as_ref().is_none_or(|r| r.place != self.next || r.place >= r.chunk.end()) {
            match self.find(self.next)? {
                Read::Chunk(chunk) => self.start(chunk),
                Read::Damage(to) => return Some(self.damage(to)),
            }
        }
        let reading = self.reading.as_mut()?;
        let Some((record, offset)) = record::take(&reading.chunk.bytes, reading.offset) else {
            let end = reading.chunk.end();
            return Some(self.damage(end));
        };
        let place = reading.place;
        (reading.place, reading.offset) = (place + 1, offset);
        self.next = place + 1;
        Some(Next::Record(place, record))
    }

    fn damage(&mut self, to: u64) -> Next {
        let from = std::mem::replace(&mut self.next, to);
        self.reading = None;
        Next::Damage(from, to)
    }

    fn find(&mut self, place: u64) -> Option<Read> {
        let at = self.memory.partition_point(|chunk| chunk.end() <= place);
        if let Some(chunk) = self.memory.get(at)
            && chunk.first <= place
        {
            return Some(Read::Chunk(chunk.clone()));
        }
        self.spool.as_mut()?.read(place)
    }

    /// Begins to read a chunk, at the record that is next.
    fn start(&mut self, chunk: Chunk) {
        let (mut place, mut offset) = (chunk.first, 0);
        while place < self.next {
            let Some((_, next)) = record::take(&chunk.bytes, offset) else { break };
            (place, offset) = (place + 1, next);
        }
        self.reading = Some(Reading { chunk, place, offset });
    }

    /// Reads again from the first record that is not settled and still there; says what is not
    /// there any more, if something was given up meanwhile.
    pub(crate) fn rewind(&mut self) -> Option<(u64, u64)> {
        let there = match (&self.spool, self.memory.front()) {
            (Some(spool), _) => spool.first().max(self.settled),
            (None, Some(chunk)) => chunk.first.max(self.settled),
            (None, None) => self.settled,
        };
        let gone = (there > self.settled).then_some((self.settled, there));
        self.next = there;
        self.reading = None;
        gone
    }

    /// Everything before `place` is settled.
    pub(crate) fn settle(&mut self, place: u64) {
        if place <= self.settled {
            return;
        }
        self.settled = place;
        while self.memory.front().is_some_and(|chunk| chunk.end() <= place) {
            self.in_memory -= self.memory.pop_front().map_or(0, |chunk| chunk.bytes.len());
        }
        if let Some(spool) = &mut self.spool {
            spool.settle(place);
        }
    }

    /// Called from time to time: brings to the disk what has been in the spool since the last time.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(crate) fn tick(&mut self) -> io::Result<()> {
        let waits = self.settled < self.at_tick;
        self.at_tick = self.end;
        match &mut self.spool {
            Some(spool) if waits => spool.sync(),
            _ => Ok(()),
        }
    }

    /// Brings all that is not settled to the disk.
    pub(crate) fn close(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.close(self.settled);
        }
    }
}
