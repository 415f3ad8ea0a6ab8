//! The syscalls tracker's programs: system calls, counted by cgroup, and chosen ones one by one.
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

use core::mem::size_of;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map},
    maps::{LruHashMap, PerCpuArray, PerCpuHashMap},
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::kinds::KIND_SYSCALL_CALL;
use whalewatch_trackers_common::{
    SYSCALLS,
    syscalls::{
        ACTION_CALL, ACTION_NO_RESULT, ACTION_STATS, ActiveCall, BUCKETS, CallKey, CallRecord,
        CallSums, SyscallsSettings,
    },
};
use whalewatch_trackers_ebpf::{
    TASK,
    atomic::add,
    kernel::{argument, load, number, opaque},
    output::{SCRATCH, begin, count_generated, count_lost, submit},
    process::{Subject, current, write_process},
    scope::watches,
    sums, syscall,
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: SyscallsSettings = SyscallsSettings::UNSET;

/// The call that each thread is executing, by thread id. An entry stays for the thread's next call,
/// which is cheaper than to remove and insert one per call. Entries of exited threads become the
/// least recently used ones, which the map evicts.
#[map]
static ACTIVE_CALLS: LruHashMap<u32, ActiveCall> = LruHashMap::with_max_entries(65_536, 0);

/// Sums of calls by cgroup and number, in tables 0 and 1.
#[map]
static CALLS_0: PerCpuHashMap<CallKey, CallSums> =
    PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
static CALLS_1: PerCpuHashMap<CallKey, CallSums> =
    PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Failed calls by cgroup, number and error, in tables 0 and 1.
#[map]
static ERRORS_0: PerCpuHashMap<CallKey, u64> =
    PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
static ERRORS_1: PerCpuHashMap<CallKey, u64> =
    PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// An empty sum, to insert into a table: it is too large for the stack. Nothing writes to it.
#[map]
static NOTHING: PerCpuArray<CallSums> = PerCpuArray::with_max_entries(1, 0);

/// The kernel's bound for error numbers (`include/linux/err.h`).
const MAX_ERRNO: i64 = 4095;

/// A system call starts.
#[btf_tracepoint(function = "sys_enter")]
fn syscalls_enter(ctx: BtfTracePointContext) -> u32 {
    let (regs, number) = (argument(&ctx, 0), number(&ctx, 1));
    // SAFETY: the tracepoint's arguments are the registers and the number; a system call is made by
    // the current task.
    unsafe {
        let action = action(number);
        if action == 0 || syscall::is_compat() {
            return 0;
        }
        let mut started = ActiveCall {
            number: number as u32,
            running: 1,
            time: bpf_ktime_get_ns(),
            arguments: [0; 6],
        };
        if action & ACTION_CALL != 0 {
            for (n, argument) in started.arguments.iter_mut().enumerate() {
                *argument = syscall::argument(regs, n);
            }
        }
        let tid: u32 = load(current(), &raw const (*TASK).pid);
        if let Some(entry) = ACTIVE_CALLS.get_ptr_mut(tid) {
            *entry = started;
        } else if ACTIVE_CALLS.insert(tid, started, BPF_ANY.into()).is_err() {
            count_generated();
            count_lost(Subject::current().cgroup_id);
        }
    }
    0
}

/// A system call returns. After `rt_sigreturn` and `execve` the registers no longer have its
/// number, but the entry in the map does.
#[btf_tracepoint(function = "sys_exit")]
fn syscalls_exit(ctx: BtfTracePointContext) -> u32 {
    let result = number(&ctx, 1) as i64;
    // SAFETY: as above; the entry is the map's memory, and only this thread uses it.
    unsafe {
        let tid: u32 = load(current(), &raw const (*TASK).pid);
        let Some(call) = ACTIVE_CALLS.get_ptr_mut(tid) else { return 0 };
        if (*call).running == 0 {
            return 0;
        }
        (*call).running = 0;
        let latency = bpf_ktime_get_ns().wrapping_sub((*call).time);
        let action = action((*call).number.into());
        let has_result = action & ACTION_NO_RESULT == 0;
        let failed = has_result && result < 0 && result >= -MAX_ERRNO;
        let subject = Subject::current();
        if !watches(&subject, failed) {
            return 0;
        }
        if action & ACTION_STATS != 0 {
            let errno = if failed { result.wrapping_neg() as u32 } else { 0 };
            count(subject.cgroup_id, (*call).number, errno, latency);
        }
        if action & ACTION_CALL == 0 || !begin(subject.cgroup_id) {
            return 0;
        }
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
        let record = scratch.cast::<CallRecord>();
        let length = size_of::<CallRecord>();
        write_process(&raw mut (*record).process, &subject, length, KIND_SYSCALL_CALL);
        (*record).result = result;
        (*record).latency = latency;
        (*record).arguments = (*call).arguments;
        (*record).number = (*call).number;
        (*record).has_result = has_result.into();
        submit(scratch.cast(), length as u32, subject.cgroup_id)
    }
}

/// What to do about the call of this number.
#[inline(always)]
unsafe fn action(number: u64) -> u8 {
    let number = opaque(number);
    if number >= SYSCALLS as u64 {
        return 0;
    }
    // SAFETY: within a global of this object.
    unsafe { (&raw const SETTINGS.actions).cast::<u8>().add(number as usize).read_volatile() }
}

/// Adds a call to the sums. A call for which a table has no room is lost.
#[inline(never)]
unsafe fn count(cgroup_id: u64, number: u32, errno: u32, latency: u64) -> u32 {
    let table = sums::table();
    let key = CallKey { cgroup_id, number, errno: 0 };
    let calls = if table == 0 { &CALLS_0 } else { &CALLS_1 };
    let Some(sum) = sums_of(calls, &key) else {
        count_generated();
        return count_lost(cgroup_id);
    };
    // SAFETY: the map's memory for this CPU.
    unsafe {
        add(&raw mut (*sum).count, 1);
        add(&raw mut (*sum).time, latency);
        if latency > (*sum).longest {
            (*sum).longest = latency;
        }
        let bucket = opaque(log2(latency));
        if bucket < BUCKETS as u64 {
            add((&raw mut (*sum).histogram).cast::<u64>().add(bucket as usize), 1);
        }
        if errno == 0 {
            return 0;
        }
        add(&raw mut (*sum).errors, 1);
        let key = CallKey { errno, ..key };
        let errors = if table == 0 { &ERRORS_0 } else { &ERRORS_1 };
        if errors.get_ptr_mut(key).is_none() {
            // Another CPU may have inserted it first.
            let _ = errors.insert(key, 0, BPF_NOEXIST.into());
        }
        let Some(sum) = errors.get_ptr_mut(key) else {
            count_generated();
            return count_lost(cgroup_id);
        };
        add(sum, 1);
    }
    0
}

#[inline(always)]
fn sums_of(calls: &PerCpuHashMap<CallKey, CallSums>, key: &CallKey) -> Option<*mut CallSums> {
    if let Some(sum) = calls.get_ptr_mut(key) {
        return Some(sum);
    }
    let nothing = NOTHING.get_ptr(0)?;
    // SAFETY: the map's memory, which nothing writes to. Another CPU may have inserted it first.
    let _ = unsafe { calls.insert(key, &*nothing, BPF_NOEXIST.into()) };
    calls.get_ptr_mut(key)
}

/// The bucket of a duration in nanoseconds.
#[inline(always)]
fn log2(mut number: u64) -> u64 {
    let mut log = 0;
    // The target has no instruction that counts leading zeroes.
    if number >= 1 << 32 {
        number >>= 32;
        log += 32;
    }
    if number >= 1 << 16 {
        number >>= 16;
        log += 16;
    }
    if number >= 1 << 8 {
        number >>= 8;
        log += 8;
    }
    if number >= 1 << 4 {
        number >>= 4;
        log += 4;
    }
    if number >= 1 << 2 {
        number >>= 2;
        log += 2;
    }
    if number >= 2 {
        log += 1;
    }
    if log < BUCKETS as u64 { log } else { BUCKETS as u64 - 1 }
}
