//! The files tracker's program: reports what processes do with files when their system calls
//! return.
//!
//! At that time the kernel has resolved every link and relative path, so the true path can be read
//! from the opened file. The arguments are still where the process put them, and paged in, because
//! the kernel has read them.
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
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::kinds::{
    KIND_FILE_IO, KIND_FILE_IO_NOTE, KIND_FILE_OPEN, KIND_FILE_RENAME, KIND_FILE_SYMLINK,
};
use whalewatch_trackers_common::{
    FLAG_PATH_TRUNCATED, NO_ARGUMENT,
    files::{
        FILE_CALLS, FLAG_FILE_DELETED, FLAG_FILE_RESOLVED, FLAG_SECOND_TRUNCATED, FileCall,
        FileRecord, FilesSettings, IoKey, IoNote, IoSums,
    },
};
use whalewatch_trackers_ebpf::{
    TASK,
    atomic::add,
    kernel::{argument, load, number},
    output::{SCRATCH, begin, count_generated, count_lost, submit, submit_note},
    path::{Identity, Place, base, copy_text, file, identity, is_deleted, place, read_user, walk},
    process::{Subject, write_process},
    scope::watches,
    sums,
    syscall::{self, Arguments, get},
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: FilesSettings = FilesSettings::UNSET;

/// Bytes that processes read and wrote, in tables 0 and 1.
#[map]
static IO_0: HashMap<IoKey, IoSums> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
static IO_1: HashMap<IoKey, IoSums> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// `S_IFMT` and `S_IFREG`.
const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// A system call returns.
#[btf_tracepoint(function = "sys_exit")]
fn files_exit(ctx: BtfTracePointContext) -> u32 {
    let (regs, result) = (argument(&ctx, 0), number(&ctx, 1) as i64);
    // SAFETY: the tracepoint's arguments are the registers and the result; a system call is made by
    // the current task.
    unsafe {
        let action = syscall::action(regs, &raw const SETTINGS.actions);
        if action == 0 {
            return 0;
        }
        let subject = Subject::current();
        if !watches(&subject, result < 0) {
            return 0;
        }
        let arguments = syscall::arguments(regs);
        let call = (&raw const SETTINGS.calls).cast::<FileCall>().add(action as usize % FILE_CALLS);
        if (&raw const (*call).kind).read_volatile() == KIND_FILE_IO {
            if result >= 0 {
                let bytes = result as u64;
                let (from, to) = (&raw const (*call).fd, &raw const (*call).second_fd);
                count_io(&subject, from.read_volatile(), &arguments, bytes, false);
                count_io(&subject, to.read_volatile(), &arguments, bytes, true);
            }
            return 0;
        }
        if !begin(subject.cgroup_id) {
            return 0;
        }
        emit(&subject, call, &arguments, result)
    }
}

/// Reports a call.
#[inline(always)]
unsafe fn emit(
    subject: &Subject,
    call: *const FileCall,
    arguments: &Arguments,
    result: i64,
) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let record = scratch.cast::<FileRecord>();
    // SAFETY: the scratch is this CPU's alone; the call is one of the settings.
    unsafe {
        let kind = (&raw const (*call).kind).read_volatile();
        // The header comes first. The code below has several outcomes, and the verifier checks
        // everything after it once for each.
        write_process(&raw mut (*record).process, subject, 0, kind);
        (*record).result = result;
        (*record).group = get(arguments, &raw const (*call).group) as u32;
        (*record).padding = 0;
        let how = get(arguments, &raw const (*call).how);
        let [flags, mode]: [u64; 2] = if how == 0 {
            let fixed = (&raw const (*call).fixed_flags).read_volatile();
            let flags = get(arguments, &raw const (*call).flags) | u64::from(fixed);
            [flags, get(arguments, &raw const (*call).mode)]
        } else {
            read_user(how)
        };
        (*record).flags = flags as u32;
        (*record).mode = mode as u32;

        let opened = if kind == KIND_FILE_OPEN {
            if result < 0 { 0 } else { file(result as i32) }
        } else if (&raw const (*call).fd).read_volatile() == NO_ARGUMENT {
            0
        } else {
            file(get(arguments, &raw const (*call).fd) as i32)
        };
        let identity = identity(opened);
        (*record).inode = identity.inode;
        (*record).device = identity.device;
        (*record).inode_mode = identity.mode;
        let mut flags = 0;
        let start = size_of::<FileRecord>() as u32;
        let from = if opened == 0 {
            base(get(arguments, &raw const (*call).base) as i32)
        } else {
            flags |= FLAG_FILE_RESOLVED;
            place(opened)
        };
        if opened != 0 && is_deleted(from) {
            flags |= FLAG_FILE_DELETED;
        }
        let names = walk(start, from);
        let mut end = names.end;
        let mut truncated = names.truncated;
        if opened == 0 {
            let asked = copy_text(end, get(arguments, &raw const (*call).path));
            end = asked.end;
            truncated = asked.truncated;
        }
        if truncated {
            flags |= FLAG_PATH_TRUNCATED;
        }
        (*record).pieces = [names.end - start, end - names.end, 0, 0];
        if kind >= KIND_FILE_RENAME && kind <= KIND_FILE_SYMLINK {
            let from = base(get(arguments, &raw const (*call).second_base) as i32);
            let (length, truncated) =
                second(record, end, from, get(arguments, &raw const (*call).second_path));
            end = length;
            if truncated {
                flags |= FLAG_SECOND_TRUNCATED;
            }
        }
        (*record).process.record.flags |= flags;
        (*record).process.record.length = end;
        submit(scratch.cast(), end, subject.cgroup_id)
    }
}

