//! The settings that every tracker's programs read: the read-only global `COMMON` of each object.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{Counters, ProcessHeader, RecordHeader, RingSettings, TaskOffsets};

/// The most user ids, and the most command names, in a scope.
pub const SCOPE_LIST: usize = 16;
/// The most cgroups in a scope. The map only uses memory for those that it has.
pub const SCOPE_CGROUPS: u32 = 1 << 17;
/// The most cgroups with a budget at a time. The least recently used ones are evicted.
pub const BUDGET_CGROUPS: u32 = 8192;
/// Size of tables by system call number. No architecture has as many.
pub const SYSCALLS: usize = 512;

/// Index of a missing argument, which reads as 0.
pub const NO_ARGUMENT: u8 = 7;
/// Index of an argument that reads as the working directory (`AT_FDCWD`).
pub const WORKING_DIRECTORY: u8 = 6;

/// Which processes and results to report.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ScopeSettings {
    /// A process to skip together with its children; 0 for none.
    pub own_pid: u32,
    /// 1 if the map `SCOPE` says which cgroups are watched.
    pub by_cgroup: u32,
    /// 1 to watch cgroups that are not in the map and have no ancestor in it.
    pub unlisted: u32,
    /// 1 to report only failures.
    pub failed_only: u32,
    /// Number of valid elements of `uids`; 0 for all users.
    pub uid_count: u32,
    /// Number of valid elements of `comms`; 0 for all commands.
    pub comm_count: u32,
    /// Effective user ids.
    pub uids: [u32; SCOPE_LIST],
    /// Command names, padded with NUL bytes, as two words each.
    pub comms: [[u64; 2]; SCOPE_LIST],
}

/// How many events each cgroup may cause: a token bucket, stored as the time at which it will be
/// full again (generic cell rate algorithm).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BudgetSettings {
    /// Nanoseconds until a token is back; 0 for no budget.
    pub cost: u64,
    /// Nanoseconds until a whole burst is back.
    pub room: u64,
}

/// A cgroup's token bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Budget {
    /// When the bucket will be full: nanoseconds since boot.
    pub full_at: u64,
    /// Events that were refused.
    pub refused: u64,
}

/// The settings that every tracker's programs read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CommonSettings {
    /// Occupies no space: it adds the type to the object's type information, for a test.
    pub counters: [Counters; 0],
    /// As `counters`.
    pub bucket: [Budget; 0],
    /// How to use the ring buffer.
    pub ring: RingSettings,
    /// How many events each cgroup may cause.
    pub budget: BudgetSettings,
    /// Which processes and results to report.
    pub scope: ScopeSettings,
    /// Offsets of kernel members for every process.
    pub task: TaskOffsets,
    /// Keeps the size a multiple of 8.
    pub padding: u32,
}

impl CommonSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self {
        counters: [],
        bucket: [],
        ring: RingSettings::UNSET,
        budget: BudgetSettings { cost: 0, room: 0 },
        scope: ScopeSettings {
            own_pid: 0,
            by_cgroup: 0,
            unlisted: 0,
            failed_only: 0,
            uid_count: 0,
            comm_count: 0,
            uids: [0; SCOPE_LIST],
            comms: [[0; 2]; SCOPE_LIST],
        },
        task: TaskOffsets::UNSET,
        padding: 0,
    };
}

layouts! {
    RecordHeader { length, kind, flags, time }
    ProcessHeader {
        record, pid, tid, parent_pid, namespace_pid, start_time, parent_start_time, cgroup_id, uid,
        gid, user_namespace, pid_namespace, mnt_namespace, net_namespace, comm
    }
    CommonSettings { ring, ring.wake_to, budget, budget.room, scope, scope.comms, task }
    Counters { generated, lost, refused }
    Budget { full_at, refused }
}

const _: () = {
    assert!(offset_of!(CommonSettings, budget) == 16);
    assert!(offset_of!(CommonSettings, scope) == 32);
    assert!(offset_of!(ScopeSettings, comms) == 88);
    assert!(size_of::<Budget>() == 16);
};
