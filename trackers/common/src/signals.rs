//! The signals tracker's record and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{Member, ProcessHeader};

/// The record of a signal.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SignalRecord {
    /// The sending process; the receiving one if the kernel itself sent the signal.
    pub process: ProcessHeader,
    /// The receiving process.
    pub target: ProcessHeader,
    /// The signal's number.
    pub number: u32,
    /// Why it was sent (`si_code`).
    pub code: i32,
    /// The result: 0 delivered, 1 ignored, 2 already pending, 3 failed because the queue is full, 4
    /// delivered without its information (`TRACE_SIGNAL_*` in `include/trace/events/signal.h`).
    pub result: u32,
    /// 1 if it is for the whole process, 0 for one thread.
    pub group: u32,
    /// 1 if the kernel itself sent it.
    pub from_kernel: u32,
    /// Always 0.
    pub padding: u32,
}

/// The read-only globals of the signals tracker's program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SignalsSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [SignalRecord; 0],
    /// Signals to watch: bit 0 for signal 1, and so on.
    pub signals: u64,
    /// 1 to report signals that the kernel itself sends.
    pub kernel: u32,
    /// `kernel_siginfo.si_code`.
    pub code: u32,
}

impl SignalsSettings {
    /// The member whose offset is `code`.
    pub const MEMBERS: &[Member] = &[Member { of: "kernel_siginfo", path: "si_code" }];

    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self { record: [], signals: 0, kernel: 0, code: 0 };
}

layouts! {
    SignalRecord { process, target, number, code, result, group, from_kernel, padding }
    SignalsSettings { signals, kernel, code }
}

const _: () = {
    assert!(size_of::<SignalRecord>() == 216);
    assert!(offset_of!(SignalRecord, number) == 192);
};
