//! The mounts tracker's record and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{Member, ProcessHeader, SYSCALLS};

/// The source is cut.
pub const FLAG_SOURCE_TRUNCATED: u16 = 1 << 5;
/// The target is cut.
pub const FLAG_TARGET_TRUNCATED: u16 = 1 << 6;

/// Size of the table of system calls.
pub const MOUNT_CALLS: usize = 8;

/// The indexes of a system call's arguments; [`NO_ARGUMENT`](crate::NO_ARGUMENT) for none,
/// [`WORKING_DIRECTORY`](crate::WORKING_DIRECTORY) for the working directory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MountCall {
    /// One of the `KIND_` constants.
    pub kind: u16,
    /// The directory that the source is relative to.
    pub source_base: u8,
    /// The source.
    pub source: u8,
    /// The directory that the target is relative to.
    pub target_base: u8,
    /// The target.
    pub target: u8,
    /// The type of the file system.
    pub fs_type: u8,
    /// Its flags.
    pub flags: u8,
}

/// The record of a system call. Five pieces follow: the names from the directory that the source is
/// relative to, up to the root (leaf first, each followed by a NUL byte); the source that the
/// process gave; the same two for the target; the type of the file system.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MountRecord {
    /// The process.
    pub process: ProcessHeader,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
    /// Its flags.
    pub flags: u64,
    /// Length in bytes of each piece.
    pub pieces: [u32; 5],
    /// Always 0.
    pub padding: u32,
}

/// Offsets for the type of a mounted file system.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MountOffsets {
    /// `vfsmount.mnt_sb`
    pub super_block: u32,
    /// `super_block.s_type`
    pub fs_type: u32,
    /// `file_system_type.name`
    pub name: u32,
    /// Always 0.
    pub padding: u32,
}

impl MountOffsets {
    /// The members, in the order of the fields.
    pub const MEMBERS: &[Member] = &[
        Member { of: "vfsmount", path: "mnt_sb" },
        Member { of: "super_block", path: "s_type" },
        Member { of: "file_system_type", path: "name" },
    ];
}

/// The read-only globals of the mounts tracker's program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct MountsSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [MountRecord; 0],
    /// Offsets for the type of a mounted file system.
    pub offsets: MountOffsets,
    /// The index in `calls` of each system call, by its number; 0 for calls to skip.
    pub actions: [u8; SYSCALLS],
    /// The system calls.
    pub calls: [MountCall; MOUNT_CALLS],
}

impl MountsSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self {
        record: [],
        offsets: MountOffsets { super_block: 0, fs_type: 0, name: 0, padding: 0 },
        actions: [0; SYSCALLS],
        calls: [MountCall {
            kind: 0,
            source_base: 0,
            source: 0,
            target_base: 0,
            target: 0,
            fs_type: 0,
            flags: 0,
        }; MOUNT_CALLS],
    };
}

layouts! {
    MountRecord { process, result, flags, pieces, padding }
    MountOffsets { super_block, fs_type, name, padding }
    MountsSettings { offsets, actions, calls }
}

const _: () = {
    assert!(size_of::<MountRecord>() == 136);
    assert!(offset_of!(MountRecord, pieces) == 112);
    assert!(size_of::<MountCall>() == 8);
};
