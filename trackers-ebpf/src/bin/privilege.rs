//! The privilege tracker's programs: calls that change the ids, capabilities or namespaces of a
//! thread, or that access other processes or the kernel.
//!
//! The state before is kept when a call starts ([`BEFORE`]), and reported with the state after when
//! it returns. All other calls cost only the look-up of a number.
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

#[path = "privilege/given.rs"]
mod given;
#[path = "privilege/state.rs"]
mod state;
#[path = "privilege/target.rs"]
mod target;

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::kinds::{KIND_PRIVILEGE_CAPSET, KIND_PRIVILEGE_MODULE};
use whalewatch_trackers_common::privilege::{
    FLAG_PRIVILEGE_BEFORE, FLAG_PRIVILEGE_TARGET, FORM_BPF, FORM_CLONE, FORM_CLONE3, FORM_EXEC,
    FORM_FINIT_MODULE, FORM_INIT_MODULE, FORM_PTRACE, FORM_UNSHARE, MODULE_NAME_WORDS,
    PRIVILEGE_CALLS, PrivilegeCall, PrivilegeChild, PrivilegeRecord, PrivilegeSettings,
    PrivilegeState,
};
use whalewatch_trackers_ebpf::{
    TASK,
    kernel::{Kernel, argument, global, load, number},
    output::{SCRATCH, begin, submit},
    path::read_user,
    process::{Subject, cgroup_id, current, write_process},
    scope::watches,
    syscall::{self, Arguments},
};

use given::write_given;
use state::{is_changed, write_state};
use target::write_traced;

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: PrivilegeSettings = PrivilegeSettings::UNSET;

/// The state of threads before the call that they are in, by the address of the task. A thread that
/// is killed in a call leaves its entry behind; the map evicts the least recently used ones.
#[map]
static BEFORE: LruHashMap<u64, PrivilegeState> = LruHashMap::with_max_entries(8192, 0);
/// New processes, by the task whose call created them.
#[map]
static CHILDREN: LruHashMap<u64, PrivilegeChild> = LruHashMap::with_max_entries(1024, 0);
/// Names of modules that are being loaded, by the loading task.
#[map]
static MODULES: LruHashMap<u64, [u64; MODULE_NAME_WORDS]> = LruHashMap::with_max_entries(1024, 0);

/// All `CLONE_NEW` flags. In `clone`, the bit for time belongs to the signal, so only `clone3` and
/// `unshare` have it.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
const NEW_TIME: u64 = 0x80;
/// The first number of the newer requests of `ptrace`.
const NEWER_REQUESTS: u64 = 0x4200;

/// A system call starts.
#[btf_tracepoint(function = "sys_enter")]
fn privilege_enter(ctx: BtfTracePointContext) -> u32 {
    let regs = argument(&ctx, 0);
    // SAFETY: the tracepoint's first argument is the registers; a system call is made by the
    // current task.
    unsafe {
        let action = syscall::action(regs, &raw const SETTINGS.actions);
        if action == 0 {
            return 0;
        }
        let call = call(action);
        if global(&raw const (*call).kind) > KIND_PRIVILEGE_CAPSET {
            return 0;
        }
        let form = global(&raw const (*call).form);
        let first = syscall::argument(regs, 0);
        if form == FORM_CLONE && first & NEW_NAMESPACES == 0 {
            return 0;
        }
        if form == FORM_CLONE3 {
            // 0 may also mean that the page is not in memory yet.
            let flags: u64 = read_user(first);
            if flags != 0 && flags & (NEW_NAMESPACES | NEW_TIME) == 0 {
                return 0;
            }
        }
        let mut before = MaybeUninit::<PrivilegeState>::uninit();
        write_state(current(), before.as_mut_ptr());
        let _ = BEFORE.insert(current() as u64, before.assume_init_ref(), BPF_ANY.into());
    }
    0
}

/// A process or a thread was created.
#[btf_tracepoint(function = "sched_process_fork")]
fn privilege_fork(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are two tasks; the first is the current one.
    unsafe {
        let maker = current() as u64;
        if BEFORE.get_ptr(maker).is_none() {
            return 0;
        }
        let task = argument(&ctx, 1);
        let leader: Kernel = load(task, &raw const (*TASK).group_leader);
        let subject = Subject { task, leader, cgroup_id: cgroup_id(task) };
        let mut child = MaybeUninit::<PrivilegeChild>::uninit();
        let out = child.as_mut_ptr();
        write_process(&raw mut (*out).process, &subject, 0, 0);
        write_state(task, &raw mut (*out).state);
        let _ = CHILDREN.insert(maker, child.assume_init_ref(), BPF_ANY.into());
    }
    0
}

/// A module is about to be loaded, and the kernel knows its name. Kernels without modules do not
/// have this tracepoint.
#[btf_tracepoint(function = "module_load")]
fn privilege_module(ctx: BtfTracePointContext) -> u32 {
    let module = argument(&ctx, 0);
    let mut name = [0_u64; MODULE_NAME_WORDS];
    // SAFETY: the tracepoint's argument is a module, whose name has this many bytes.
    unsafe {
        let from = module.add(global(&raw const SETTINGS.optional.module_name) as usize);
        for (n, word) in name.iter_mut().enumerate() {
            *word = from.cast::<u64>().add(n).read_volatile();
        }
        let _ = MODULES.insert(current() as u64, &name, BPF_ANY.into());
    }
    0
}

