//! Decodes the syscalls tracker's records, and turns its sums into events.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::time::Instant;

use aya::maps::{MapData, PerCpuHashMap};
use whalewatch_core::{SourceError, Timestamp};
use whalewatch_trackers_common::kinds::KIND_SYSCALL_CALL;
use whalewatch_trackers_common::syscalls::{BUCKETS, CallKey, CallRecord, CallSums};

use super::event::{SyscallEvent, SyscallWhat};
use crate::LoadError;
use crate::errno;
use crate::header::process;
use crate::program::Attached;
use crate::ring::{Arena, Decode, DecodeError, read};
use crate::sums::Epochs;

/// `CallKey` and `CallSums` as arrays of words, which the maps' types accept.
type Key = [u64; 2];
type Sums = [u64; 4 + BUCKETS];

/// Decodes the syscalls tracker's records.
#[derive(Default)]
pub struct SyscallsDecoder {
    tables: Option<Tables>,
}

/// The sums of calls.
struct Tables {
    epochs: Epochs,
    calls: [PerCpuHashMap<MapData, Key, Sums>; 2],
    errors: [PerCpuHashMap<MapData, Key, u64>; 2],
    /// When sums were reported last.
    since: Instant,
}

impl SyscallsDecoder {
    /// Takes the tables of sums from the object.
    pub(super) fn with_sums(attached: &mut Attached) -> Result<Self, LoadError> {
        let epochs = Epochs::new(attached)?;
        let calls = [attached.map("CALLS_0")?, attached.map("CALLS_1")?];
        let errors = [attached.map("ERRORS_0")?, attached.map("ERRORS_1")?];
        Ok(Self { tables: Some(Tables { epochs, calls, errors, since: Instant::now() }) })
    }
}

impl Decode for SyscallsDecoder {
    type Event = SyscallEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<SyscallEvent, DecodeError> {
        let fixed: CallRecord = read(record)?;
        let header = &fixed.process.record;
        if header.kind != KIND_SYSCALL_CALL {
            return Err(DecodeError);
        }
        let arguments = arena.build(|out| {
            for argument in fixed.arguments {
                // Writing to a Vec cannot fail.
                drop(write!(out, "{argument:#x}\0"));
            }
        });
        Ok(SyscallEvent {
            time: arena.time(header.time),
            number: fixed.number,
            what: SyscallWhat::Call {
                process: process(&fixed.process),
                arguments,
                result: fixed.result,
                error: if fixed.has_result == 0 { None } else { errno::of(fixed.result) },
                latency: fixed.latency,
            },
        })
    }

    fn epochs(&mut self) -> Option<&mut Epochs> {
        self.tables.as_mut().map(|tables| &mut tables.epochs)
    }

    fn report(
        &mut self,
        table: usize,
        arena: &mut Arena,
        out: &mut VecDeque<SyscallEvent>,
    ) -> Result<(), SourceError> {
        let Some(tables) = &mut self.tables else { return Ok(()) };
        let broken = |error| SourceError(format!("cannot read the sums of system calls: {error}"));
        let (calls, errors) = (&mut tables.calls[table], &mut tables.errors[table]);
        let all: Vec<_> = calls.iter().collect::<Result<_, _>>().map_err(broken)?;
        let failed: Vec<_> = errors.iter().collect::<Result<_, _>>().map_err(broken)?;
        let mut by_call: HashMap<(u64, u32), Vec<(u32, u64)>> = HashMap::new();
        for (words, counts) in failed {
            errors.remove(&words).map_err(broken)?;
            let key: CallKey = bytemuck::cast(words);
            let count = counts.iter().sum();
            by_call.entry((key.cgroup_id, key.number)).or_default().push((key.errno, count));
        }
        let time = Timestamp::now();
        let now = Instant::now();
        let interval = now.duration_since(std::mem::replace(&mut tables.since, now));
        for (words, sums) in all {
            calls.remove(&words).map_err(broken)?;
            let key: CallKey = bytemuck::cast(words);
            let sums = total(sums.iter());
            let mut errors = by_call.remove(&(key.cgroup_id, key.number)).unwrap_or_default();
            errors.sort_unstable();
            out.push_back(SyscallEvent {
                time,
                number: key.number,
                what: SyscallWhat::Stats {
                    cgroup: key.cgroup_id,
                    count: sums.count,
                    errors: sums.errors,
                    time: sums.time,
                    longest: sums.longest,
                    interval: interval.as_nanos() as u64,
                    errors_by_type: arena.build(|out| write_errors(out, &errors)),
                    histogram: arena.build(|out| write_histogram(out, &sums.histogram)),
                },
            });
        }
        Ok(())
    }
}

