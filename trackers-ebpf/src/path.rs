//! Paths as the kernel resolved them: from a file or a directory up to the root of its mount
//! namespace.
//!
//! A path is written leaf first, each name followed by a NUL byte; user space reverses it. The
//! table of descriptors is an array of pointers, whose types the verifier does not track, so most
//! reads here need a helper.

use core::{ffi::c_void, mem::size_of};

use aya_ebpf::{
    helpers::{
        bpf_loop,
        generated::{
            bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
            bpf_probe_read_user_str,
        },
    },
    macros::map,
    maps::PerCpuArray,
};
use whalewatch_trackers_common::{PIECE_MAX, PathOffsets, SCRATCH_MASK};

use crate::{
    kernel::{Kernel, global, load, opaque},
    output::SCRATCH,
    process::current,
};

/// The longest name of a file or directory (`NAME_MAX`).
const NAME_MAX: u32 = 255;
/// The most steps of a walk: a name has at least one byte and a NUL byte, and crossing a mount is a
/// step too.
const MOST_STEPS: u32 = PIECE_MAX / 2 + 64;
/// `AT_FDCWD`
const WORKING_DIRECTORY: i32 = -100;

/// A directory entry in a mount.
#[derive(Clone, Copy)]
pub struct Place {
    /// The `struct vfsmount`.
    pub mnt: u64,
    /// The `struct dentry`; 0 for none.
    pub dentry: u64,
}

/// A piece of a record's tail.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Its end in the scratch buffer.
    pub end: u32,
    /// Whether it is cut.
    pub truncated: bool,
}

/// The state of a walk. It is in a map: the verifier assumes nothing about a map's values, so it
/// checks a single step instead of every sequence of steps.
#[repr(C)]
struct Walk {
    dentry: u64,
    /// The root of the entry's mount.
    root: u64,
    mnt: u64,
    at: u32,
    limit: u32,
    /// Whether the walk has reached the root of the mount namespace.
    arrived: u32,
    padding: u32,
}

/// One walk per CPU.
#[map]
static WALK: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);

/// Set by the loader: offsets of the members that lead to a path.
#[unsafe(no_mangle)]
static PATH_OFFSETS: PathOffsets = PathOffsets::UNSET;

/// Offsets of the members that lead to a path.
pub const PATHS: *const PathOffsets = &raw const PATH_OFFSETS;

/// Reads kernel memory; an unreadable address yields zeroes.
///
/// # Safety
///
/// Any bytes must be a `T`.
#[inline(always)]
pub unsafe fn read<T: Copy>(from: u64) -> T {
    let mut value = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the helper checks the address, and fills the value with zeroes if it cannot read it.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            from as *const c_void,
        );
        value.assume_init()
    }
}

/// Like [`read`], for the member at `offset`, which is a global.
///
/// # Safety
///
/// As [`read`].
#[inline(always)]
pub unsafe fn member<T: Copy>(of: u64, offset: *const u32) -> T {
    // SAFETY: guaranteed by the caller.
    unsafe { read(of.wrapping_add(u64::from(global(offset)))) }
}

/// The file behind one of the current process's descriptors; 0 if there is none.
///
/// # Safety
///
/// None: the kernel checks every read.
#[inline(always)]
pub unsafe fn file(fd: i32) -> u64 {
    // SAFETY: the task is known to the verifier.
    unsafe {
        let files: Kernel = load(current(), &raw const (*PATHS).files);
        let table: Kernel = load(files, &raw const (*PATHS).files_table);
        let size: u32 = load(table, &raw const (*PATHS).table_size);
        if fd < 0 || fd as u32 >= size {
            return 0;
        }
        let list: u64 = load(table, &raw const (*PATHS).table_files);
        read(list.wrapping_add(fd as u64 * 8))
    }
}

