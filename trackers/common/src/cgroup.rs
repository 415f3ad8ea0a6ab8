//! The cgroup tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{CgroupOffsets, RecordHeader};

/// The longest cgroup path in a record, without the closing NUL byte.
pub const CGROUP_PATH_MAX: usize = 4095;

/// The record of every cgroup event, followed by the cgroup's path below its hierarchy's root.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupRecord {
    /// Length, kind, flags and time.
    pub record: RecordHeader,
    /// The cgroup's id.
    pub cgroup_id: u64,
    /// When the moved process started: nanoseconds since boot; 0 if none moved.
    pub start_time: u64,
    /// The hierarchy's id; 0 is the default (version 2) hierarchy.
    pub hierarchy: u32,
    /// How many levels the cgroup is below its hierarchy's root.
    pub level: u32,
    /// The moved process; 0 if none moved.
    pub pid: u32,
    /// The moved thread that the kernel names; 0 if none moved.
    pub tid: u32,
    /// Length in bytes of the path that follows.
    pub path_length: u32,
    /// Always 0.
    pub padding: u32,
}

/// The read-only globals of the cgroup tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [CgroupRecord; 0],
    /// 1 to report version 1 hierarchies too.
    pub all_hierarchies: u32,
    /// Offsets of kernel members for the records.
    pub cgroup: CgroupOffsets,
}

impl CgroupSettings {
    /// The value in the object, which the loader replaces.
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
