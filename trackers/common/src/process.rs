//! The process tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{ExecOffsets, ProcessHeader};

/// The longest executable path in a record: the kernel's own limit, without the closing NUL byte.
pub const PATH_MAX: usize = 4095;
/// The most bytes of arguments in a record.
pub const ARGS_MAX: usize = 4096;

/// The record of a fork.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ForkRecord {
    /// The new process. Its parent need not be the process that made it (`CLONE_PARENT`).
    pub process: ProcessHeader,
    /// When the process that made it started: nanoseconds since boot.
    pub maker_start_time: u64,
    /// The process that made it.
    pub maker_pid: u32,
    /// Always 0.
    pub padding: u32,
}

/// The record of an exec. The executable's path and then the arguments, each closed by a NUL byte,
/// follow it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ExecRecord {
    /// The process, already as the new program has it.
    pub process: ProcessHeader,
    /// Bytes of the path that follows.
    pub path_length: u32,
    /// Bytes of the arguments that follow the path.
    pub args_length: u32,
    /// Bytes that the arguments have in the process.
    pub args_total: u32,
    /// How many arguments the process was given.
    pub args_count: u32,
}

/// The record of an exit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ExitRecord {
    /// The process, as it was when it ended.
    pub process: ProcessHeader,
    /// The status as `wait` tells it: signal in bits 0 to 6, core dumped in bit 7, exit code in
    /// bits 8 to 15.
    pub status: u32,
    /// Always 0.
    pub padding: u32,
}

/// The read-only globals of the process tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessSettings {
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub fork: [ForkRecord; 0],
    /// As `fork`.
    pub exec_record: [ExecRecord; 0],
    /// As `fork`.
    pub exit: [ExitRecord; 0],
    /// 1 where the exit tracepoint tells whether the whole process ends.
    pub exit_tells_group: u32,
    /// Where the kernel keeps what an exec record needs besides.
    pub exec: ExecOffsets,
}

impl ProcessSettings {
    /// What stands in the object before the loader sets it.
    pub const UNSET: Self =
        Self { fork: [], exec_record: [], exit: [], exit_tells_group: 0, exec: ExecOffsets::UNSET };
}

layouts! {
    ForkRecord { process, process.comm, maker_start_time, maker_pid, padding }
    ExecRecord { process, path_length, args_length, args_total, args_count }
    ExitRecord { process, status, padding }
    ProcessSettings { exit_tells_group, exec }
}

const _: () = {
    assert!(size_of::<ForkRecord>() == 112);
    assert!(offset_of!(ForkRecord, maker_start_time) == 96);
    assert!(size_of::<ExecRecord>() == 112);
    assert!(offset_of!(ExecRecord, path_length) == 96);
    assert!(size_of::<ExitRecord>() == 104);
    assert!(offset_of!(ExitRecord, status) == 96);
    assert!(offset_of!(ProcessSettings, exec) == 4);
};
