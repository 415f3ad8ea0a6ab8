//! The data that Whalewatch's kernel side and user side exchange: records, which go to user space
//! through a ring buffer, and settings (with the running kernel's member offsets), which go to the
//! programs as read-only globals.
//!
//! Every type here is plain data: `repr(C)`, explicit padding, no `bool`, no pointers. Both sides
//! compile this crate, so that they agree. Sizes and offsets are asserted at compile time, and a
//! test compares them with the type information inside the compiled objects.
#![no_std]

pub mod cgroup;
pub mod files;
pub mod kinds;
mod layout;
pub mod mounts;
pub mod network;
mod offsets;
pub mod oom;
pub mod privilege;
pub mod process;
mod record;
mod settings;
pub mod signals;
pub mod syscalls;

pub use layout::Layout;
pub use offsets::{CgroupOffsets, ExecOffsets, Member, PathOffsets, SyscallOffsets, TaskOffsets};
pub use record::{
    Counters, FLAG_ARGS_TRUNCATED, FLAG_ARGS_UNREADABLE, FLAG_KERNEL_THREAD, FLAG_PATH_TRUNCATED,
    FLAG_WHOLE_PROCESS, PIECE_MAX, ProcessHeader, RecordHeader, RingSettings, SCRATCH_BYTES,
    SCRATCH_MASK,
};
pub use settings::{
    BUDGET_CGROUPS, Budget, BudgetSettings, CommonSettings, LAYOUTS, NO_ARGUMENT, SCOPE_CGROUPS,
    SCOPE_LIST, SYSCALLS, ScopeSettings, WORKING_DIRECTORY,
};
