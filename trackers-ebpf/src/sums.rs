//! Sums in two tables: the programs add to one while user space reads and empties the other.

use aya_ebpf::{macros::map, maps::Array};

/// The table to add to: 0 or 1. User space switches it.
#[map]
static EPOCH: Array<u32> = Array::with_max_entries(1, 0);

/// The table to add to: 0 or 1.
#[inline(always)]
pub fn table() -> u32 {
    EPOCH.get(0).map_or(0, |epoch| {
        // SAFETY: the map's memory. The read is volatile because user space writes to it.
        unsafe { core::ptr::from_ref(epoch).read_volatile() }
    })
}
