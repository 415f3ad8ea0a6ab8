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
    /// The new process. With `CLONE_PARENT` its parent is not the process that created it.
    pub process: ProcessHeader,
    /// When the process that created it started: nanoseconds since boot.
    pub maker_start_time: u64,
    /// The process that created it.
    pub maker_pid: u32,
    /// Always 0.
    pub padding: u32,
}

/// The record of an exec, followed by the executable's path and the arguments, each argument with a
/// NUL byte at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ExecRecord {
    /// The process, after the exec.
    pub process: ProcessHeader,
    /// Length in bytes of the path that follows.
    pub path_length: u32,
    /// Length in bytes of the arguments that follow the path.
    pub args_length: u32,
    /// Length in bytes of all arguments in the process.
    pub args_total: u32,
    /// Number of arguments of the process.
    pub args_count: u32,
}

/// The record of an exit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ExitRecord {
    /// The process, as it was when it exited.
    pub process: ProcessHeader,
    /// The status as `wait(2)` returns it: signal in bits 0 to 6, core dumped in bit 7, exit code
    /// in bits 8 to 15.
    pub status: u32,
    /// Always 0.
    pub padding: u32,
}

/// The read-only globals of the process tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub fork: [ForkRecord; 0],
    /// As `fork`.
    pub exec_record: [ExecRecord; 0],
    /// As `fork`.
    pub exit: [ExitRecord; 0],
    /// 1 if the exit tracepoint says whether the whole process exits.
    pub exit_has_group: u32,
    /// Offsets of kernel members for the exec record.
    pub exec: ExecOffsets,
}

impl ProcessSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self =
        Self { fork: [], exec_record: [], exit: [], exit_has_group: 0, exec: ExecOffsets::UNSET };
}

layouts! {
    ForkRecord { process, process.comm, maker_start_time, maker_pid, padding }
    ExecRecord { process, path_length, args_length, args_total, args_count }
    ExitRecord { process, status, padding }
    ProcessSettings { exit_has_group, exec }
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