/// A system call returns.
#[btf_tracepoint(function = "sys_exit")]
fn privilege_exit(ctx: BtfTracePointContext) -> u32 {
    let (regs, result) = (argument(&ctx, 0), number(&ctx, 1) as i64);
    // SAFETY: the tracepoint's arguments are the registers and the result; a system call is made by
    // the current task.
    unsafe {
        let action = syscall::action(regs, &raw const SETTINGS.actions);
        if action == 0 {
            return 0;
        }
        let call = call(action);
        let (kind, form) = (global(&raw const (*call).kind), global(&raw const (*call).form));
        let arguments = syscall::arguments(regs);
        if !reports(form, &arguments, result) {
            return 0;
        }
        let subject = Subject::current();
        if watches(&subject, result < 0) {
            emit(&subject, call, &arguments, result);
        }
        let key = current() as u64;
        if kind <= KIND_PRIVILEGE_CAPSET {
            let _ = BEFORE.remove(key);
            if form == FORM_CLONE || form == FORM_CLONE3 {
                let _ = CHILDREN.remove(key);
            }
        } else if kind == KIND_PRIVILEGE_MODULE {
            let _ = MODULES.remove(key);
        }
    }
    0
}

/// The call that an action stands for.
#[inline(always)]
unsafe fn call(action: u8) -> *const PrivilegeCall {
    // SAFETY: the index is kept within the list.
    unsafe {
        let calls = (&raw const SETTINGS.calls).cast::<PrivilegeCall>();
        calls.add(action as usize % PRIVILEGE_CALLS)
    }
}

/// Whether to report a call with these arguments.
#[inline(always)]
unsafe fn reports(form: u16, arguments: &Arguments, result: i64) -> bool {
    // SAFETY: globals of this object; the helper checks what it reads.
    unsafe {
        match form {
            // The new process also returns from the call, with result 0.
            FORM_CLONE => result != 0 && arguments[0] & NEW_NAMESPACES != 0,
            FORM_CLONE3 => {
                result != 0 && read_user::<u64>(arguments[0]) & (NEW_NAMESPACES | NEW_TIME) != 0
            }
            FORM_UNSHARE => arguments[0] & (NEW_NAMESPACES | NEW_TIME) != 0,
            FORM_PTRACE => {
                let enabled = global(&raw const SETTINGS.ptrace);
                let request = arguments[0];
                let newer = request.wrapping_sub(NEWER_REQUESTS);
                if request < 32 {
                    enabled >> (request & 63) & 1 != 0
                } else if newer < 32 {
                    enabled >> ((newer + 32) & 63) & 1 != 0
                } else {
                    enabled == u64::MAX
                }
            }
            FORM_BPF => {
                let command = arguments[0] & 0xffff_ffff;
                let command = if command > 63 { 63 } else { command };
                global(&raw const SETTINGS.bpf) >> (command & 63) & 1 != 0
            }
            _ => true,
        }
    }
}

/// Reports a call.
#[inline(always)]
unsafe fn emit(
    subject: &Subject,
    call: *const PrivilegeCall,
    arguments: &Arguments,
    result: i64,
) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let record = scratch.cast::<PrivilegeRecord>();
    // SAFETY: the scratch is this CPU's alone; the call is one of the settings.
    unsafe {
        let (kind, form) = (global(&raw const (*call).kind), global(&raw const (*call).form));
        let key = current() as u64;
        let mut flags = 0;
        if kind <= KIND_PRIVILEGE_CAPSET {
            write_state(subject.task, &raw mut (*record).after);
            if let Some(before) = BEFORE.get_ptr(key) {
                flags |= FLAG_PRIVILEGE_BEFORE;
                (*record).before = *before;
            }
            if form == FORM_EXEC {
                let known = flags & FLAG_PRIVILEGE_BEFORE != 0;
                if !known || !is_changed(&raw const (*record).before, &raw const (*record).after) {
                    return 0;
                }
            }
        }
        if !begin(subject.cgroup_id) {
            return 0;
        }
        write_process(&raw mut (*record).process, subject, 0, kind);
        (*record).result = result;
        (*record).arguments = [arguments[0], arguments[1], arguments[2]];
        (*record).call = global(&raw const (*call).call).into();
        (*record).padding = 0;
        if form == FORM_CLONE || form == FORM_CLONE3 {
            if let Some(child) = CHILDREN.get_ptr(key) {
                flags |= FLAG_PRIVILEGE_TARGET;
                (*record).target = (*child).process;
                (*record).after = (*child).state;
            }
        }
        if form == FORM_PTRACE && write_traced(arguments[1] as u32, &raw mut (*record).target) != 0
        {
            flags |= FLAG_PRIVILEGE_TARGET;
        }
        let end = write_given(record, form, arguments);
        if form == FORM_INIT_MODULE || form == FORM_FINIT_MODULE {
            if let Some(name) = MODULES.get_ptr(key) {
                let to = (&raw mut (*record).given).cast::<[u64; MODULE_NAME_WORDS]>();
                *to = *name;
            }
        }
        (*record).process.record.flags |= flags;
        (*record).process.record.length = end;
        submit(scratch.cast(), end, subject.cgroup_id)
    }
}

/// The start of a record's tail.
const TAIL: u32 = size_of::<PrivilegeRecord>() as u32;
