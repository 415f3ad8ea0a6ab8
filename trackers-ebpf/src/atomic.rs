//! Atomic addition. The standard library offers it only for targets with compare-and-exchange.

use core::arch::asm;

/// Adds `amount` and returns the previous value.
///
/// # Safety
///
/// `to` must be writable and aligned.
#[inline(always)]
pub unsafe fn fetch_add(to: *mut u64, amount: u64) -> u64 {
    let mut value = amount;
    // SAFETY: guaranteed by the caller.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({to} + 0), {value})",
            to = in(reg) to,
            value = inout(reg) value,
        );
    }
    value
}

/// Adds `amount`.
///
/// # Safety
///
/// `to` must be writable and aligned.
#[inline(always)]
pub unsafe fn add(to: *mut u64, amount: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        asm!("lock *(u64 *)({to} + 0) += {amount}", to = in(reg) to, amount = in(reg) amount);
    }
}
