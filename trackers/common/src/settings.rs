//! What user space tells every tracker's programs: the read-only global `COMMON` of each object.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::{Counters, ProcessHeader, RecordHeader, RingSettings, TaskOffsets};

/// User ids and command names that a scope can list, each.
pub const SCOPE_LIST: usize = 16;
/// Cgroups that a scope can tell of. The map takes room only for those that it holds.
pub const SCOPE_CGROUPS: u32 = 1 << 17;
/// Cgroups whose budgets are kept apart; those used least lately make room.
pub const BUDGET_CGROUPS: u32 = 8192;
/// System calls whose numbers can be told apart: no architecture has as many.
pub const SYSCALLS: usize = 512;

/// Index of an argument that is not there; it reads as 0.
pub const NO_ARGUMENT: u8 = 7;
/// Index of an argument that reads as the working directory (`AT_FDCWD`).
pub const WORKING_DIRECTORY: u8 = 6;

/// What is watched.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ScopeSettings {
    /// A process whose doings, and whose children's, are passed over; 0 for none.
    pub own_pid: u32,
    /// 1 where the map `SCOPE` says which cgroups are watched.
    pub by_cgroup: u32,
    /// 1 where cgroups are watched of which neither the map tells nor of any above them.
    pub unlisted: u32,
    /// 1 where only what failed is watched.
    pub failed_only: u32,
    /// How many of `uids` count; 0 for all users.
    pub uid_count: u32,
    /// How many of `comms` count; 0 for all commands.
    pub comm_count: u32,
    /// Effective user ids.
    pub uids: [u32; SCOPE_LIST],
    /// Command names, padded with NUL bytes, as two words each.
    pub comms: [[u64; 2]; SCOPE_LIST],
}

/// How many events each cgroup may have: a token bucket in the form of the time by which the tokens
/// that were taken will have come back (GCRA).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BudgetSettings {
    /// Nanoseconds until a token comes back; 0 for no budget.
    pub cost: u64,
    /// Nanoseconds until a whole burst has come back.
    pub room: u64,
}

/// A cgroup's token bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Budget {
    /// When all tokens will be back: nanoseconds since boot.
    pub full_at: u64,
    /// Events that were refused.
    pub refused: u64,
}

/// What user space tells every tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CommonSettings {
    /// Takes no room: it brings the type into the object's type information, where a test compares
    /// it.
    pub counters: [Counters; 0],
    /// As `counters`.
    pub bucket: [Budget; 0],
    /// How to use the ring buffer.
    pub ring: RingSettings,
    /// How many events each cgroup may have.
    pub budget: BudgetSettings,
    /// What is watched.
    pub scope: ScopeSettings,
    /// Where the kernel keeps what is common to all processes.
    pub task: TaskOffsets,
    /// Keeps the size a multiple of 8.
    pub padding: u32,
}

impl CommonSettings {
    /// What stands in the object before the loader sets it.
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
