//! Reading kernel structs.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, programs::BtfTracePointContext};

/// A pointer to a kernel struct, whose type the verifier knows.
pub type Kernel = *const u8;

/// Reads a read-only global. The read is volatile because the loader replaces the value in the
/// object.
///
/// # Safety
///
/// `global` must point into a global of this object.
#[inline(always)]
pub unsafe fn global<T: Copy>(global: *const T) -> T {
    // SAFETY: guaranteed by the caller.
    unsafe { global.read_volatile() }
}

/// Loads the member at `offset` (a read-only global) of the struct that `base` points to.
///
/// A stale or null pointer reads as zeroes, because the kernel guards such loads. The load is
/// volatile so that the compiler does not merge loads from two types into one that the verifier
/// cannot check.
///
/// # Safety
///
/// `base` must be a pointer that the verifier knows the type of.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: Kernel, offset: *const u32) -> T {
    // SAFETY: guaranteed by the caller; the verifier refuses offsets that are not a member's.
    unsafe { base.add(global(offset) as usize).cast::<T>().read_volatile() }
}

/// The `n`th argument of a tracepoint, as a pointer.
#[inline(always)]
pub fn argument(ctx: &BtfTracePointContext, n: usize) -> Kernel {
    ctx.arg::<*const u8>(n)
}

/// The `n`th argument of a tracepoint, as a number.
#[inline(always)]
pub fn number(ctx: &BtfTracePointContext, n: usize) -> u64 {
    // SAFETY: the context is an array of 64-bit arguments, whose number the verifier knows. The
    // read is volatile so that the compiler does not move it before the check that the argument
    // exists.
    unsafe { ctx.as_ptr().cast::<u64>().add(n).read_volatile() }
}

/// Returns the same number, but hides its value from the compiler. The compiler then checks bounds
/// on the register that it uses afterwards, as the verifier requires.
#[inline(always)]
pub fn opaque(mut number: u64) -> u64 {
    // SAFETY: it copies a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// The address of a map, for helpers.
#[inline(always)]
pub fn map_address<T>(map: &T) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}
