//! Reads records from a ring buffer and decodes them into events.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use bytes::{Bytes, BytesMut};
use whalewatch_core::{BudgetEvent, Drain, Event, Source, SourceCounts, SourceError, Timestamp};

use crate::budget::Budgets;
use crate::clock::BootClock;
use crate::program::Attached;
use crate::sums::Epochs;

/// Bytes that an arena allocates at a time.
const ARENA_BYTES: usize = 32 * 1024;
/// How long to wait after detaching for records that were counted but have not arrived.
const LAST_RECORDS: Duration = Duration::from_millis(100);

/// Turns a tracker's records into events.
pub trait Decode: Send + 'static {
    /// The tracker's events.
    type Event: Event;

    /// Turns one record into an event. It must not panic on any bytes, and must not allocate:
    /// variable parts go into the arena.
    ///
    /// # Errors
    /// If the record is too short or of an unknown kind.
    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<Self::Event, DecodeError>;

    /// Takes a record that is not an event but a note (such as the name of a summed file), and says
    /// whether it was one. The programs do not count notes.
    fn note(&mut self, record: &[u8]) -> bool {
        let _ = record;
        false
    }

    /// The switch between the two tables of sums, if the programs keep sums.
    fn epochs(&mut self) -> Option<&mut Epochs> {
        None
    }

    /// Appends the sums of table 0 or 1 as events, and empties the table.
    ///
    /// # Errors
    /// If it cannot be read.
    fn report(
        &mut self,
        table: usize,
        arena: &mut Arena,
        out: &mut VecDeque<Self::Event>,
    ) -> Result<(), SourceError> {
        let _ = (table, arena, out);
        Ok(())
    }

    /// Appends what existed before the programs were attached.
    ///
    /// # Errors
    /// If it cannot be read.
    fn existing(
        &mut self,
        attached: &mut Attached,
        arena: &mut Arena,
        out: &mut Vec<Self::Event>,
    ) -> Result<(), SourceError> {
        let _ = (attached, arena, out);
        Ok(())
    }
}

/// A record could not be decoded: it is too short or of an unknown kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record is too short or of an unknown kind")]
pub struct DecodeError;

/// Memory for the variable parts of events: one allocation serves hundreds of events.
pub struct Arena {
    bytes: BytesMut,
    /// Buffer in which a piece is assembled.
    scratch: Vec<u8>,
    clock: BootClock,
}

impl Default for Arena {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), scratch: Vec::new(), clock: BootClock::now() }
    }
}

impl Arena {
    /// Copies bytes into the arena and returns the copy, for the event to keep.
    pub fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if self.bytes.capacity() < bytes.len() {
            self.bytes = BytesMut::with_capacity(ARENA_BYTES.max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.split().freeze()
    }

    /// Keeps the bytes that `write` appends to an empty buffer.
    pub(crate) fn build(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.scratch.clear();
        write(&mut self.scratch);
        let written = std::mem::take(&mut self.scratch);
        let kept = self.keep(&written);
        self.scratch = written;
        kept
    }

    /// Converts nanoseconds since boot into a point in time.
    pub fn time(&self, since_boot: u64) -> Timestamp {
        self.clock.at(since_boot)
    }
}

/// The fixed part of a record.
pub(crate) fn read<T: AnyBitPattern>(record: &[u8]) -> Result<T, DecodeError> {
    record.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned).ok_or(DecodeError)
}

/// The `length` bytes after the fixed part of a record.
pub(crate) fn tail<T>(record: &[u8], length: usize) -> Result<&[u8], DecodeError> {
    record.get(size_of::<T>()..).and_then(|tail| tail.get(..length)).ok_or(DecodeError)
}

/// The pieces after the fixed part of a record.
pub(crate) fn pieces<T, const N: usize>(
    record: &[u8],
    lengths: [u32; N],
) -> Result<[&[u8]; N], DecodeError> {
    let mut rest = record.get(size_of::<T>()..).ok_or(DecodeError)?;
    let mut pieces: [&[u8]; N] = [&[]; N];
    for (piece, length) in pieces.iter_mut().zip(lengths) {
        let (first, behind) = rest.split_at_checked(length as usize).ok_or(DecodeError)?;
        (*piece, rest) = (first, behind);
    }
    Ok(pieces)
}

/// A source of events from a ring buffer, and from sums that the programs keep.
pub struct RingSource<D: Decode> {
    attached: Attached,
    decoder: D,
    arena: Arena,
    drain_interval: Duration,
    report_interval: Duration,
    budgets: Option<Budgets>,
    /// Records taken from the ring buffer.
    taken: u64,
    invalid: u64,
    /// Events made from sums that wait to be drained, and the number of all that were made.
    sums: VecDeque<D::Event>,
    summed: u64,
    reported_at: Instant,
    detached_at: Option<Instant>,
    ended: bool,
}

impl<D: Decode> RingSource<D> {
    /// A source of what attached programs report, to be drained every `drain_interval`. It reports
    /// sums every `report_interval`, and what the budgets refused.
    pub(crate) fn new(
        attached: Attached,
        decoder: D,
        drain_interval: Duration,
        report_interval: Duration,
        budgets: Option<Budgets>,
    ) -> Self {
        Self {
            attached,
            decoder,
            arena: Arena::default(),
            drain_interval,
            report_interval,
            budgets,
            taken: 0,
            invalid: 0,
            sums: VecDeque::new(),
            summed: 0,
            reported_at: Instant::now(),
            detached_at: None,
            ended: false,
        }
    }

