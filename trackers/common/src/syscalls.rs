//! The syscalls tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{ProcessHeader, SYSCALLS};

/// Add the call to the sums.
pub const ACTION_STATS: u8 = 1;
/// Report the call as an event.
pub const ACTION_CALL: u8 = 1 << 1;
/// The call has no result: it restores the register (`rt_sigreturn`).
pub const ACTION_NO_RESULT: u8 = 1 << 2;

/// Number of buckets for durations: one per power of two of nanoseconds. The last has everything
/// from 9 minutes on.
pub const BUCKETS: usize = 40;

/// A system call that a thread is executing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ActiveCall {
    /// Its number.
    pub number: u32,
    /// 1 while it runs.
    pub running: u32,
    /// When it started, by the monotonic clock.
    pub time: u64,
    /// Its arguments, if it will be reported.
    pub arguments: [u64; 6],
}

/// The key of a sum.
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

/// The sums of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CallSums {
    /// Number of calls.
    pub count: u64,
    /// Number of failed calls.
    pub errors: u64,
    /// Sum of their durations in nanoseconds.
    pub time: u64,
    /// The longest duration in nanoseconds.
    pub longest: u64,
    /// Calls by the binary logarithm of their duration in nanoseconds.
    pub histogram: [u64; BUCKETS],
}

/// The record of one call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CallRecord {
    /// The process.
    pub process: ProcessHeader,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
    /// Its duration in nanoseconds.
    pub latency: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Its number.
    pub number: u32,
    /// 1 if the result can be an error.
    pub has_result: u32,
}

/// The read-only globals of the syscalls tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SyscallsSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [CallRecord; 0],
    /// As `record`.
    pub sums: [CallSums; 0],
    /// As `record`.
    pub key: [CallKey; 0],
    /// What to do about each system call, by its number: a combination of the `ACTION_` constants.
    pub actions: [u8; SYSCALLS],
}

impl SyscallsSettings {
    /// The value in the object, which the loader replaces.
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
