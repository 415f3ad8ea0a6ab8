//! The data that a call passes in memory or by a descriptor.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use whalewatch_trackers_common::FLAG_PATH_TRUNCATED;
use whalewatch_trackers_common::privilege::{
    FLAG_PRIVILEGE_RESOLVED, FORM_BPF, FORM_CAPSET, FORM_CLONE3, FORM_DELETE_MODULE,
    FORM_FINIT_MODULE, FORM_SETNS, GIVEN_WORDS, PrivilegeOffsets, PrivilegeRecord,
};
use whalewatch_trackers_ebpf::{
    kernel::opaque,
    path::{PATHS, Piece, copy_text, file, member, place, read_user, walk},
    syscall::Arguments,
};

use crate::{SETTINGS, TAIL};

const OFFSETS: *const PrivilegeOffsets = &raw const SETTINGS.offsets;

/// The magic number of the file system of namespaces (`NSFS_MAGIC` in
/// `include/uapi/linux/magic.h`).
const NSFS: u64 = 0x6e73_6673;
/// Bytes for the name of a type of namespace. The longest is `pid_for_children` or
/// `time_for_children`.
const KIND_BYTES: u32 = 24;
/// Bytes to read from `union bpf_attr`.
const BPF_BYTES: u64 = 8 * GIVEN_WORDS as u64;
/// Commands of `bpf` with a text: a path to pin or get an object, or a raw tracepoint.
const OBJ_PIN: u64 = 6;
const OBJ_GET: u64 = 7;
const RAW_TRACEPOINT_OPEN: u64 = 17;

/// Writes the data for the call's form, and the tail. Returns the record's end.
///
/// # Safety
///
/// `record` must be the scratch buffer.
#[inline(always)]
pub(crate) unsafe fn write_given(
    record: *mut PrivilegeRecord,
    form: u16,
    arguments: &Arguments,
) -> u32 {
    // SAFETY: guaranteed by the caller; the helpers check what they read.
    unsafe {
        (*record).given = [0; GIVEN_WORDS];
        (*record).pieces = [0; 2];
        match form {
            FORM_CLONE3 => (*record).given[0] = read_user(arguments[0]),
            FORM_SETNS => namespace(record, arguments[0] as i32),
            FORM_CAPSET => {
                (*record).given[0] = read_user(arguments[0]);
                let sets: [u64; 3] = read_user(arguments[1]);
                [(*record).given[1], (*record).given[2], (*record).given[3]] = sets;
            }
            FORM_DELETE_MODULE => return text(record, arguments[0]),
            FORM_FINIT_MODULE => {
                let opened = file(arguments[0] as i32);
                if opened != 0 {
                    let names = walk(TAIL, place(opened));
                    (*record).process.record.flags |= FLAG_PRIVILEGE_RESOLVED;
                    (*record).pieces[0] = names.end - TAIL;
                    return end(record, names);
                }
            }
            FORM_BPF => {
                let size = arguments[2] & 0xffff_ffff;
                let size = if size > BPF_BYTES { BPF_BYTES } else { size };
                let size = opaque(size) & 127;
                if size <= BPF_BYTES {
                    bpf_probe_read_user(
                        (&raw mut (*record).given).cast(),
                        size as u32,
                        arguments[1] as *const c_void,
                    );
                }
                let command = arguments[0] & 0xffff_ffff;
                if matches!(command, OBJ_PIN | OBJ_GET | RAW_TRACEPOINT_OPEN) {
                    let from = (&raw const (*record).given).cast::<u64>().read_volatile();
                    return text(record, from);
                }
            }
            _ => {}
        }
        TAIL
    }
}

/// Writes a text as the tail. Returns the record's end.
#[inline(always)]
unsafe fn text(record: *mut PrivilegeRecord, from: u64) -> u32 {
    // SAFETY: guaranteed by the caller; the helper checks what it reads.
    unsafe {
        let text = copy_text(TAIL, from);
        (*record).pieces[1] = text.end - TAIL;
        end(record, text)
    }
}

#[inline(always)]
unsafe fn end(record: *mut PrivilegeRecord, piece: Piece) -> u32 {
    if piece.truncated {
        // SAFETY: guaranteed by the caller.
        unsafe { (*record).process.record.flags |= FLAG_PATH_TRUNCATED };
    }
    piece.end
}

/// Writes the namespace that a descriptor stands for, or nothing if it is not of a namespace.
#[inline(always)]
unsafe fn namespace(record: *mut PrivilegeRecord, fd: i32) {
    // SAFETY: the helpers check what they read.
    unsafe {
        let opened = file(fd);
        if opened == 0 {
            return;
        }
        let inode: u64 = member(opened, &raw const (*PATHS).file_inode);
        let super_block: u64 = member(inode, &raw const (*PATHS).inode_super);
        if member::<u64>(super_block, &raw const (*OFFSETS).super_magic) != NSFS {
            return;
        }
        let namespace: u64 = member(inode, &raw const (*OFFSETS).inode_private);
        let inum: u32 = member(namespace, &raw const (*OFFSETS).ns_inum);
        (*record).given[0] = inum.into();
        let kind: u64 = member(namespace, &raw const (*OFFSETS).ns_ops);
        let name: u64 = member(kind, &raw const (*OFFSETS).ops_name);
        bpf_probe_read_kernel_str(
            (&raw mut (*record).given).cast::<u64>().add(1).cast(),
            KIND_BYTES,
            name as *const c_void,
        );
    }
}
