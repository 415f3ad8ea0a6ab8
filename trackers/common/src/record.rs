//! The start of every record, and sizes that all trackers share.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

/// The path in the record is cut.
pub const FLAG_PATH_TRUNCATED: u16 = 1;
/// The arguments in the record are cut.
pub const FLAG_ARGS_TRUNCATED: u16 = 1 << 1;
/// The arguments could not be read from the process's memory; the record has none.
pub const FLAG_ARGS_UNREADABLE: u16 = 1 << 2;
/// The process is a kernel thread.
pub const FLAG_KERNEL_THREAD: u16 = 1 << 3;
/// The whole process moved to the cgroup, not only one of its threads.
pub const FLAG_WHOLE_PROCESS: u16 = 1 << 4;

/// The first bytes of every record of every tracker.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RecordHeader {
    /// Length in bytes of the record, with this header and the variable tail.
    pub length: u32,
    /// One of the `KIND_` constants.
    pub kind: u16,
    /// Any of the `FLAG_` constants.
    pub flags: u16,
    /// When it happened: nanoseconds since boot, suspended time included.
    pub time: u64,
}

/// The first bytes of every record with a process.
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
    /// When the process started: nanoseconds since boot. Together with `pid` this identifies it.
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
    /// Wake user space from this many waiting bytes on. Below, it reads at its interval.
    pub wake_from: u64,
    /// Wake user space up to this many waiting bytes. Beyond, it has been woken already.
    pub wake_to: u64,
}

impl RingSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self { wake_from: 0, wake_to: 0 };
}

/// The counts of a tracker's programs on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// All records, including lost and refused ones.
    pub generated: u64,
    /// Records for which the ring buffer or a table had no room.
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
/// Offsets in the scratch buffer at which a piece may start, as a mask. After any of them there is
/// room for one more piece.
pub const SCRATCH_MASK: usize = (1 << 14) - 1;
/// Size of the scratch buffer: room for a record with the longest tail.
pub const SCRATCH_BYTES: usize = SCRATCH_MASK + 1 + PIECE_MAX as usize;