/// Writes the second path. Returns the record's end and whether the path was cut.
#[inline(always)]
unsafe fn second(record: *mut FileRecord, start: u32, from: Place, path: u64) -> (u32, bool) {
    // SAFETY: the record is in the scratch.
    unsafe {
        let names = walk(start, from);
        let asked = copy_text(names.end, path);
        (*record).pieces[2] = names.end - start;
        (*record).pieces[3] = asked.end - names.end;
        (asked.end, asked.truncated)
    }
}

/// Adds bytes to the sums of the process and the file behind a descriptor. `fd` is the index of the
/// argument with the descriptor.
#[inline(never)]
unsafe fn count_io(
    subject: &Subject,
    fd: u8,
    arguments: &Arguments,
    bytes: u64,
    wrote: bool,
) -> u32 {
    if fd == NO_ARGUMENT {
        return 0;
    }
    // SAFETY: the helpers check what they read; the sums are the map's memory.
    unsafe {
        let opened = file(get(arguments, &raw const fd) as i32);
        if opened == 0 {
            return 0;
        }
        let Identity { inode, device, mode } = identity(opened);
        if mode & TYPE_MASK != REGULAR {
            return 0;
        }
        let key = IoKey {
            start_time: load(subject.leader, &raw const (*TASK).start_boottime),
            inode,
            pid: load(subject.task, &raw const (*TASK).tgid),
            device,
        };
        let table = sums::table();
        let sums = if table == 0 { &IO_0 } else { &IO_1 };
        if sums.get_ptr_mut(key).is_none() {
            if sums.insert(key, IoSums::default(), BPF_NOEXIST.into()).is_ok() {
                note(subject, key, table, place(opened));
            }
        }
        let Some(sum) = sums.get_ptr_mut(key) else {
            count_generated();
            return count_lost(subject.cgroup_id);
        };
        if wrote {
            add(&raw mut (*sum).written_bytes, bytes);
            add(&raw mut (*sum).writes, 1);
        } else {
            add(&raw mut (*sum).read_bytes, bytes);
            add(&raw mut (*sum).reads, 1);
        }
    }
    0
}

/// Sends the process and the file of a key to user space.
#[inline(always)]
unsafe fn note(subject: &Subject, key: IoKey, table: u32, from: Place) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    let note = scratch.cast::<IoNote>();
    // SAFETY: the scratch is this CPU's alone.
    unsafe {
        write_process(&raw mut (*note).process, subject, 0, KIND_FILE_IO_NOTE);
        (*note).key = key;
        (*note).table = table;
        let start = size_of::<IoNote>() as u32;
        let names = walk(start, from);
        if names.truncated {
            (*note).process.record.flags |= FLAG_PATH_TRUNCATED;
        }
        (*note).names = names.end - start;
        (*note).process.record.length = names.end;
        submit_note(scratch.cast(), names.end);
    }
}