    /// Records generated, lost and refused, over all CPUs.
    fn totals(&self) -> [u64; 3] {
        let mut totals = [0; 3];
        let Ok(by_cpu) = self.attached.counters.get(&0, 0) else { return totals };
        for counters in by_cpu.iter() {
            totals.iter_mut().zip(counters).for_each(|(total, count)| *total += count);
        }
        totals
    }

    /// Whether an empty ring buffer stays empty: the programs are detached, and all their records
    /// have been taken.
    fn is_over(&self) -> bool {
        let Some(detached_at) = self.detached_at else { return false };
        let [generated, lost, refused] = self.totals();
        self.taken + lost + refused >= generated || detached_at.elapsed() > LAST_RECORDS
    }

    /// Reports sums when they are due and at the end. The ring buffer is empty.
    fn when_empty(&mut self) -> Result<Drain, SourceError> {
        if self.is_over() && !self.ended {
            self.ended = true;
            if self.decoder.epochs().is_some() {
                // The programs are detached, so neither table changes.
                for table in [0, 1] {
                    self.report(table)?;
                }
            }
        } else if !self.ended {
            self.switch_tables()?;
        }
        Ok(if !self.sums.is_empty() {
            Drain::More
        } else if self.ended {
            Drain::Ended
        } else {
            Drain::Empty
        })
    }

    fn switch_tables(&mut self) -> Result<(), SourceError> {
        let due = self.reported_at.elapsed() >= self.report_interval;
        let Some(epochs) = self.decoder.epochs() else { return Ok(()) };
        if let Some(table) = epochs.take_settled() {
            return self.report(table);
        }
        if due && !epochs.is_switching() && self.detached_at.is_none() {
            epochs.switch();
            self.reported_at = Instant::now();
        }
        Ok(())
    }

    fn report(&mut self, table: usize) -> Result<(), SourceError> {
        let before = self.sums.len();
        self.decoder.report(table, &mut self.arena, &mut self.sums)?;
        self.summed += (self.sums.len() - before) as u64;
        Ok(())
    }
}

impl<D: Decode> Source<D::Event> for RingSource<D> {
    fn drain(&mut self, out: &mut Vec<D::Event>, max: usize) -> Result<Drain, SourceError> {
        self.arena.clock = BootClock::now();
        let mut left = max;
        while left > 0 {
            let Some(record) = self.attached.records.next() else {
                let sums = self.sums.len().min(left);
                out.extend(self.sums.drain(..sums));
                return self.when_empty();
            };
            left -= 1;
            if self.decoder.note(&record) {
                continue;
            }
            self.taken += 1;
            match self.decoder.decode(&record, &mut self.arena) {
                Ok(event) => out.push(event),
                Err(DecodeError) => self.invalid += 1,
            }
        }
        Ok(Drain::More)
    }

    fn existing(&mut self, out: &mut Vec<D::Event>) -> Result<(), SourceError> {
        self.arena.clock = BootClock::now();
        self.decoder.existing(&mut self.attached, &mut self.arena, out)
    }

    fn budgets(&mut self, out: &mut Vec<BudgetEvent>) {
        let [_, _, refused] = if self.budgets.is_some() { self.totals() } else { return };
        if let Some(budgets) = &mut self.budgets {
            budgets.report(refused, self.ended && self.sums.is_empty(), out);
        }
    }

    fn interval(&self) -> Duration {
        self.drain_interval
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        Some(self.attached.records.as_fd())
    }

    fn counts(&self) -> SourceCounts {
        let [generated, lost, refused] = self.totals();
        let mut lost_by_cgroup = HashMap::new();
        if lost > 0 {
            for (cgroup, by_cpu) in self.attached.lost_by_cgroup.iter().flatten() {
                lost_by_cgroup.insert(cgroup, by_cpu.iter().sum());
            }
        }
        let budgets = self.budgets.as_ref();
        // Events that wait to be drained have not been delivered yet.
        let summed = self.summed - self.sums.len() as u64;
        SourceCounts {
            generated: generated + summed + budgets.map_or(0, |budgets| budgets.events),
            lost,
            refused,
            invalid: self.invalid,
            lost_by_cgroup,
            refused_by_cgroup: budgets.map(Budgets::by_cgroup).unwrap_or_default(),
        }
    }

    fn detach(&mut self) {
        if !self.attached.is_detached() {
            self.attached.detach();
            self.detached_at = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_keeps_bytes_in_few_allocations() {
        let mut arena = Arena::default();
        let kept: Vec<Bytes> = (0..2000_u16).map(|i| arena.keep(&i.to_le_bytes())).collect();
        assert!(kept.iter().zip(0_u16..).all(|(bytes, i)| bytes[..] == i.to_le_bytes()));
        let joined =
            kept.windows(2).filter(|pair| pair[0].as_ptr().wrapping_add(2) == pair[1].as_ptr());
        assert!(joined.count() > 1900, "consecutive pieces are adjacent");
        assert_eq!(arena.keep(&vec![7; ARENA_BYTES * 2]).len(), ARENA_BYTES * 2);
        assert!(arena.keep(b"").is_empty());
    }
}
