//! What crosses between Whalewatch's kernel side and its user side: records that go up through a
//! ring buffer, and settings (with the running kernel's member offsets) that go down as read-only
//! globals.
//!
//! Every type here is plain data: `repr(C)`, explicit padding, no `bool`, no pointers. Both sides
//! compile this one crate, so that they cannot disagree; sizes and offsets are asserted while
//! compiling, and a test compares them with the type information inside the compiled objects.
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
