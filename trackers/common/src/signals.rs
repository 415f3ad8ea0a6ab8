//! The signals tracker's record and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{Member, ProcessHeader};

/// The record of a signal.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SignalRecord {
    /// The process that sent it; the one that gets it, where the kernel itself sent it.
    pub process: ProcessHeader,
    /// The process that gets it.
    pub target: ProcessHeader,
    /// The signal's number.
    pub number: u32,
    /// Why it was sent (`si_code`).
    pub code: i32,
    /// What became of it: 0 delivered, 1 ignored, 2 pending already, 3 no room, 4 delivered without
    /// its information.
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
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub record: [SignalRecord; 0],
    /// Signals that are watched: the bit of a number is one lower.
    pub signals: u64,
    /// 1 to report what the kernel itself sends.
    pub kernel: u32,
    /// `kernel_siginfo.si_code`.
    pub code: u32,
}

impl SignalsSettings {
    /// What `code` is the offset of.
    pub const MEMBERS: &[Member] = &[Member { of: "kernel_siginfo", path: "si_code" }];

    /// What stands in the object before the loader sets it.
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
