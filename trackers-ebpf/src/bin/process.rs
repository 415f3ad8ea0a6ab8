//! The process tracker's programs: fork, exec, exit, and a snapshot of existing processes.
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

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{
        bpf_seq_write,
        generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    },
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::kinds::{
    KIND_PROCESS_EXEC, KIND_PROCESS_EXIT, KIND_PROCESS_FORK, KIND_PROCESS_SNAPSHOT,
};
use whalewatch_trackers_common::process::{
    ARGS_MAX, ExecRecord, ExitRecord, ForkRecord, PATH_MAX, ProcessSettings,
};
use whalewatch_trackers_common::{
    ExecOffsets, FLAG_ARGS_TRUNCATED, FLAG_ARGS_UNREADABLE, FLAG_PATH_TRUNCATED, ProcessHeader,
};
use whalewatch_trackers_ebpf::{
    TASK,
    kernel::{Kernel, argument, global, load, number},
    output::{RECORDS, SCRATCH, begin, count_lost, submit, submit_flags},
    process::{Subject, cgroup_id, write_process},
    scope::watches,
};

/// `SIGNAL_GROUP_EXIT` (`include/linux/sched/signal.h`).
const GROUP_EXIT: u32 = 4;

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: ProcessSettings = ProcessSettings::UNSET;

/// Processes whose exit was reported, by start time. If the tracepoint does not say which thread is
/// the last, the last two may both appear to be.
#[map]
static ENDED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(1024, 0);

const EXEC: *const ExecOffsets = &raw const SETTINGS.exec;

/// A process or thread was created.
#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(ctx: BtfTracePointContext) -> u32 {
    let (maker, child) = (argument(&ctx, 0), argument(&ctx, 1));
    // SAFETY: the tracepoint's arguments are the task that forks and the new one; the reserved
    // record is this program's alone.
    unsafe {
        let thread = load::<u32>(child, &raw const (*TASK).pid)
            != load::<u32>(child, &raw const (*TASK).tgid);
        let subject = Subject { task: child, leader: child, cgroup_id: cgroup_id(child) };
        if thread || !watches(&subject, false) || !begin(subject.cgroup_id) {
            return 0;
        }
        let Some(mut record) = RECORDS.reserve::<ForkRecord>(0) else {
            return count_lost(subject.cgroup_id);
        };
        let out = record.as_mut_ptr();
        write_process(
            &raw mut (*out).process,
            &subject,
            size_of::<ForkRecord>(),
            KIND_PROCESS_FORK,
        );
        let leader: Kernel = load(maker, &raw const (*TASK).group_leader);
        (*out).maker_start_time = load(leader, &raw const (*TASK).start_boottime);
        (*out).maker_pid = load(maker, &raw const (*TASK).tgid);
        (*out).padding = 0;
        record.submit(submit_flags());
    }
    0
}

/// A process replaced its program.
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(ctx: BtfTracePointContext) -> u32 {
    let (task, bprm) = (argument(&ctx, 0), argument(&ctx, 2));
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let scratch = scratch.cast::<u8>();
    // SAFETY: the tracepoint's arguments are the task and what is being executed; the scratch is
    // this CPU's alone.
    unsafe {
        let subject = Subject { task, leader: task, cgroup_id: cgroup_id(task) };
        if !watches(&subject, false) || !begin(subject.cgroup_id) {
            return 0;
        }
        // The header comes first. The code below has several outcomes, and the verifier checks
        // everything after it once for each.
        let record = scratch.cast::<ExecRecord>();
        write_process(&raw mut (*record).process, &subject, 0, KIND_PROCESS_EXEC);
        (*record).args_count = load(bprm, &raw const (*EXEC).bprm_argc);
        let filename: Kernel = load(bprm, &raw const (*EXEC).bprm_filename);
        let mm: Kernel = load(task, &raw const (*EXEC).mm);
        let args_start: u64 = load(mm, &raw const (*EXEC).mm_arg_start);
        let args_end: u64 = load(mm, &raw const (*EXEC).mm_arg_end);

        let tail = scratch.add(size_of::<ExecRecord>());
        let (path_length, path_flag) = read_path(tail, filename);
        let args_total = args_end.wrapping_sub(args_start) as u32;
        (*record).args_total = args_total;
        let (args_length, args_flag) =
            read_args(tail.add(path_length as usize), args_start, args_total);
        let length = size_of::<ExecRecord>() as u32 + path_length + args_length;
        (*record).process.record.length = length;
        (*record).process.record.flags |= path_flag | args_flag;
        (*record).path_length = path_length;
        (*record).args_length = args_length;
        submit(scratch.cast(), length, subject.cgroup_id)
    }
}

