//! Reading the kernel's structs.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext as _, programs::BtfTracePointContext};

/// A pointer to some struct of the kernel's; the verifier knows which.
pub type Kernel = *const u8;

/// Reads a read-only global. Volatile, since the value in the object is not the one that the loader
/// sets.
///
/// # Safety
///
/// `global` must point into a global of this object.
#[inline(always)]
pub unsafe fn global<T: Copy>(global: *const T) -> T {
    // SAFETY: the caller's.
    unsafe { global.read_volatile() }
}

/// Loads the member at `offset` (a read-only global) of the struct that `base` points to.
///
/// A stale or null pointer reads as zeroes: the kernel guards such loads. Volatile keeps the
/// compiler from merging loads of two types into one that the verifier cannot check.
///
/// # Safety
///
/// `base` must be a pointer that the verifier knows the type of.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: Kernel, offset: *const u32) -> T {
    // SAFETY: the caller's; the verifier refuses offsets that are not a member's.
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
    // SAFETY: the context is an array of 64-bit arguments; the verifier knows how many. Volatile,
    // or the compiler reads an argument before it is known to exist.
    unsafe { ctx.as_ptr().cast::<u64>().add(n).read_volatile() }
}

/// The same number, of which the compiler knows nothing any more: so that it checks a bound on the
/// very number that it uses then, as the verifier wants to see it.
#[inline(always)]
pub fn opaque(mut number: u64) -> u64 {
    // SAFETY: it copies a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// A map's address as helpers want it.
#[inline(always)]
pub fn map_address<T>(map: &T) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}
