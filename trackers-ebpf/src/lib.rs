//! Parts that Whalewatch's kernel programs share: reading kernel structs, writing the header of a
//! process record, and submitting records to user space.
//!
//! The programs have no CO-RE relocations. The loader looks up member offsets in the running
//! kernel's type information and sets them as read-only globals, which the verifier treats as
//! constants. So `pointer + offset` is a direct load, without a helper call, that the verifier
//! checks against the kernel's types.
#![no_std]
// For atomic additions, which the compiler does not offer for this target.
#![feature(asm_experimental_arch)]
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

/// Set by the loader: the settings that every tracker's programs read.
#[unsafe(no_mangle)]
pub static COMMON: CommonSettings = CommonSettings::UNSET;

/// Offsets of kernel members for every process.
pub const TASK: *const TaskOffsets = &raw const COMMON.task;

/// The kernel checks the license of programs that use GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never runs: no program can panic, and the verifier would refuse an endless loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
