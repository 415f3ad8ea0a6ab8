//! The system calls that open and change files, and where each has its arguments.

use libc::c_long;
use whalewatch_trackers_common::files::FileCall;
use whalewatch_trackers_common::kinds::{
    KIND_FILE_DELETE, KIND_FILE_IO, KIND_FILE_LINK, KIND_FILE_MODE, KIND_FILE_OPEN,
    KIND_FILE_OWNER, KIND_FILE_RENAME, KIND_FILE_SYMLINK,
};
use whalewatch_trackers_common::{NO_ARGUMENT, WORKING_DIRECTORY};

/// A call without arguments.
pub(super) const NONE: FileCall = FileCall {
    kind: 0,
    base: WORKING_DIRECTORY,
    path: NO_ARGUMENT,
    second_base: WORKING_DIRECTORY,
    second_path: NO_ARGUMENT,
    flags: NO_ARGUMENT,
    mode: NO_ARGUMENT,
    group: NO_ARGUMENT,
    fd: NO_ARGUMENT,
    second_fd: NO_ARGUMENT,
    how: NO_ARGUMENT,
    fixed_flags: 0,
};

const OPEN: FileCall = FileCall { kind: KIND_FILE_OPEN, ..NONE };
const DELETE: FileCall = FileCall { kind: KIND_FILE_DELETE, ..NONE };
const RENAME: FileCall = FileCall { kind: KIND_FILE_RENAME, ..NONE };
const LINK: FileCall = FileCall { kind: KIND_FILE_LINK, ..NONE };
const SYMLINK: FileCall = FileCall { kind: KIND_FILE_SYMLINK, ..NONE };
const MODE: FileCall = FileCall { kind: KIND_FILE_MODE, ..NONE };
const OWNER: FileCall = FileCall { kind: KIND_FILE_OWNER, ..NONE };
const READ: FileCall = FileCall { kind: KIND_FILE_IO, fd: 0, ..NONE };
const WRITE: FileCall = FileCall { kind: KIND_FILE_IO, second_fd: 0, ..NONE };

/// `fchmodat2` has one number on every architecture; the `libc` crate does not define it on all.
const SYS_FCHMODAT2: c_long = 452;

/// Which groups of calls to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) opens: bool,
    pub(super) changes: bool,
    pub(super) io: bool,
}

/// The calls to watch, by number.
pub(super) fn calls(watched: Watched) -> impl Iterator<Item = (c_long, FileCall)> {
    let part =
        |enabled: bool, calls: Vec<(c_long, FileCall)>| calls.into_iter().filter(move |_| enabled);
    let all = part(watched.opens, opens()).chain(part(watched.changes, changes()));
    all.chain(part(watched.io, io()))
}

fn opens() -> Vec<(c_long, FileCall)> {
    vec![
        (libc::SYS_openat, FileCall { base: 0, path: 1, flags: 2, mode: 3, ..OPEN }),
        (libc::SYS_openat2, FileCall { base: 0, path: 1, how: 2, ..OPEN }),
        // A handle is not a path, but the opened file has one.
        (libc::SYS_open_by_handle_at, FileCall { flags: 2, ..OPEN }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, FileCall { path: 0, flags: 1, mode: 2, ..OPEN }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, FileCall { path: 0, mode: 1, fixed_flags: CREATES, ..OPEN }),
    ]
}

/// Flags that `creat` implies.
#[cfg(target_arch = "x86_64")]
const CREATES: u32 = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u32;

fn changes() -> Vec<(c_long, FileCall)> {
    #[cfg(target_arch = "x86_64")]
    const REMOVES_DIRECTORY: u32 = libc::AT_REMOVEDIR as u32;
    let pair = FileCall { base: 0, path: 1, second_base: 2, second_path: 3, ..NONE };
    vec![
        (libc::SYS_unlinkat, FileCall { base: 0, path: 1, flags: 2, ..DELETE }),
        (libc::SYS_renameat, FileCall { kind: KIND_FILE_RENAME, ..pair }),
        (libc::SYS_renameat2, FileCall { kind: KIND_FILE_RENAME, flags: 4, ..pair }),
        (libc::SYS_linkat, FileCall { kind: KIND_FILE_LINK, flags: 4, ..pair }),
        (libc::SYS_symlinkat, FileCall { path: 0, second_base: 1, second_path: 2, ..SYMLINK }),
        (libc::SYS_fchmod, FileCall { fd: 0, mode: 1, ..MODE }),
        (libc::SYS_fchmodat, FileCall { base: 0, path: 1, mode: 2, ..MODE }),
        (SYS_FCHMODAT2, FileCall { base: 0, path: 1, mode: 2, flags: 3, ..MODE }),
        (libc::SYS_fchown, FileCall { fd: 0, mode: 1, group: 2, ..OWNER }),
        (libc::SYS_fchownat, FileCall { base: 0, path: 1, mode: 2, group: 3, flags: 4, ..OWNER }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_unlink, FileCall { path: 0, ..DELETE }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_rmdir, FileCall { path: 0, fixed_flags: REMOVES_DIRECTORY, ..DELETE }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_rename, FileCall { path: 0, second_path: 1, ..RENAME }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_link, FileCall { path: 0, second_path: 1, ..LINK }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_symlink, FileCall { path: 0, second_path: 1, ..SYMLINK }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_chmod, FileCall { path: 0, mode: 1, ..MODE }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_chown, FileCall { path: 0, mode: 1, group: 2, ..OWNER }),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_lchown, FileCall { path: 0, mode: 1, group: 2, ..OWNER }),
    ]
}

fn io() -> Vec<(c_long, FileCall)> {
    let copies = |from, to| FileCall { kind: KIND_FILE_IO, fd: from, second_fd: to, ..NONE };
    let reads =
        [libc::SYS_read, libc::SYS_pread64, libc::SYS_readv, libc::SYS_preadv, libc::SYS_preadv2];
    let writes = [
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_pwritev,
        libc::SYS_pwritev2,
    ];
    let moves = [
        (libc::SYS_sendfile, copies(1, 0)),
        (libc::SYS_copy_file_range, copies(0, 2)),
        (libc::SYS_splice, copies(0, 2)),
    ];
    let reads = reads.into_iter().map(|number| (number, READ));
    let writes = writes.into_iter().map(|number| (number, WRITE));
    reads.chain(writes).chain(moves).collect()
}
