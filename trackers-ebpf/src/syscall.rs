//! System calls: their numbers and arguments.

use whalewatch_trackers_common::{SYSCALLS, SyscallOffsets};

use crate::{
    kernel::{Kernel, global, load},
    process::current,
};

/// Set by the loader: offsets of a system call's number and arguments.
#[unsafe(no_mangle)]
static SYSCALL_OFFSETS: SyscallOffsets = SyscallOffsets::UNSET;

const OFFSETS: *const SyscallOffsets = &raw const SYSCALL_OFFSETS;

/// What to do about each system call, by number; 0 for nothing. User space fills it in, so that the
/// programs need no numbers, which depend on the architecture.
pub type Actions = [u8; SYSCALLS];

/// Arguments by index: the six of the call, then the working directory (6), then 0 for a missing
/// one (7).
pub type Arguments = [u64; 8];

/// `AT_FDCWD`, as a register has it.
const AT_FDCWD: u64 = -100_i64 as u64;

/// Reads all arguments.
///
/// # Safety
///
/// `regs` must be a tracepoint's registers.
#[inline(always)]
pub unsafe fn arguments(regs: Kernel) -> Arguments {
    let mut arguments: Arguments = [0, 0, 0, 0, 0, 0, AT_FDCWD, 0];
    for (n, place) in arguments.iter_mut().enumerate().take(6) {
        // SAFETY: guaranteed by the caller.
        *place = unsafe { argument(regs, n) };
    }
    arguments
}

/// The argument at an index, which is part of a call's description, a global of this object.
///
/// # Safety
///
/// `index` must be readable.
#[inline(always)]
pub unsafe fn get(arguments: &Arguments, index: *const u8) -> u64 {
    // SAFETY: guaranteed by the caller; the index is kept within the array.
    unsafe {
        let index = index.read_volatile() as usize & 7;
        arguments.as_ptr().add(index).read_volatile()
    }
}

/// What to do about the call in these registers. 32-bit calls, whose numbers stand for other calls,
/// are skipped.
///
/// # Safety
///
/// `regs` must be a tracepoint's registers; `actions` a global of this object.
#[inline(always)]
pub unsafe fn action(regs: Kernel, actions: *const Actions) -> u8 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let number: u64 = load(regs, &raw const (*OFFSETS).number);
        if number >= SYSCALLS as u64 {
            return 0;
        }
        let action = actions.cast::<u8>().add(number as usize).read_volatile();
        if action == 0 || is_compat() { 0 } else { action }
    }
}

/// Whether the current task is in a 32-bit system call.
///
/// # Safety
///
/// Only in process context.
#[inline(always)]
pub unsafe fn is_compat() -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let word: u32 = load(current(), &raw const (*OFFSETS).compat_word);
        word & global(&raw const (*OFFSETS).compat_bit) != 0
    }
}

/// The `n`th argument.
///
/// # Safety
///
/// `regs` must be a tracepoint's registers; `n` below 6 and known at compile time.
#[inline(always)]
pub unsafe fn argument(regs: Kernel, n: usize) -> u64 {
    // SAFETY: guaranteed by the caller.
    unsafe { load(regs, (&raw const (*OFFSETS).arguments).cast::<u32>().add(n)) }
}
