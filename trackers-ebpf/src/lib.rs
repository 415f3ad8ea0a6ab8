//! What Whalewatch's kernel programs share: reading the kernel's structs, the header of a process
//! record, and handing records to user space.
//!
//! The programs carry no CO-RE relocations. The loader looks member offsets up in the running
//! kernel's type information and sets them as read-only globals, which the verifier knows as
//! constants: `pointer + offset` is then a direct load that it checks against the kernel's types,
//! with no helper call.
#![no_std]
#![feature(asm_experimental_arch)] // For atomic adding: the compiler has it for this target in no other way.
#![expect(
    unsafe_code,
    reason = "kernel programs read through raw pointers; the verifier checks every one"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a chain of kernel pointers is one operation; the verifier checks each step"
)]

pub mod atomic;
pub mod budget;
pub mod kernel;
pub mod output;
pub mod path;
pub mod process;
pub mod scope;
pub mod sums;
pub mod syscall;

use whalewatch_trackers_common::{CommonSettings, TaskOffsets};

/// Set by the loader: what every tracker's programs are told.
#[unsafe(no_mangle)]
pub static COMMON: CommonSettings = CommonSettings::UNSET;

/// Where the kernel keeps what is common to all processes.
pub const TASK: *const TaskOffsets = &raw const COMMON.task;

/// The kernel checks this when a program uses helpers that it keeps for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never runs: the programs have no path that panics, and the verifier would refuse one that loops.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
