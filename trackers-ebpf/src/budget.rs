//! How many events each cgroup may have.

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap,
};
use whalewatch_trackers_common::Budget;

use crate::{
    COMMON,
    atomic::{add, fetch_add},
    kernel::global,
};

/// Each cgroup's token bucket. The loader makes it larger where there is a budget.
#[map]
static BUDGETS: LruHashMap<u64, Budget> = LruHashMap::with_max_entries(1, 0);

/// Takes a token out of the cgroup's bucket; says, and counts, if there was none.
///
/// The bucket is the time at which it will be full again: each token puts that off by its cost, and
/// a bucket that would be full later than a burst takes has none left. Several CPUs may take at
/// once; what one finds too late it gives back.
///
/// # Safety
///
/// The loader has set the globals.
#[inline(always)]
pub unsafe fn refuses(cgroup_id: u64) -> bool {
    // SAFETY: globals of this object.
    let cost = unsafe { global(&raw const COMMON.budget.cost) };
    if cost == 0 {
        return false;
    }
    // SAFETY: it takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if BUDGETS.get_ptr_mut(cgroup_id).is_none() {
        // Another CPU may have been quicker.
        let _ = BUDGETS.insert(cgroup_id, Budget { full_at: now, refused: 0 }, BPF_NOEXIST.into());
    }
    // No memory for a bucket, which only the kernel's own shortage can bring about: nothing is
    // refused.
    let Some(bucket) = BUDGETS.get_ptr_mut(cgroup_id) else { return false };
    // SAFETY: the map's memory; all access to it is atomic.
    unsafe {
        let room = global(&raw const COMMON.budget.room);
        let full_at = &raw mut (*bucket).full_at;
        if full_at.read_volatile() < now {
            full_at.write_volatile(now);
        }
        let before = fetch_add(full_at, cost);
        if before + cost <= now + room {
            return false;
        }
        add(full_at, cost.wrapping_neg());
        add(&raw mut (*bucket).refused, 1);
    }
    true
}
