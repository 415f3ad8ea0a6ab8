//! The ordered log of all records, from the handler until they are settled, that is, acknowledged
//! or dropped.
//!
//! With a spool, each chunk is written to it first. Chunks are also kept in memory until they are
//! settled, as far as there is room, so nothing is read back while a server keeps up. The log is
//! read at one place, which takes each record from memory if it is there, otherwise from the spool.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use crate::options::WhenFull;
use crate::record::{self, Record};
use crate::spool::{Chunk, Read, Spool};

/// The outcome of [`Log::append`].
#[derive(Debug, Default)]
pub(crate) struct Appended {
    /// The number of records that were not appended.
    pub(crate) refused: u64,
    /// The range of unsent older records that were removed to make room, from the first place to
    /// before the second.
    pub(crate) given_up: Option<(u64, u64)>,
    /// The error, if the spool could not be written to.
    pub(crate) error: Option<io::Error>,
}

/// The log. A record is identified by its place, counted from 0 at each start.
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
    /// Place after the last record.
    end: u64,
    reading: Option<Reading>,
    /// The end at the last call of [`Log::tick`].
    at_tick: u64,
}

/// A chunk that is being read.
#[derive(Debug)]
struct Reading {
    chunk: Chunk,
    /// Place of the record at `offset`.
    place: u64,
    offset: usize,
}

/// The result of [`Log::read`].
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// A record and its place.
    Record(u64, Record),
    /// The records from the first place to before the second are lost.
    Damage(u64, u64),
}

impl Log {
    /// Creates a log that keeps at most `most_in_memory` bytes in memory. Records of the spool
    /// before `settled` are settled.
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

    /// Returns whether records can be appended. With a spool that is always so, because
    /// [`Log::append`] reports records that it refuses.
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

    /// Appends `count` records.
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

    /// Keeps a chunk in memory if it is read next or follows the last chunk there, and there is
    /// room. Without a spool, keeps every chunk.
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

    /// Reads the next record. Returns `None` at the end.
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

    /// Starts to read a chunk, at the next record.
    fn start(&mut self, chunk: Chunk) {
        let (mut place, mut offset) = (chunk.first, 0);
        while place < self.next {
            let Some((_, next)) = record::take(&chunk.bytes, offset) else { break };
            (place, offset) = (place + 1, next);
        }
        self.reading = Some(Reading { chunk, place, offset });
    }

    /// Returns to the first record that is not settled and still exists. Returns the range of
    /// unsettled records that were removed meanwhile, if any.
    pub(crate) fn rewind(&mut self) -> Option<(u64, u64)> {
        let first = match (&self.spool, self.memory.front()) {
            (Some(spool), _) => spool.first().max(self.settled),
            (None, Some(chunk)) => chunk.first.max(self.settled),
            (None, None) => self.settled,
        };
        let removed = (first > self.settled).then_some((self.settled, first));
        self.next = first;
        self.reading = None;
        removed
    }

    /// Marks everything before `place` as settled.
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

    /// Syncs the spool if a record has waited in it since the last tick. Called at a fixed
    /// interval.
    ///
    /// # Errors
    /// If the spool cannot be synced.
    pub(crate) fn tick(&mut self) -> io::Result<()> {
        let has_waited = self.settled < self.at_tick;
        self.at_tick = self.end;
        match &mut self.spool {
            Some(spool) if has_waited => spool.sync(),
            _ => Ok(()),
        }
    }

    /// Syncs all unsettled records to the disk.
    pub(crate) fn close(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.close(self.settled);
        }
    }
}