/// Adds the sums of all CPUs.
fn total<'a>(each: impl Iterator<Item = &'a Sums>) -> CallSums {
    let mut total: CallSums = bytemuck::Zeroable::zeroed();
    for words in each {
        let sums: CallSums = bytemuck::cast(*words);
        total.count += sums.count;
        total.errors += sums.errors;
        total.time += sums.time;
        total.longest = total.longest.max(sums.longest);
        for (to, from) in total.histogram.iter_mut().zip(sums.histogram) {
            *to += from;
        }
    }
    total
}

/// Writes the count of each error: `ENOENT=12`, …
fn write_errors(out: &mut Vec<u8>, errors: &[(u32, u64)]) {
    for &(number, count) in errors {
        drop(match errno::name(number) {
            Some(name) => write!(out, "{name}={count}\0"),
            None => write!(out, "{number}={count}\0"),
        });
    }
}

/// Writes the lower bound of each non-empty bucket, in nanoseconds, and its count: `1024=5`, …
fn write_histogram(out: &mut Vec<u8>, histogram: &[u64; BUCKETS]) {
    for (log, count) in histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
        let least = if log == 0 { 0 } else { 1_u64 << log };
        drop(write!(out, "{least}={count}\0"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::Event as _;
    use whalewatch_trackers_common::{ProcessHeader, RecordHeader};

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn decode(record: &[u8]) -> Result<SyscallEvent, DecodeError> {
        SyscallsDecoder::default().decode(record, &mut Arena::default())
    }

    fn call(kind: u16, result: i64, has_result: u32) -> CallRecord {
        let record = RecordHeader { kind, ..RecordHeader::default() };
        CallRecord {
            process: ProcessHeader { record, pid: 7, ..ProcessHeader::default() },
            result,
            latency: 5,
            arguments: [0, 1, 0xff, 0, 0, u64::MAX],
            number: libc::SYS_openat as u32,
            has_result,
        }
    }

    #[test]
    fn a_call_has_arguments_and_error() {
        let event = decode(bytemuck::bytes_of(&call(KIND_SYSCALL_CALL, -2, 1))).unwrap();
        assert_eq!(event.kind(), "syscall.call");
        let SyscallWhat::Call { arguments, error, .. } = &event.what else { panic!("{event:?}") };
        assert_eq!(&arguments[..], b"0x0\x000x1\x000xff\x000x0\x000x0\x000xffffffffffffffff\0");
        assert_eq!(*error, Some(2));
        let event = decode(bytemuck::bytes_of(&call(KIND_SYSCALL_CALL, -2, 0))).unwrap();
        assert!(matches!(event.what, SyscallWhat::Call { error: None, .. }));
    }

    #[test]
    fn sums_of_all_cpus_are_added_and_written() {
        let mut sums: Sums = [0; 4 + BUCKETS];
        (sums[0], sums[3], sums[4], sums[4 + 10]) = (2, 9, 1, 1);
        let total = total([sums, sums].iter());
        assert_eq!((total.count, total.longest), (4, 9));
        let mut out = Vec::new();
        write_histogram(&mut out, &total.histogram);
        assert_eq!(out, b"0=2\x001024=2\0");
        out.clear();
        write_errors(&mut out, &[(2, 3), (4000, 1)]);
        assert_eq!(out, b"ENOENT=3\x004000=1\0");
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = call(KIND_SYSCALL_CALL, 0, 1);
        let whole = bytemuck::bytes_of(&whole);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Err(DecodeError), "{length} bytes");
        }
        assert_eq!(decode(bytemuck::bytes_of(&call(99, 0, 1))), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(79..82, 300)) {
            decode_and_read(SyscallsDecoder::default(), &record);
        }
    }
}
