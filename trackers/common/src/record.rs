//! What every record begins with.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

/// The path in the record is a prefix: the true one is longer than a record holds.
pub const FLAG_PATH_TRUNCATED: u16 = 1;
/// The arguments in the record are a prefix: the true ones are longer than a record holds.
pub const FLAG_ARGS_TRUNCATED: u16 = 1 << 1;
/// The arguments could not be read from the process's memory: the record holds none.
pub const FLAG_ARGS_UNREADABLE: u16 = 1 << 2;
/// The process is one of the kernel's own threads.
pub const FLAG_KERNEL_THREAD: u16 = 1 << 3;
/// The whole process moved to the cgroup, not one of its threads alone.
pub const FLAG_WHOLE_PROCESS: u16 = 1 << 4;

/// The first bytes of every record, whatever its tracker.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RecordHeader {
    /// Bytes of the whole record, this header and the variable tail included.
    pub length: u32,
    /// One of the `KIND_` constants.
    pub kind: u16,
    /// Any of the `FLAG_` constants.
    pub flags: u16,
    /// When it happened: nanoseconds since boot, suspended time included.
    pub time: u64,
}

/// The first bytes of every record about something that a process did.
///
/// Process and thread ids, user and group ids are those of the kernel's initial namespaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessHeader {
    /// Length, kind, flags and time.
    pub record: RecordHeader,
    /// The process's id (the kernel's thread group id).
    pub pid: u32,
    /// The id of the thread that acted.
    pub tid: u32,
    /// The id of the parent process.
    pub parent_pid: u32,
    /// The process's id inside its own pid namespace.
    pub namespace_pid: u32,
    /// When the process started: nanoseconds since boot. With `pid` this names a process for good.
    pub start_time: u64,
    /// When the parent process started: nanoseconds since boot.
    pub parent_start_time: u64,
    /// The process's cgroup in the default (version 2) hierarchy.
    pub cgroup_id: u64,
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The inode number of the user namespace.
    pub user_namespace: u32,
    /// The inode number of the pid namespace.
    pub pid_namespace: u32,
    /// The inode number of the mount namespace.
    pub mnt_namespace: u32,
    /// The inode number of the network namespace.
    pub net_namespace: u32,
    /// The command name, padded with NUL bytes.
    pub comm: [u8; 16],
}

/// How a tracker's programs use their ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RingSettings {
    /// Waiting bytes from which on user space is woken; below it comes by itself, on its timer.
    pub wake_from: u64,
    /// Waiting bytes up to which user space is woken: past these it has been told often enough.
    pub wake_to: u64,
}

impl RingSettings {
    /// What stands in the object before the loader sets it.
    pub const UNSET: Self = Self { wake_from: 0, wake_to: 0 };
}

/// What a tracker's programs counted on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Records made, lost and refused ones included.
    pub generated: u64,
    /// Records that found the ring buffer, or a table, full.
    pub lost: u64,
    /// Records that a budget refused.
    pub refused: u64,
}

const _: () = {
    assert!(size_of::<RecordHeader>() == 16);
    assert!(offset_of!(RecordHeader, kind) == 4);
    assert!(offset_of!(RecordHeader, time) == 8);
    assert!(size_of::<ProcessHeader>() == 96);
    assert!(offset_of!(ProcessHeader, pid) == 16);
    assert!(offset_of!(ProcessHeader, start_time) == 32);
    assert!(offset_of!(ProcessHeader, cgroup_id) == 48);
    assert!(offset_of!(ProcessHeader, uid) == 56);
    assert!(offset_of!(ProcessHeader, comm) == 80);
    assert!(size_of::<Counters>() == 24);
};

/// The most bytes of one piece of a record's tail (a path, a name, a text): the kernel's own limit
/// for paths.
pub const PIECE_MAX: u32 = 4096;
/// Offsets in a scratch at which a piece may begin, as a mask: what comes behind has room for one
/// more piece.
pub const SCRATCH_MASK: usize = (1 << 14) - 1;
/// Room for a record with the longest tail.
pub const SCRATCH_BYTES: usize = SCRATCH_MASK + 1 + PIECE_MAX as usize;