/// Copies the executable's path. Returns its length without the NUL byte, and a flag if it was cut.
#[inline(always)]
unsafe fn read_path(to: *mut u8, from: Kernel) -> (u32, u16) {
    const ROOM: usize = PATH_MAX + 2;
    // SAFETY: the helper checks the address it reads; `to` has the room.
    let read = unsafe { bpf_probe_read_kernel_str(to.cast(), ROOM as u32, from.cast()) };
    if read <= 0 {
        (0, FLAG_PATH_TRUNCATED)
    } else if read as usize >= ROOM {
        (PATH_MAX as u32, FLAG_PATH_TRUNCATED)
    } else {
        (read as u32 - 1, 0)
    }
}

/// Copies the arguments. Returns the copied length, and a flag if the arguments were cut or
/// unreadable.
#[inline(always)]
unsafe fn read_args(to: *mut u8, from: u64, total: u32) -> (u32, u16) {
    let length = total.min(ARGS_MAX as u32);
    // SAFETY: the helper checks the address it reads; `to` has the room.
    if unsafe { bpf_probe_read_user(to.cast(), length, from as *const c_void) } != 0 {
        return (0, FLAG_ARGS_UNREADABLE);
    }
    (length, if total > length { FLAG_ARGS_TRUNCATED } else { 0 })
}

/// A thread exits, perhaps the last one of its process.
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(ctx: BtfTracePointContext) -> u32 {
    let task = argument(&ctx, 0);
    // SAFETY: the tracepoint's first argument is the ending task; the reserved record is this
    // program's alone.
    unsafe {
        if !is_last(&ctx, task) {
            return 0;
        }
        let leader: Kernel = load(task, &raw const (*TASK).group_leader);
        let subject = Subject { task, leader, cgroup_id: cgroup_id(task) };
        if !watches(&subject, false) || !begin(subject.cgroup_id) {
            return 0;
        }
        let Some(mut record) = RECORDS.reserve::<ExitRecord>(0) else {
            return count_lost(subject.cgroup_id);
        };
        let out = record.as_mut_ptr();
        (*out).status = status(task, leader);
        write_process(
            &raw mut (*out).process,
            &subject,
            size_of::<ExitRecord>(),
            KIND_PROCESS_EXIT,
        );
        (*out).padding = 0;
        record.submit(submit_flags());
    }
    0
}

/// Whether the whole process exits with this thread.
#[inline(always)]
unsafe fn is_last(ctx: &BtfTracePointContext, task: Kernel) -> bool {
    // SAFETY: `task` is known to the verifier; the second argument is read only where there is one.
    unsafe {
        if global(&raw const SETTINGS.exit_has_group) != 0 {
            return number(ctx, 1) & 0xff != 0;
        }
        let signal: Kernel = load(task, &raw const (*TASK).signal);
        if load::<u32>(signal, &raw const (*TASK).signal_live) != 0 {
            return false;
        }
        if load::<u32>(signal, &raw const (*TASK).signal_threads) == 1 {
            return true;
        }
        let leader: Kernel = load(task, &raw const (*TASK).group_leader);
        let start: u64 = load(leader, &raw const (*TASK).start_boottime);
        let pid: u32 = load(task, &raw const (*TASK).tgid);
        ENDED.insert(start, pid, u64::from(BPF_NOEXIST)).is_ok()
    }
}

/// The status that `wait(2)` will return to the parent.
#[inline(always)]
unsafe fn status(task: Kernel, leader: Kernel) -> u32 {
    // SAFETY: both are known to the verifier.
    unsafe {
        let signal: Kernel = load(task, &raw const (*TASK).signal);
        if load::<u32>(signal, &raw const (*TASK).signal_flags) & GROUP_EXIT != 0 {
            return load(signal, &raw const (*TASK).signal_exit_code);
        }
        load(leader, &raw const (*TASK).exit_code)
    }
}

/// `struct bpf_iter__task`: the context of a task iterator (`kernel/bpf/task_iter.c`).
#[repr(C)]
struct IterContext {
    meta: *const *mut c_void,
    task: Kernel,
}

/// Writes one record for each running process.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn process_snapshot(ctx: *const IterContext) -> i32 {
    // SAFETY: the kernel's context; at the end of the list the task is null.
    unsafe {
        let task = (*ctx).task;
        if task.is_null()
            || load::<u32>(task, &raw const (*TASK).pid)
                != load::<u32>(task, &raw const (*TASK).tgid)
        {
            return 0;
        }
        let signal: Kernel = load(task, &raw const (*TASK).signal);
        let subject = Subject { task, leader: task, cgroup_id: cgroup_id(task) };
        if load::<u32>(signal, &raw const (*TASK).signal_live) == 0 || !watches(&subject, false) {
            return 0;
        }
        let mut record = core::mem::MaybeUninit::<ProcessHeader>::uninit();
        let out = record.as_mut_ptr();
        write_process(out, &subject, size_of::<ProcessHeader>(), KIND_PROCESS_SNAPSHOT);
        let seq = *(*ctx).meta;
        bpf_seq_write(seq.cast(), out.cast(), size_of::<ProcessHeader>() as u32);
    }
    0
}
