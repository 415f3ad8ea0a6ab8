//! The oom tracker's programs: processes that the kernel kills because memory ran out.
//!
//! Since Linux 6.9 the tracepoint `mark_victim` has the task. Before, it has only the pid; but
//! right before it, the kernel sends the task the signal that kills it, and that tracepoint has the
//! task.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "kernel programs read through raw pointers; the verifier checks every one"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a chain of kernel pointers is one operation; the verifier checks each step"
)]

use core::{mem::MaybeUninit, mem::size_of};

use aya_ebpf::{
    helpers::bpf_ringbuf_output,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::kinds::KIND_OOM_KILL;
use whalewatch_trackers_common::oom::{NO_LIMIT, OomOffsets, OomRecord, OomSettings};
use whalewatch_trackers_ebpf::{
    TASK,
    kernel::{Kernel, argument, global, load, map_address, number},
    output::{RECORDS, begin, count_lost, submit_flags},
    path::{member, read},
    process::{Subject, cgroup_id, current, write_process},
    scope::watches,
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: OomSettings = OomSettings::UNSET;

/// Processes that the kernel is about to kill, by the id of the thread that receives the signal.
#[map]
static KILLED: LruHashMap<u32, OomRecord> = LruHashMap::with_max_entries(256, 0);

const OFFSETS: *const OomOffsets = &raw const SETTINGS.offsets;

/// `SIGKILL`, and the value for a signal from the kernel itself (`SEND_SIG_PRIV`).
const SIGKILL: u64 = 9;
const FROM_KERNEL: u64 = 1;
/// How many levels above a cgroup to search for one that has a limit.
const MOST_LEVELS: usize = 16;
/// Limits from this many pages on mean no limit: no machine has an exabyte.
const UNLIMITED: u64 = 1 << 48;

/// The kernel has chosen a process to kill.
#[btf_tracepoint(function = "mark_victim")]
fn oom_kill(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's first argument is the task or its pid, as the settings say.
    unsafe {
        if global(&raw const SETTINGS.victim_is_task) != 0 {
            let task = argument(&ctx, 0);
            let leader: Kernel = load(task, &raw const (*TASK).group_leader);
            let subject = Subject { task, leader, cgroup_id: cgroup_id(task) };
            if !watches(&subject, false) {
                return 0;
            }
            let mut record = MaybeUninit::<OomRecord>::uninit();
            fill(record.as_mut_ptr(), &subject);
            return report(record.as_ptr(), subject.cgroup_id);
        }
        let pid = number(&ctx, 0) as u32;
        let Some(record) = KILLED.get_ptr(pid) else { return 0 };
        let result = report(record, (*record).process.cgroup_id);
        let _ = KILLED.remove(pid);
        result
    }
}

/// The kernel kills a process for any reason. Remembers it, in case memory ran out.
#[btf_tracepoint(function = "signal_generate")]
fn oom_signal(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's third argument is the task that receives the signal.
    unsafe {
        if global(&raw const SETTINGS.victim_is_task) != 0
            || number(&ctx, 0) as u32 as u64 != SIGKILL
            || number(&ctx, 1) != FROM_KERNEL
        {
            return 0;
        }
        let task = argument(&ctx, 2);
        let leader: Kernel = load(task, &raw const (*TASK).group_leader);
        let subject = Subject { task, leader, cgroup_id: cgroup_id(task) };
        if !watches(&subject, false) {
            return 0;
        }
        let mut record = MaybeUninit::<OomRecord>::uninit();
        fill(record.as_mut_ptr(), &subject);
        let pid: u32 = load(task, &raw const (*TASK).pid);
        let _ = KILLED.insert(pid, &*record.as_ptr(), 0);
    }
    0
}

#[inline(always)]
unsafe fn report(record: *const OomRecord, cgroup_id: u64) -> u32 {
    if !begin(cgroup_id) {
        return 0;
    }
    // SAFETY: the record is whole; a map of this object.
    let result = unsafe {
        bpf_ringbuf_output(
            map_address(&RECORDS),
            record.cast_mut().cast(),
            size_of::<OomRecord>() as u64,
            submit_flags(),
        )
    };
    if result != 0 { count_lost(cgroup_id) } else { 0 }
}

/// Fills in the record of a killed process.
#[inline(always)]
unsafe fn fill(out: *mut OomRecord, subject: &Subject) {
    // SAFETY: `out` is writable, the subject known to the verifier.
    unsafe {
        write_process(&raw mut (*out).process, subject, size_of::<OomRecord>(), KIND_OOM_KILL);
        let mm: Kernel = load(subject.task, &raw const (*OFFSETS).mm);
        (*out).total = load(mm, &raw const (*OFFSETS).mm_total);
        let (first, stride) =
            (global(&raw const SETTINGS.rss), global(&raw const SETTINGS.rss_stride));
        for place in 0..4_u32 {
            let at = mm as u64 + u64::from(first + place * stride);
            // A per-CPU counter can be negative for a moment.
            let pages: i64 = read(at);
            (*out).pages[place as usize] = if pages < 0 { 0 } else { pages as u64 };
        }
        let signal: Kernel = load(subject.task, &raw const (*TASK).signal);
        let adjustment: i16 = load(signal, &raw const (*OFFSETS).signal_score_adjustment);
        (*out).score_adjustment = adjustment.into();
        let trigger: Kernel = load(current(), &raw const (*TASK).group_leader);
        (*out).trigger_pid = load(trigger, &raw const (*TASK).tgid);
        let comm = trigger.add(global(&raw const (*TASK).comm) as usize).cast::<u64>();
        let to = (&raw mut (*out).trigger_comm).cast::<u64>();
        to.write_unaligned(comm.read_volatile());
        to.add(1).write_unaligned(comm.add(1).read_volatile());
        let [limit, usage] = limit(subject.task);
        (*out).limit = limit;
        (*out).usage = usage;
    }
}

/// The limit of the task's memory cgroup, or of the nearest one above that has a limit; and the
/// usage of that cgroup.
#[inline(always)]
unsafe fn limit(task: Kernel) -> [u64; 2] {
    // SAFETY: the helpers check what they read.
    unsafe {
        let css_set: Kernel = load(task, &raw const (*TASK).cgroups);
        let list = css_set as u64 + u64::from(global(&raw const (*OFFSETS).css_set_subsystems));
        let place = u64::from(global(&raw const SETTINGS.memory_controller));
        let css: u64 = read(list + place * 8);
        if css == 0 {
            return [NO_LIMIT, NO_LIMIT];
        }
        let memcg = css.wrapping_sub(u64::from(global(&raw const (*OFFSETS).memcg_css)));
        let mut counter = memcg + u64::from(global(&raw const (*OFFSETS).memcg_memory));
        for _ in 0..MOST_LEVELS {
            let max: u64 = member(counter, &raw const (*OFFSETS).counter_max);
            if max < UNLIMITED {
                return [max, member(counter, &raw const (*OFFSETS).counter_usage)];
            }
            counter = member(counter, &raw const (*OFFSETS).counter_parent);
            if counter == 0 {
                break;
            }
        }
        [NO_LIMIT, NO_LIMIT]
    }
}