/// The place of an open file.
///
/// # Safety
///
/// None: the kernel checks every read.
#[inline(always)]
pub unsafe fn place(file: u64) -> Place {
    if file == 0 {
        return Place { mnt: 0, dentry: 0 };
    }
    // SAFETY: guaranteed by the caller.
    unsafe {
        Place {
            mnt: member(file, &raw const (*PATHS).file_mnt),
            dentry: member(file, &raw const (*PATHS).file_dentry),
        }
    }
}

/// Identifies a file.
#[derive(Clone, Copy)]
pub struct Identity {
    /// The inode number.
    pub inode: u64,
    /// The device, as the kernel encodes it.
    pub device: u32,
    /// The file's type and permissions.
    pub mode: u32,
}

/// Identifies an open file; all zeroes for none.
///
/// # Safety
///
/// None: the kernel checks every read.
#[inline(always)]
pub unsafe fn identity(file: u64) -> Identity {
    // SAFETY: the helpers check what they read.
    unsafe {
        let inode: u64 = if file == 0 { 0 } else { member(file, &raw const (*PATHS).file_inode) };
        if inode == 0 {
            return Identity { inode: 0, device: 0, mode: 0 };
        }
        let super_block: u64 = member(inode, &raw const (*PATHS).inode_super);
        Identity {
            inode: member(inode, &raw const (*PATHS).inode_number),
            device: member(super_block, &raw const (*PATHS).super_device),
            mode: member::<u16>(inode, &raw const (*PATHS).inode_mode).into(),
        }
    }
}

/// Whether the entry's name has been deleted: the kernel then has unhashed it.
///
/// # Safety
///
/// None: the kernel checks every read.
#[inline(always)]
pub unsafe fn is_deleted(place: Place) -> bool {
    // SAFETY: the helper checks what it reads.
    place.dentry != 0
        && unsafe { member::<u64>(place.dentry, &raw const (*PATHS).dentry_hash) } == 0
}

/// The directory of a path that is relative to this descriptor of the current process.
///
/// # Safety
///
/// None: the kernel checks every read.
#[inline(always)]
pub unsafe fn base(fd: i32) -> Place {
    // SAFETY: the task is known to the verifier.
    unsafe {
        if fd != WORKING_DIRECTORY {
            return place(file(fd));
        }
        let fs: Kernel = load(current(), &raw const (*PATHS).fs);
        Place {
            mnt: load(fs, &raw const (*PATHS).pwd_mnt),
            dentry: load(fs, &raw const (*PATHS).pwd_dentry),
        }
    }
}

/// Writes the names from a place up to the root of its mount namespace into the scratch buffer,
/// from `start` on.
///
/// # Safety
///
/// None: the kernel checks every read.
#[inline(always)]
pub unsafe fn walk(start: u32, place: Place) -> Piece {
    if place.dentry == 0 || start as usize > SCRATCH_MASK {
        return Piece { end: start, truncated: true };
    }
    let (limit, room) = (start + PIECE_MAX, SCRATCH_MASK as u32);
    let Some(walk) = WALK.get_ptr_mut(0) else { return Piece { end: start, truncated: true } };
    // SAFETY: the walk is this CPU's alone.
    unsafe {
        (*walk).dentry = place.dentry;
        (*walk).root = member(place.mnt, &raw const (*PATHS).mnt_root);
        (*walk).mnt = place.mnt;
        (*walk).at = start;
        (*walk).limit = if limit < room { limit } else { room };
        (*walk).arrived = 0;
        bpf_loop(MOST_STEPS, step as *mut c_void, core::ptr::null_mut(), 0);
        let end = (&raw const (*walk).at).read_volatile();
        Piece { end, truncated: (&raw const (*walk).arrived).read_volatile() == 0 }
    }
}

