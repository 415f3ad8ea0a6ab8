//! The syscalls tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{ProcessHeader, SYSCALLS};

/// Sum the call.
pub const ACTION_STATS: u8 = 1;
/// Report the call by itself.
pub const ACTION_CALL: u8 = 1 << 1;
/// What the call gives is no result: it puts back what a register held (`rt_sigreturn`).
pub const ACTION_NO_RESULT: u8 = 1 << 2;

/// Powers of two of nanoseconds that durations are told apart by; the last takes all that is longer
/// (from 9 min on).
pub const BUCKETS: usize = 40;

/// A system call that a thread is in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Begun {
    /// Its number.
    pub number: u32,
    /// 1 while it runs.
    pub running: u32,
    /// When it began, by the monotonic clock.
    pub time: u64,
    /// Its arguments, if it is to be reported.
    pub arguments: [u64; 6],
}

/// What sums are of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct CallKey {
    /// The cgroup.
    pub cgroup_id: u64,
    /// The system call's number.
    pub number: u32,
    /// The error number; 0 in the tables of all calls.
    pub errno: u32,
}

/// What was summed, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CallSums {
    /// Calls.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// Nanoseconds in all.
    pub time: u64,
    /// Nanoseconds of the longest.
    pub longest: u64,
    /// Calls by the logarithm of their nanoseconds.
    pub histogram: [u64; BUCKETS],
}

/// The record of one call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CallRecord {
    /// The process.
    pub process: ProcessHeader,
    /// What the call gave: below 0 the negative error number.
    pub result: i64,
    /// Nanoseconds that it took.
    pub latency: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Its number.
    pub number: u32,
    /// 1 where the result can be an error.
    pub has_result: u32,
}

/// The read-only globals of the syscalls tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SyscallsSettings {
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub record: [CallRecord; 0],
    /// As `record`.
    pub sums: [CallSums; 0],
    /// As `record`.
    pub key: [CallKey; 0],
    /// What to do about each system call, by its number: any of the `ACTION_` constants.
    pub actions: [u8; SYSCALLS],
}

impl SyscallsSettings {
    /// What stands in the object before the loader sets it.
    pub const UNSET: Self = Self { record: [], sums: [], key: [], actions: [0; SYSCALLS] };
}

layouts! {
    CallRecord { process, result, latency, arguments, number, has_result }
    CallKey { cgroup_id, number, errno }
    CallSums { count, errors, time, longest, histogram }
    SyscallsSettings { actions }
}

const _: () = {
    assert!(size_of::<CallRecord>() == 168);
    assert!(offset_of!(CallRecord, number) == 160);
    assert!(size_of::<CallSums>() == 352);
    assert!(size_of::<CallKey>() == 16);
};
