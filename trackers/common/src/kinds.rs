//! The kinds of all records, assigned here and nowhere else.
//!
//! The numbers of one tracker are consecutive, with room for more before the next tracker. A number
//! that is already taken does not compile.

/// Declares a constant for each kind, and the table of all of them.
macro_rules! kinds {
    ($($(#[$attribute:meta])* $name:ident = $number:literal;)+) => {
        $($(#[$attribute])* pub const $name: u16 = $number;)+

        /// Every kind of record: the constant's name and its number.
        pub const KINDS: &[(&str, u16)] = &[$((stringify!($name), $name),)+];
    };
}

kinds! {
    /// A process was created; the record is about the new process:
    /// [`ForkRecord`](crate::process::ForkRecord).
    KIND_PROCESS_FORK = 1;
    /// A process replaced its program: [`ExecRecord`](crate::process::ExecRecord).
    KIND_PROCESS_EXEC = 2;
    /// The last thread of a process exited: [`ExitRecord`](crate::process::ExitRecord).
    KIND_PROCESS_EXIT = 3;
    /// A process that was already running when the tracker was attached: a bare
    /// [`ProcessHeader`](crate::ProcessHeader).
    KIND_PROCESS_SNAPSHOT = 4;

    /// A cgroup was created.
    KIND_CGROUP_MKDIR = 16;
    /// A cgroup was removed.
    KIND_CGROUP_RMDIR = 17;
    /// A cgroup was renamed; the record has the new path.
    KIND_CGROUP_RENAME = 18;
    /// A process, or one of its threads, moved to the cgroup.
    KIND_CGROUP_ATTACH = 19;

    /// A file was opened, or the attempt failed.
    KIND_FILE_OPEN = 32;
    /// A file or directory was deleted.
    KIND_FILE_DELETE = 33;
    /// A file or directory was renamed.
    KIND_FILE_RENAME = 34;
    /// A hard link was created.
    KIND_FILE_LINK = 35;
    /// A symbolic link was created.
    KIND_FILE_SYMLINK = 36;
    /// The permissions of a file were changed.
    KIND_FILE_MODE = 37;
    /// The owner of a file was changed.
    KIND_FILE_OWNER = 38;
    /// Bytes were read from or written to files. Summed in
    /// [`IoSums`](crate::files::IoSums), never reported one by one.
    KIND_FILE_IO = 39;
    /// Names the process and the file of an [`IoKey`](crate::files::IoKey). This
    /// [`IoNote`](crate::files::IoNote) is not an event.
    KIND_FILE_IO_NOTE = 40;

    /// A process asked for a connection, which was established or failed.
    KIND_NETWORK_CONNECT = 64;
    /// A connection was accepted.
    KIND_NETWORK_ACCEPT = 65;
    /// A connection ended.
    KIND_NETWORK_CLOSE = 66;
    /// A socket started to listen for connections.
    KIND_NETWORK_LISTEN = 67;
    /// A segment was retransmitted.
    KIND_NETWORK_RETRANSMIT = 68;

    /// One system call returned.
    KIND_SYSCALL_CALL = 80;

    /// A signal was sent: [`SignalRecord`](crate::signals::SignalRecord).
    KIND_SIGNAL_SEND = 96;

    /// A process was killed because memory ran out: [`OomRecord`](crate::oom::OomRecord).
    KIND_OOM_KILL = 100;

    /// `mount(2)`
    KIND_MOUNT = 104;
    /// `umount2(2)`
    KIND_UMOUNT = 105;
    /// `move_mount(2)`
    KIND_MOVE_MOUNT = 106;
    /// `pivot_root(2)`
    KIND_PIVOT_ROOT = 107;

    /// A thread entered existing namespaces.
    KIND_PRIVILEGE_SETNS = 112;
    /// A thread, or a new process, got new namespaces.
    KIND_PRIVILEGE_UNSHARE = 113;
    /// The user or group ids of a thread changed.
    KIND_PRIVILEGE_SETUID = 114;
    /// The capabilities of a thread changed.
    KIND_PRIVILEGE_CAPSET = 115;
    /// A process traced another, or accessed its memory.
    KIND_PRIVILEGE_PTRACE = 116;
    /// A kernel module was loaded or unloaded.
    KIND_PRIVILEGE_MODULE = 117;
    /// A process called `bpf(2)`.
    KIND_PRIVILEGE_BPF = 118;
}

/// The first number that two kinds share.
const fn first_duplicate(kinds: &[(&str, u16)]) -> Option<u16> {
    let mut later = 0;
    while later < kinds.len() {
        let mut earlier = 0;
        while earlier < later {
            if kinds[earlier].1 == kinds[later].1 {
                return Some(kinds[later].1);
            }
            earlier += 1;
        }
        later += 1;
    }
    None
}

const _: () = assert!(first_duplicate(KINDS).is_none(), "two kinds of records have one number");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_share_a_number_are_found() {
        assert_eq!(first_duplicate(&[("A", 1), ("B", 2)]), None);
        assert_eq!(first_duplicate(&[("A", 1), ("B", 2), ("C", 1)]), Some(1));
    }

    #[test]
    fn kinds_of_all_trackers_are_disjoint() {
        assert_eq!(first_duplicate(KINDS), None, "{KINDS:?}");
    }
}