/// Takes one step up. A result other than zero ends the walk.
extern "C" fn step(_: u64, _: *mut c_void) -> i64 {
    let Some(walk) = WALK.get_ptr_mut(0) else { return 1 };
    // SAFETY: the walk is this CPU's alone; the helpers check what they read.
    unsafe {
        let dentry = (*walk).dentry;
        if dentry == (*walk).root {
            return climb(walk);
        }
        // The parent, the name's hash and length, and the name are adjacent, which the loader
        // checks.
        let [parent, length, name]: [u64; 3] = member(dentry, &raw const (*PATHS).dentry_parent);
        if parent == dentry || parent == 0 {
            (*walk).arrived = 1;
            return 1;
        }
        let length = (length >> 32) as u32;
        let length = if length > NAME_MAX { NAME_MAX } else { length };
        let at = (*walk).at;
        if at + length >= (*walk).limit {
            return 1;
        }
        let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 1 };
        let scratch = scratch.cast::<u8>();
        let from = opaque(at.into()) as usize & SCRATCH_MASK;
        bpf_probe_read_kernel(
            scratch.add(from).cast(),
            opaque(length.into()) as u32 & NAME_MAX,
            name as *const c_void,
        );
        let end = opaque((at + length).into()) as usize & SCRATCH_MASK;
        scratch.add(end).write(0);
        (*walk).at = at + length + 1;
        (*walk).dentry = parent;
        0
    }
}

/// Goes from the root of a mount to its mount point. Returns 1 at the root of the mount namespace.
#[inline(always)]
unsafe fn climb(walk: *mut Walk) -> i64 {
    // SAFETY: as for `step`.
    unsafe {
        let inside = u64::from(global(&raw const (*PATHS).mount_mnt));
        let mount = (*walk).mnt.wrapping_sub(inside);
        let parent: u64 = member(mount, &raw const (*PATHS).mount_parent);
        if parent == mount || parent == 0 {
            (*walk).arrived = 1;
            return 1;
        }
        (*walk).dentry = member(mount, &raw const (*PATHS).mount_mountpoint);
        (*walk).mnt = parent.wrapping_add(inside);
        (*walk).root = member((*walk).mnt, &raw const (*PATHS).mnt_root);
        0
    }
}

/// Copies a text of the current process into the scratch buffer, from `start` on, without its NUL
/// byte.
///
/// # Safety
///
/// None: the helper checks the address.
#[inline(always)]
pub unsafe fn copy_text(start: u32, from: u64) -> Piece {
    let nothing = Piece { end: start, truncated: true };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return nothing };
    if start as usize > SCRATCH_MASK {
        return nothing;
    }
    let at = opaque(start.into()) as usize & SCRATCH_MASK;
    // SAFETY: the scratch buffer has room for a piece after every masked offset.
    let read = unsafe {
        bpf_probe_read_user_str(
            scratch.cast::<u8>().add(at).cast(),
            PIECE_MAX,
            from as *const c_void,
        )
    };
    if read <= 0 {
        return nothing;
    }
    // The last byte is the NUL byte.
    Piece { end: start + (read as u32 - 1), truncated: read as u32 >= PIECE_MAX }
}

/// Like [`copy_text`], for a short text in kernel memory, such as a name.
///
/// # Safety
///
/// None: the helper checks the address.
#[inline(always)]
pub unsafe fn copy_kernel_text(start: u32, from: u64) -> Piece {
    let nothing = Piece { end: start, truncated: true };
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return nothing };
    if start as usize > SCRATCH_MASK {
        return nothing;
    }
    let at = opaque(start.into()) as usize & SCRATCH_MASK;
    // SAFETY: the scratch buffer has room for a piece after every masked offset.
    let read = unsafe {
        let to = scratch.cast::<u8>().add(at).cast();
        bpf_probe_read_kernel_str(to, NAME_MAX + 1, from as *const c_void)
    };
    if read <= 0 {
        return nothing;
    }
    Piece { end: start + (read as u32 - 1), truncated: false }
}

/// Reads the current process's memory; an unreadable address yields zeroes.
///
/// # Safety
///
/// Any bytes must be a `T`.
#[inline(always)]
pub unsafe fn read_user<T: Copy>(from: u64) -> T {
    let mut value = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the helper checks the address, and fills the value with zeroes if it cannot read it.
    unsafe {
        bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            from as *const c_void,
        );
        value.assume_init()
    }
}
