//! Handing records to user space, and counting those that it could not take.

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
    },
    helpers::{bpf_ktime_get_boot_ns, bpf_ringbuf_query},
    macros::map,
    maps::{PerCpuArray, PerCpuHashMap, RingBuf},
};
use whalewatch_trackers_common::{Counters, RecordHeader, RingSettings};

use crate::kernel::{global, map_address};

/// Records on their way to user space; the loader sets the size.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// What happened to the records, by CPU.
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Lost records by cgroup id and CPU. Touched only when a record is lost.
#[map]
static LOST_BY_CGROUP: PerCpuHashMap<u64, u64> =
    PerCpuHashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Counts a record that is about to be made.
#[inline(always)]
pub fn count_generated() {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map's own memory for this CPU, on which no second program of this tracker can run.
        unsafe { (*counters).generated += 1 };
    }
}

/// Counts a record that the ring buffer had no room for.
#[inline(never)]
pub fn count_lost(cgroup_id: u64) -> u32 {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: as in `count_generated`.
        unsafe { (*counters).lost += 1 };
    }
    if LOST_BY_CGROUP.get_ptr_mut(cgroup_id).is_none() {
        // Another CPU may have been quicker; a full map leaves the loss in the total alone.
        let _ = LOST_BY_CGROUP.insert(cgroup_id, 0, u64::from(BPF_NOEXIST));
    }
    if let Some(lost) = LOST_BY_CGROUP.get_ptr_mut(cgroup_id) {
        // SAFETY: as above.
        unsafe { *lost += 1 };
    }
    0
}

/// The flags to submit a record with: wake user space only past the fill mark, and not for every record there.
///
/// # Safety
///
/// `ring` must point into a read-only global of this object.
#[inline(always)]
pub unsafe fn submit_flags(ring: *const RingSettings) -> u64 {
    // SAFETY: a map of this object.
    let waiting = unsafe { bpf_ringbuf_query(map_address(&RECORDS), u64::from(BPF_RB_AVAIL_DATA)) };
    // SAFETY: the caller's.
    let (from, to) =
        unsafe { (global(&raw const (*ring).wake_from), global(&raw const (*ring).wake_to)) };
    if waiting >= from && waiting < to {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Fills in what every record begins with.
///
/// # Safety
///
/// `record` must be writable.
#[inline(always)]
pub unsafe fn write_header(record: *mut RecordHeader, length: u32, kind: u16, flags: u16) {
    // SAFETY: the caller's; the helper only reads the clock.
    unsafe {
        (*record).length = length;
        (*record).kind = kind;
        (*record).flags = flags;
        (*record).time = bpf_ktime_get_boot_ns();
    }
}
