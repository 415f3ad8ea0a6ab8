//! The files tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{ProcessHeader, SYSCALLS};

/// The file's name has been deleted.
pub const FLAG_FILE_DELETED: u16 = 1 << 5;
/// The path is the kernel's, not the one that the process gave.
pub const FLAG_FILE_RESOLVED: u16 = 1 << 6;
/// The second path in the record is cut.
pub const FLAG_SECOND_TRUNCATED: u16 = 1 << 7;

/// Size of the table of system calls.
pub const FILE_CALLS: usize = 64;

/// The indexes of a system call's arguments; [`NO_ARGUMENT`](crate::NO_ARGUMENT) for none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FileCall {
    /// One of the `KIND_FILE_` constants.
    pub kind: u16,
    /// The directory that the path is relative to.
    pub base: u8,
    /// The path, if the call takes one.
    pub path: u8,
    /// The directory that the second path is relative to.
    pub second_base: u8,
    /// The second path: the new name.
    pub second_path: u8,
    /// The flags.
    pub flags: u8,
    /// The permissions, or the user id.
    pub mode: u8,
    /// The group id.
    pub group: u8,
    /// A descriptor of the file, or of the one to read from.
    pub fd: u8,
    /// A descriptor of the file to write to.
    pub second_fd: u8,
    /// A `struct open_how`.
    pub how: u8,
    /// Flags that the call implies.
    pub fixed_flags: u32,
}

/// The record of every event except reading and writing. Up to four pieces follow: the names from
/// the file, or from the directory that the path is relative to, up to the root (leaf first, each
/// followed by a NUL byte); the path that the process gave; the same two for the second path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FileRecord {
    /// The process.
    pub process: ProcessHeader,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
    /// The file's inode number; 0 if not known.
    pub inode: u64,
    /// Its device, as the kernel encodes it: the major number from bit 20 on.
    pub device: u32,
    /// Type and permissions of the inode.
    pub inode_mode: u32,
    /// Flags of the call.
    pub flags: u32,
    /// Permissions, or the user id.
    pub mode: u32,
    /// The group id.
    pub group: u32,
    /// Always 0.
    pub padding: u32,
    /// Length in bytes of each piece.
    pub pieces: [u32; 4],
}

/// A process and a file whose bytes are summed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct IoKey {
    /// When the process started.
    pub start_time: u64,
    /// The inode number.
    pub inode: u64,
    /// The process.
    pub pid: u32,
    /// The device.
    pub device: u32,
}

/// Sums of bytes and calls.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IoSums {
    /// Bytes read.
    pub read_bytes: u64,
    /// Calls that read.
    pub reads: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls that wrote.
    pub writes: u64,
}

/// The process and the file of a key. The names from the file up to the root follow, as in
/// [`FileRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IoNote {
    /// The process.
    pub process: ProcessHeader,
    /// The key.
    pub key: IoKey,
    /// The table that has the key: 0 or 1.
    pub table: u32,
    /// Length in bytes of the names.
    pub names: u32,
}

/// The read-only globals of the files tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FilesSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [FileRecord; 0],
    /// As `record`.
    pub note: [IoNote; 0],
    /// As `record`.
    pub sums: [IoSums; 0],
    /// The index in `calls` of each system call, by its number; 0 for calls to skip.
    pub actions: [u8; SYSCALLS],
    /// The system calls.
    pub calls: [FileCall; FILE_CALLS],
}

impl FilesSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self {
        record: [],
        note: [],
        sums: [],
        actions: [0; SYSCALLS],
        calls: [FileCall {
            kind: 0,
            base: 0,
            path: 0,
            second_base: 0,
            second_path: 0,
            flags: 0,
            mode: 0,
            group: 0,
            fd: 0,
            second_fd: 0,
            how: 0,
            fixed_flags: 0,
        }; FILE_CALLS],
    };
}

layouts! {
    FileRecord {
        process, result, inode, device, inode_mode, flags, mode, group, padding, pieces
    }
    IoKey { start_time, inode, pid, device }
    IoSums { read_bytes, reads, written_bytes, writes }
    IoNote { process, key, table, names }
    FilesSettings { actions, calls }
}

const _: () = {
    assert!(size_of::<FileRecord>() == 152);
    assert!(offset_of!(FileRecord, pieces) == 136);
    assert!(size_of::<IoNote>() == 128);
    assert!(size_of::<FileCall>() == 16);
};
