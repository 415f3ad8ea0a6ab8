//! The files tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{ProcessHeader, SYSCALLS};

/// The file has no name any more.
pub const FLAG_FILE_DELETED: u16 = 1 << 5;
/// The path is the kernel's, not the one that was asked for.
pub const FLAG_FILE_RESOLVED: u16 = 1 << 6;
/// The second path in the record is a prefix.
pub const FLAG_SECOND_TRUNCATED: u16 = 1 << 7;

/// System calls with files that can be told apart.
pub const FILE_CALLS: usize = 64;

/// Where a system call has its arguments, by their index; [`NO_ARGUMENT`](crate::NO_ARGUMENT) for
/// none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FileCall {
    /// One of the `KIND_FILE_` constants.
    pub kind: u16,
    /// The directory that the path begins at.
    pub base: u8,
    /// The path, if it names the file by one.
    pub path: u8,
    /// The directory that the second path begins at.
    pub second_base: u8,
    /// The second path: the new name.
    pub second_path: u8,
    /// Its flags.
    pub flags: u8,
    /// The permissions, or the user id.
    pub mode: u8,
    /// The group id.
    pub group: u8,
    /// A descriptor: of the file that is meant, or read from.
    pub fd: u8,
    /// A descriptor that is written to.
    pub second_fd: u8,
    /// A `struct open_how`.
    pub how: u8,
    /// Flags that it always has.
    pub fixed_flags: u32,
}

/// The record of everything but reading and writing. Behind it come up to four pieces: names up
/// from the file or from the directory that the path begins at, leaf first, each closed by a NUL
/// byte; the path as it was asked for; both again for the second path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FileRecord {
    /// The process.
    pub process: ProcessHeader,
    /// What the call gave: below 0 the negative error number.
    pub result: i64,
    /// Number of the file's inode; 0 where not known.
    pub inode: u64,
    /// Its device, as the kernel writes it: the major number from bit 20 on.
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
    /// Bytes of each piece.
    pub pieces: [u32; 4],
}

/// A process and a file, while bytes are summed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct IoKey {
    /// When the process started.
    pub start_time: u64,
    /// Number of the inode.
    pub inode: u64,
    /// The process.
    pub pid: u32,
    /// The device.
    pub device: u32,
}

/// What was summed.
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

/// Which process and file a key stands for. The names up from the file follow, as in
/// [`FileRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct IoNote {
    /// The process.
    pub process: ProcessHeader,
    /// The key.
    pub key: IoKey,
    /// Which of the tables it is in.
    pub table: u32,
    /// Bytes of the names.
    pub names: u32,
}

/// The read-only globals of the files tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FilesSettings {
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub record: [FileRecord; 0],
    /// As `record`.
    pub note: [IoNote; 0],
    /// As `record`.
    pub sums: [IoSums; 0],
    /// Which of `calls` a system call is, by its number; 0 for none.
    pub actions: [u8; SYSCALLS],
    /// The system calls.
    pub calls: [FileCall; FILE_CALLS],
}

impl FilesSettings {
    /// What stands in the object before the loader sets it.
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
