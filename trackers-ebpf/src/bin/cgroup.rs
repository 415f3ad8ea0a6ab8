//! The cgroup tracker's programs: cgroups created, removed and renamed, and processes that move
//! between them.
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
    helpers::generated::bpf_probe_read_kernel_str, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::cgroup::{CGROUP_PATH_MAX, CgroupRecord, CgroupSettings};
use whalewatch_trackers_common::kinds::{
    KIND_CGROUP_ATTACH, KIND_CGROUP_MKDIR, KIND_CGROUP_RENAME, KIND_CGROUP_RMDIR,
};
use whalewatch_trackers_common::{CgroupOffsets, FLAG_PATH_TRUNCATED, FLAG_WHOLE_PROCESS};
use whalewatch_trackers_ebpf::{
    kernel::{Kernel, argument, global, load, number},
    output::{SCRATCH, count_generated, submit, write_header},
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: CgroupSettings = CgroupSettings::UNSET;

const OFFSETS: *const CgroupOffsets = &raw const SETTINGS.cgroup;

/// A cgroup was created.
#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are the cgroup and its path.
    unsafe { emit(&ctx, KIND_CGROUP_MKDIR, core::ptr::null()) }
}

/// A cgroup was removed.
#[btf_tracepoint(function = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are the cgroup and its path.
    unsafe { emit(&ctx, KIND_CGROUP_RMDIR, core::ptr::null()) }
}

/// A cgroup was renamed.
#[btf_tracepoint(function = "cgroup_rename")]
fn cgroup_rename(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are the cgroup and its path.
    unsafe { emit(&ctx, KIND_CGROUP_RENAME, core::ptr::null()) }
}

/// A process or thread moved to the cgroup.
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are the cgroup, its path, the task, and whether its whole
    // process moved.
    unsafe { emit(&ctx, KIND_CGROUP_ATTACH, argument(&ctx, 2)) }
}

/// Reports an event of a cgroup, with the task that moved, if any.
#[inline(always)]
unsafe fn emit(ctx: &BtfTracePointContext, kind: u16, task: Kernel) -> u32 {
    let cgroup = argument(ctx, 0);
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let scratch = scratch.cast::<u8>();
    // SAFETY: the cgroup and the task are known to the verifier; the scratch is this CPU's alone.
    unsafe {
        let root: Kernel = load(cgroup, &raw const (*OFFSETS).root);
        let hierarchy: u32 = load(root, &raw const (*OFFSETS).root_hierarchy);
        if hierarchy != 0 && global(&raw const SETTINGS.all_hierarchies) == 0 {
            return 0;
        }
        count_generated();
        let node: Kernel = load(cgroup, &raw const (*OFFSETS).node);
        let id: u64 = load(node, &raw const (*OFFSETS).node_id);
        let (path_length, mut flags) =
            read_path(scratch.add(size_of::<CgroupRecord>()), argument(ctx, 1));
        let record = scratch.cast::<CgroupRecord>();
        if kind == KIND_CGROUP_ATTACH {
            if number(ctx, 3) & 0xff != 0 {
                flags |= FLAG_WHOLE_PROCESS;
            }
            let leader: Kernel = load(task, &raw const (*OFFSETS).task_group_leader);
            (*record).start_time = load(leader, &raw const (*OFFSETS).task_start_boottime);
            (*record).pid = load(task, &raw const (*OFFSETS).task_tgid);
            (*record).tid = load(task, &raw const (*OFFSETS).task_pid);
        } else {
            (*record).start_time = 0;
            (*record).pid = 0;
            (*record).tid = 0;
        }
        let length = size_of::<CgroupRecord>() as u32 + path_length;
        write_header(&raw mut (*record).record, length, kind, flags);
        (*record).cgroup_id = id;
        (*record).hierarchy = hierarchy;
        (*record).level = load(cgroup, &raw const (*OFFSETS).level);
        (*record).path_length = path_length;
        (*record).padding = 0;
        submit(scratch.cast(), length, id)
    }
}

/// Copies the cgroup's path. Returns its length without the NUL byte, and a flag if it was cut.
#[inline(always)]
unsafe fn read_path(to: *mut u8, from: Kernel) -> (u32, u16) {
    const ROOM: usize = CGROUP_PATH_MAX + 2;
    // SAFETY: the helper checks the address it reads; `to` has the room.
    let read = unsafe { bpf_probe_read_kernel_str(to.cast(), ROOM as u32, from.cast()) };
    if read <= 0 {
        (0, FLAG_PATH_TRUNCATED)
    } else if read as usize >= ROOM {
        (CGROUP_PATH_MAX as u32, FLAG_PATH_TRUNCATED)
    } else {
        (read as u32 - 1, 0)
    }
}
