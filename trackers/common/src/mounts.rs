//! The mounts tracker's record and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{Member, ProcessHeader, SYSCALLS};

/// The source is only the beginning of the true one.
pub const FLAG_SOURCE_TRUNCATED: u16 = 1 << 5;
/// The target is only a part of the true one.
pub const FLAG_TARGET_TRUNCATED: u16 = 1 << 6;

/// System calls with mounts that can be told apart.
pub const MOUNT_CALLS: usize = 8;

/// Where a system call has its arguments, by their index; 7 for none, 6 for the working directory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MountCall {
    /// One of the `KIND_` constants.
    pub kind: u16,
    /// The directory that the source begins at.
    pub source_base: u8,
    /// The source.
    pub source: u8,
    /// The directory that the target begins at.
    pub target_base: u8,
    /// The target.
    pub target: u8,
    /// The type of the file system.
    pub fs_type: u8,
    /// Its flags.
    pub flags: u8,
}

/// The record of a system call with mounts. Behind it come five pieces: names up from the directory
/// that the source begins at, leaf first, each closed by a NUL byte; the source as it was asked
/// for; both of the target; the type of the file system.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MountRecord {
    /// The process.
    pub process: ProcessHeader,
    /// What the call gave: below 0 the negative error number.
    pub result: i64,
    /// Its flags.
    pub flags: u64,
    /// Bytes of each piece.
    pub pieces: [u32; 5],
    /// Always 0.
    pub padding: u32,
}

/// Where the kernel keeps the type of a mounted file system.
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
    /// What each is the offset of, in the order of the fields.
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
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub record: [MountRecord; 0],
    /// Where the kernel keeps the type of a mounted file system.
    pub offsets: MountOffsets,
    /// Which of `calls` a system call is, by its number; 0 for none.
    pub actions: [u8; SYSCALLS],
    /// The system calls.
    pub calls: [MountCall; MOUNT_CALLS],
}

impl MountsSettings {
    /// What stands in the object before the loader sets it.
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
