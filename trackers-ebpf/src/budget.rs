//! Budgets: how many events each cgroup may cause.

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::bpf_ktime_get_boot_ns, macros::map, maps::LruHashMap,
};
use whalewatch_trackers_common::Budget;

use crate::{
    COMMON,
    atomic::{add, fetch_add},
    kernel::global,
};

/// The token bucket of each cgroup. The loader enlarges the map if there is a budget.
#[map]
static BUDGETS: LruHashMap<u64, Budget> = LruHashMap::with_max_entries(1, 0);

/// Takes a token from the cgroup's bucket. If there is none, counts the refusal and returns true.
///
/// The bucket is stored as the time at which it will be full again. Each token postpones that time
/// by its cost; a bucket is empty if the time is further away than a burst. Several CPUs may take
/// tokens at once; one that takes too many gives its token back.
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
        // Another CPU may have inserted it first.
        let _ = BUDGETS.insert(cgroup_id, Budget { full_at: now, refused: 0 }, BPF_NOEXIST.into());
    }
    // The kernel has no memory for a bucket: refuse nothing.
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
