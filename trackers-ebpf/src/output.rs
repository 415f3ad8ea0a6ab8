//! Submitting records to user space, and counting those for which there is no room.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
    },
    helpers::{bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_ringbuf_query},
    macros::map,
    maps::{PerCpuArray, PerCpuHashMap, RingBuf},
};
use whalewatch_trackers_common::{Counters, RecordHeader, SCRATCH_BYTES};

use crate::{
    COMMON,
    atomic::add,
    budget,
    kernel::{global, map_address, opaque},
};

/// Records on their way to user space; the loader sets the size.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// A buffer in which a record with a variable tail is assembled: its fixed part, then the pieces of
/// its tail.
#[repr(C, align(8))]
pub struct Scratch(pub [u8; SCRATCH_BYTES]);

/// One scratch buffer per CPU. Only programs that run in process context use it, since these do not
/// interrupt each other.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Counts of records, by CPU.
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Lost records by cgroup id and CPU. Touched only when a record is lost.
#[map]
static LOST_BY_CGROUP: PerCpuHashMap<u64, u64> =
    PerCpuHashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Counts a record that is about to be written.
#[inline(always)]
pub fn count_generated() {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the map's own memory for this CPU.
        unsafe { add(&raw mut (*counters).generated, 1) };
    }
}

/// Counts a record that a budget refused.
#[inline(always)]
pub fn count_refused() {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: as in `count_generated`.
        unsafe { add(&raw mut (*counters).refused, 1) };
    }
}

/// Counts a record for which the ring buffer or a table has no room.
#[inline(never)]
pub fn count_lost(cgroup_id: u64) -> u32 {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: as in `count_generated`.
        unsafe { add(&raw mut (*counters).lost, 1) };
    }
    if LOST_BY_CGROUP.get_ptr_mut(cgroup_id).is_none() {
        // Another CPU may have inserted it first. With a full map only the total counts the loss.
        let _ = LOST_BY_CGROUP.insert(cgroup_id, 0, u64::from(BPF_NOEXIST));
    }
    if let Some(lost) = LOST_BY_CGROUP.get_ptr_mut(cgroup_id) {
        // SAFETY: as above.
        unsafe { add(lost, 1) };
    }
    0
}

/// Counts a record of this cgroup and takes a token from its budget. Returns whether to write the
/// record. Call it last: if it returns true, submit the record or count it as lost.
#[inline(always)]
pub fn begin(cgroup_id: u64) -> bool {
    count_generated();
    // SAFETY: a global of this object.
    if unsafe { budget::refuses(cgroup_id) } {
        count_refused();
        return false;
    }
    true
}

/// Submits a record from the scratch buffer.
///
/// # Safety
///
/// `record` must point to `length` initialised bytes.
#[inline(always)]
pub unsafe fn submit(record: *mut c_void, length: u32, cgroup_id: u64) -> u32 {
    // SAFETY: guaranteed by the caller.
    if unsafe { submit_note(record, length) } { 0 } else { count_lost(cgroup_id) }
}

/// Like [`submit`], for a note, which is not an event and not counted. Returns whether there was
/// room.
///
/// # Safety
///
/// As [`submit`].
#[inline(always)]
pub unsafe fn submit_note(record: *mut c_void, length: u32) -> bool {
    let length = opaque(length.into());
    if length > SCRATCH_BYTES as u64 {
        return false; // Impossible, but the verifier requires the check.
    }
    // SAFETY: guaranteed by the caller; the map is one of this object's.
    let result =
        unsafe { bpf_ringbuf_output(map_address(&RECORDS), record, length, submit_flags()) };
    result == 0
}

/// The flags to submit a record with. They wake user space while the fill level is between two
/// marks, so that it is not woken for every record.
#[inline(always)]
pub fn submit_flags() -> u64 {
    // SAFETY: a map of this object, and its globals.
    let (waiting, from, to) = unsafe {
        (
            bpf_ringbuf_query(map_address(&RECORDS), u64::from(BPF_RB_AVAIL_DATA)),
            global(&raw const COMMON.ring.wake_from),
            global(&raw const COMMON.ring.wake_to),
        )
    };
    if waiting >= from && waiting < to {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Writes the header of a record.
///
/// # Safety
///
/// `record` must be writable.
#[inline(always)]
pub unsafe fn write_header(record: *mut RecordHeader, length: u32, kind: u16, flags: u16) {
    // SAFETY: guaranteed by the caller; the helper only reads the clock.
    unsafe {
        (*record).length = length;
        (*record).kind = kind;
        (*record).flags = flags;
        (*record).time = bpf_ktime_get_boot_ns();
    }
}
