//! The cgroup tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{CgroupOffsets, RecordHeader};

/// The longest cgroup path in a record, without the closing NUL byte.
pub const CGROUP_PATH_MAX: usize = 4095;

/// The record of every cgroup event. The cgroup's path, from its hierarchy's root, follows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupRecord {
    /// Length, kind, flags and time.
    pub record: RecordHeader,
    /// The cgroup's id.
    pub cgroup_id: u64,
    /// When the process that moved started: nanoseconds since boot; 0 where none moved.
    pub start_time: u64,
    /// The hierarchy's id; 0 is the default (version 2) hierarchy.
    pub hierarchy: u32,
    /// How deep below its hierarchy's root the cgroup is.
    pub level: u32,
    /// The process that moved; 0 where none did.
    pub pid: u32,
    /// The thread that was named when it moved; 0 where none did.
    pub tid: u32,
    /// Bytes of the path that follows.
    pub path_length: u32,
    /// Always 0.
    pub padding: u32,
}

/// The read-only globals of the cgroup tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupSettings {
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub record: [CgroupRecord; 0],
    /// 1 to report the version 1 hierarchies too.
    pub all_hierarchies: u32,
    /// Where the kernel keeps what the records need.
    pub cgroup: CgroupOffsets,
}

impl CgroupSettings {
    /// What stands in the object before the loader sets it.
    pub const UNSET: Self = Self { record: [], all_hierarchies: 0, cgroup: CgroupOffsets::UNSET };
}

layouts! {
    CgroupRecord {
        record, cgroup_id, start_time, hierarchy, level, pid, tid, path_length, padding
    }
    CgroupSettings { all_hierarchies, cgroup, cgroup.task_group_leader }
}

const _: () = {
    assert!(size_of::<CgroupRecord>() == 56);
    assert!(offset_of!(CgroupRecord, cgroup_id) == 16);
    assert!(offset_of!(CgroupRecord, hierarchy) == 32);
    assert!(offset_of!(CgroupRecord, path_length) == 48);
    assert!(offset_of!(CgroupSettings, cgroup) == 4);
};
