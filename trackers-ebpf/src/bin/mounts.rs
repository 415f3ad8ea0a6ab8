//! The mounts tracker's program: reports mounting, moving and unmounting when the system calls
//! return.
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
use whalewatch_trackers_common::kinds::KIND_MOVE_MOUNT;
use whalewatch_trackers_common::{
    NO_ARGUMENT,
    mounts::{
        FLAG_SOURCE_TRUNCATED, FLAG_TARGET_TRUNCATED, MOUNT_CALLS, MountCall, MountOffsets,
        MountRecord, MountsSettings,
    },
};
use whalewatch_trackers_ebpf::{
    kernel::{argument, number},
    output::{SCRATCH, begin, submit},
    path::{Piece, base, copy_kernel_text, copy_text, file, member, place, walk},
    process::{Subject, write_process},
    scope::watches,
    syscall::{self, Arguments, get},
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: MountsSettings = MountsSettings::UNSET;

const OFFSETS: *const MountOffsets = &raw const SETTINGS.offsets;

/// A system call returns.
#[btf_tracepoint(function = "sys_exit")]
fn mounts_exit(ctx: BtfTracePointContext) -> u32 {
    let (regs, result) = (argument(&ctx, 0), number(&ctx, 1) as i64);
    // SAFETY: the tracepoint's arguments are the registers and the result; a system call is made by
    // the current task.
    unsafe {
        let action = syscall::action(regs, &raw const SETTINGS.actions);
        if action == 0 {
            return 0;
        }
        let subject = Subject::current();
        if !watches(&subject, result < 0) || !begin(subject.cgroup_id) {
            return 0;
        }
        let arguments = syscall::arguments(regs);
        let calls = (&raw const SETTINGS.calls).cast::<MountCall>();
        emit(&subject, calls.add(action as usize % MOUNT_CALLS), &arguments, result)
    }
}

/// Reports a call.
#[inline(always)]
unsafe fn emit(
    subject: &Subject,
    call: *const MountCall,
    arguments: &Arguments,
    result: i64,
) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let record = scratch.cast::<MountRecord>();
    // SAFETY: the scratch is this CPU's alone; the call is one of the settings.
    unsafe {
        let kind = (&raw const (*call).kind).read_volatile();
        write_process(&raw mut (*record).process, subject, 0, kind);
        (*record).result = result;
        (*record).flags = get(arguments, &raw const (*call).flags);
        (*record).padding = 0;
        let start = size_of::<MountRecord>() as u32;
        let source =
            path(start, &raw const (*call).source_base, &raw const (*call).source, arguments);
        let target = path(
            source[1].end,
            &raw const (*call).target_base,
            &raw const (*call).target,
            arguments,
        );
        let fs_type = fs_type(target[1].end, kind, call, arguments);
        (*record).pieces = [
            source[0].end - start,
            source[1].end - source[0].end,
            target[0].end - source[1].end,
            target[1].end - target[0].end,
            fs_type.end - target[1].end,
        ];
        if source[1].truncated {
            (*record).process.record.flags |= FLAG_SOURCE_TRUNCATED;
        }
        if target[1].truncated {
            (*record).process.record.flags |= FLAG_TARGET_TRUNCATED;
        }
        (*record).process.record.length = fs_type.end;
        submit(scratch.cast(), fs_type.end, subject.cgroup_id)
    }
}

/// Writes the names from the directory that a path is relative to, and the path that the process
/// gave.
#[inline(always)]
unsafe fn path(start: u32, from: *const u8, asked: *const u8, arguments: &Arguments) -> [Piece; 2] {
    // SAFETY: the indexes are in the settings.
    unsafe {
        if asked.read_volatile() == NO_ARGUMENT {
            let nothing = Piece { end: start, truncated: false };
            return [nothing, nothing];
        }
        let names = walk(start, base(get(arguments, from) as i32));
        [names, copy_text(names.end, get(arguments, asked))]
    }
}

/// Writes the type of the file system: the kernel's if a descriptor stands for the mount, otherwise
/// the one that the process gave.
#[inline(always)]
unsafe fn fs_type(start: u32, kind: u16, call: *const MountCall, arguments: &Arguments) -> Piece {
    // SAFETY: the helpers check what they read.
    unsafe {
        if kind == KIND_MOVE_MOUNT {
            let opened = file(get(arguments, &raw const (*call).source_base) as i32);
            if opened == 0 {
                return Piece { end: start, truncated: false };
            }
            let super_block: u64 = member(place(opened).mnt, &raw const (*OFFSETS).super_block);
            let fs_type: u64 = member(super_block, &raw const (*OFFSETS).fs_type);
            return copy_kernel_text(start, member(fs_type, &raw const (*OFFSETS).name));
        }
        if (&raw const (*call).fs_type).read_volatile() == NO_ARGUMENT {
            return Piece { end: start, truncated: false };
        }
        copy_text(start, get(arguments, &raw const (*call).fs_type))
    }
}
