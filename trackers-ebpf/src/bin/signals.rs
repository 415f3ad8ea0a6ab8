//! The signals tracker's program: which process sends which signal to which process.
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

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use whalewatch_trackers_common::kinds::KIND_SIGNAL_SEND;
use whalewatch_trackers_common::signals::{SignalRecord, SignalsSettings};
use whalewatch_trackers_ebpf::{
    TASK,
    kernel::{Kernel, argument, global, load, number},
    output::{RECORDS, begin, count_lost, submit_flags},
    path::member,
    process::{Subject, cgroup_id, write_process},
    scope::watches,
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: SignalsSettings = SignalsSettings::UNSET;

/// Values in place of a signal's information: the signal is from the current process
/// (`SEND_SIG_NOINFO`) or from the kernel (`SEND_SIG_PRIV`). Both are in
/// `include/linux/sched/signal.h`.
const NO_INFORMATION: u64 = 0;
const FROM_KERNEL: u64 = 1;
/// `SI_KERNEL`, and the codes of signals that processes send: `SI_USER`, `SI_QUEUE`, `SI_TKILL`.
const SI_KERNEL: i32 = 0x80;
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;

/// A signal is sent.
#[btf_tracepoint(function = "signal_generate")]
fn signal_send(ctx: BtfTracePointContext) -> u32 {
    let (signal, information) = (number(&ctx, 0) as u32, number(&ctx, 1));
    let (task, group, result) = (argument(&ctx, 2), number(&ctx, 3), number(&ctx, 4) as u32);
    // SAFETY: the tracepoint's third argument is the task that receives the signal; the reserved
    // record is this program's alone.
    unsafe {
        if (global(&raw const SETTINGS.signals) >> (signal.wrapping_sub(1) & 63)) & 1 == 0 {
            return 0;
        }
        let code = match information {
            NO_INFORMATION => SI_USER,
            FROM_KERNEL => SI_KERNEL,
            pointer => member(pointer, &raw const SETTINGS.code),
        };
        let from_kernel = !matches!(code, SI_USER | SI_QUEUE | SI_TKILL);
        if from_kernel && global(&raw const SETTINGS.kernel) == 0 {
            return 0;
        }
        let leader: Kernel = load(task, &raw const (*TASK).group_leader);
        let target = Subject { task, leader, cgroup_id: cgroup_id(task) };
        // The kernel also sends signals in interrupts, where the current task is unrelated.
        let sender = if from_kernel {
            Subject { task, leader, cgroup_id: target.cgroup_id }
        } else {
            Subject::current()
        };
        let failed = result != 0;
        if !watches(&sender, failed) && !watches(&target, failed) {
            return 0;
        }
        if !begin(sender.cgroup_id) {
            return 0;
        }
        let Some(mut record) = RECORDS.reserve::<SignalRecord>(0) else {
            return count_lost(sender.cgroup_id);
        };
        let out = record.as_mut_ptr();
        let size = size_of::<SignalRecord>();
        write_process(&raw mut (*out).process, &sender, size, KIND_SIGNAL_SEND);
        write_process(&raw mut (*out).target, &target, size, KIND_SIGNAL_SEND);
        (*out).number = signal;
        (*out).code = code;
        (*out).result = result;
        (*out).group = u32::from(group as u32 != 0);
        (*out).from_kernel = from_kernel.into();
        (*out).padding = 0;
        record.submit(submit_flags());
    }
    0
}
