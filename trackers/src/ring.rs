//! Records from a ring buffer, decoded into events.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use bytes::{Bytes, BytesMut};
use whalewatch_core::{
    Drain, Event, HumanDuration, Problem, Source, SourceCounts, SourceError, Timestamp,
};

use crate::clock::BootClock;
use crate::program::Attached;

/// Bytes that an arena asks for at a time.
const ARENA_BYTES: usize = 32 * 1024;
/// How long after the programs are gone what they counted is waited for, should the counts not add up.
const LAST_RECORDS: Duration = Duration::from_millis(100);

/// What a ring buffer may take.
const RING_KIB: RangeInclusive<u32> = 64..=1 << 20;
/// How often it may be drained.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// How a tracker's records become events.
pub trait Decode: Send + 'static {
    /// The events.
    type Event: Event;

    /// Turns one record into an event. Must not panic on any bytes, and must not allocate: variable parts go into the
    /// arena.
    ///
    /// # Errors
    /// If the record is too short or of an unknown kind.
    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<Self::Event, DecodeError>;

    /// Appends what was there before the programs were attached.
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

/// Where the variable parts of a batch's events live: one allocation for hundreds of them.
pub struct Arena {
    bytes: BytesMut,
    clock: BootClock,
}

impl Default for Arena {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), clock: BootClock::now() }
    }
}

impl Arena {
    /// Copies bytes in; the event keeps what is returned.
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

    /// The point in time that is so many nanoseconds after boot.
    pub fn time(&self, since_boot: u64) -> Timestamp {
        self.clock.at(since_boot)
    }
}

/// The fixed part of a record.
pub(crate) fn read<T: AnyBitPattern>(record: &[u8]) -> Result<T, DecodeError> {
    record.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned).ok_or(DecodeError)
}

/// So many bytes after the fixed part of a record.
pub(crate) fn tail<T>(record: &[u8], length: usize) -> Result<&[u8], DecodeError> {
    record.get(size_of::<T>()..).and_then(|tail| tail.get(..length)).ok_or(DecodeError)
}

/// Checks the options that every ring buffer has.
pub(crate) fn check_ring(kib: u32, interval: HumanDuration) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !kib.is_power_of_two() || !RING_KIB.contains(&kib) {
        let message = format!("{kib} is no power of two from 64 to 1048576");
        let nearest = kib.clamp(*RING_KIB.start(), *RING_KIB.end()).next_power_of_two();
        problems.push(Problem::new("ring_kib", message).hint(format!("write {nearest}")));
    }
    if !INTERVAL.contains(&interval.0) {
        let message = format!("{interval} is not between 1ms and 1s");
        problems.push(Problem::new("interval", message).hint("write \"10ms\""));
    }
    problems
}

/// A source of events from a ring buffer.
pub struct RingSource<D: Decode> {
    attached: Attached,
    decoder: D,
    arena: Arena,
    interval: Duration,
    /// Records taken from the ring buffer.
    taken: u64,
    invalid: u64,
    detached_at: Option<Instant>,
}

impl<D: Decode> RingSource<D> {
    /// A source of what attached programs report, to be drained every `interval`.
    pub fn new(attached: Attached, decoder: D, interval: Duration) -> Self {
        Self {
            attached,
            decoder,
            arena: Arena::default(),
            interval,
            taken: 0,
            invalid: 0,
            detached_at: None,
        }
    }

    /// Records made and lost, over all CPUs.
    fn totals(&self) -> (u64, u64) {
        let Ok(by_cpu) = self.attached.counters.get(&0, 0) else { return (0, 0) };
        by_cpu
            .iter()
            .fold((0, 0), |(made, lost), counters| (made + counters[0], lost + counters[1]))
    }

    /// An empty ring buffer is at its end once the programs are gone and all that they made has been taken.
    fn when_empty(&self) -> Drain {
        let Some(detached_at) = self.detached_at else { return Drain::Empty };
        let (made, lost) = self.totals();
        if self.taken + lost >= made || detached_at.elapsed() > LAST_RECORDS {
            return Drain::Ended;
        }
        Drain::Empty
    }
}

impl<D: Decode> Source<D::Event> for RingSource<D> {
    fn drain(&mut self, out: &mut Vec<D::Event>, max: usize) -> Result<Drain, SourceError> {
        self.arena.clock = BootClock::now();
        for _ in 0..max {
            let Some(record) = self.attached.records.next() else {
                return Ok(self.when_empty());
            };
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

    fn interval(&self) -> Duration {
        self.interval
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        Some(self.attached.records.as_fd())
    }

    fn counts(&self) -> SourceCounts {
        let (generated, lost) = self.totals();
        let mut lost_by_cgroup = HashMap::new();
        if lost > 0 {
            for (cgroup, by_cpu) in self.attached.lost_by_cgroup.iter().flatten() {
                lost_by_cgroup.insert(cgroup, by_cpu.iter().sum());
            }
        }
        SourceCounts { generated, lost, invalid: self.invalid, lost_by_cgroup }
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
    fn bad_ring_options_are_found_with_a_hint() {
        let check = |kib, ms| check_ring(kib, HumanDuration(Duration::from_millis(ms)));
        assert_eq!(check(4096, 10), []);
        assert_eq!(check(1 << 20, 1), []);
        let problems = check(5000, 0);
        assert_eq!(problems[0].message, "5000 is no power of two from 64 to 1048576");
        assert_eq!(problems[0].hint.as_deref(), Some("write 8192"));
        assert_eq!(problems[1].message, "0s is not between 1ms and 1s");
        assert_eq!(check(u32::MAX, 10)[0].hint.as_deref(), Some("write 1048576"));
    }

    #[test]
    fn an_arena_keeps_what_it_is_given_in_few_allocations() {
        let mut arena = Arena::default();
        let kept: Vec<Bytes> = (0..2000_u16).map(|i| arena.keep(&i.to_le_bytes())).collect();
        assert!(kept.iter().zip(0_u16..).all(|(bytes, i)| bytes[..] == i.to_le_bytes()));
        let joined =
            kept.windows(2).filter(|pair| pair[0].as_ptr().wrapping_add(2) == pair[1].as_ptr());
        assert!(joined.count() > 1900, "neighbours lie side by side");
        assert_eq!(arena.keep(&vec![7; ARENA_BYTES * 2]).len(), ARENA_BYTES * 2);
        assert!(arena.keep(b"").is_empty());
    }
}
