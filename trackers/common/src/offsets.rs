//! Byte offsets of the kernel members that the programs read. User space looks them up in the
//! running kernel's type information.

use bytemuck::{Pod, Zeroable};

/// A member of a kernel struct, by the struct's name and a dotted path through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The struct's name.
    pub of: &'static str,
    /// The member, or a dotted path into nested structs.
    pub path: &'static str,
}

/// Declares a struct of offsets and, in the same order, the list of their members. User space fills
/// the struct from the list, so a new offset is one line.
macro_rules! offsets {
    ($(#[$attribute:meta])* $name:ident { $($field:ident: $of:literal . $path:literal,)+ }) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
        pub struct $name {
            $(#[doc = concat!("`", $of, ".", $path, "`")] pub $field: u32,)+
        }

        impl $name {
            /// The members, in the order of the fields.
            pub const MEMBERS: &[Member] = &[$(Member { of: $of, path: $path },)+];

            /// The value in the object, which the loader replaces.
            pub const UNSET: Self = Self { $($field: 0,)+ };
        }

        const _: () = assert!(size_of::<$name>() == $name::MEMBERS.len() * size_of::<u32>());
    };
}
pub(crate) use offsets;

offsets! {
    /// Offsets for a [`ProcessHeader`](crate::ProcessHeader).
    TaskOffsets {
        pid: "task_struct"."pid",
        tgid: "task_struct"."tgid",
        flags: "task_struct"."flags",
        start_boottime: "task_struct"."start_boottime",
        group_leader: "task_struct"."group_leader",
        real_parent: "task_struct"."real_parent",
        comm: "task_struct"."comm",
        real_cred: "task_struct"."real_cred",
        nsproxy: "task_struct"."nsproxy",
        cgroups: "task_struct"."cgroups",
        signal: "task_struct"."signal",
        exit_code: "task_struct"."exit_code",
        cred_euid: "cred"."euid",
        cred_egid: "cred"."egid",
        cred_user_ns: "cred"."user_ns",
        user_ns_inum: "user_namespace"."ns.inum",
        nsproxy_mnt_ns: "nsproxy"."mnt_ns",
        nsproxy_net_ns: "nsproxy"."net_ns",
        mnt_ns_inum: "mnt_namespace"."ns.inum",
        net_ns_inum: "net"."ns.inum",
        signal_pids: "signal_struct"."pids",
        signal_live: "signal_struct"."live",
        signal_flags: "signal_struct"."flags",
        signal_exit_code: "signal_struct"."group_exit_code",
        signal_threads: "signal_struct"."nr_threads",
        pid_level: "pid"."level",
        pid_numbers: "pid"."numbers",
        upid_nr: "upid"."nr",
        upid_ns: "upid"."ns",
        pid_ns_inum: "pid_namespace"."ns.inum",
        css_set_cgroup: "css_set"."dfl_cgrp",
        cgroup_node: "cgroup"."kn",
        cgroup_css_parent: "cgroup"."self.parent",
        css_cgroup: "cgroup_subsys_state"."cgroup",
        node_id: "kernfs_node"."id",
    }
}

offsets! {
    /// Offsets for an [`ExecRecord`](crate::process::ExecRecord).
    ExecOffsets {
        mm: "task_struct"."mm",
        mm_arg_start: "mm_struct"."arg_start",
        mm_arg_end: "mm_struct"."arg_end",
        bprm_filename: "linux_binprm"."filename",
        bprm_argc: "linux_binprm"."argc",
    }
}

offsets! {
    /// Offsets for a [`CgroupRecord`](crate::cgroup::CgroupRecord).
    CgroupOffsets {
        node: "cgroup"."kn",
        level: "cgroup"."level",
        root: "cgroup"."root",
        root_hierarchy: "cgroup_root"."hierarchy_id",
        node_id: "kernfs_node"."id",
        task_pid: "task_struct"."pid",
        task_tgid: "task_struct"."tgid",
        task_start_boottime: "task_struct"."start_boottime",
        task_group_leader: "task_struct"."group_leader",
    }
}

offsets! {
    /// Offsets for paths of files, directories and descriptors.
    PathOffsets {
        files: "task_struct"."files",
        fs: "task_struct"."fs",
        files_table: "files_struct"."fdt",
        table_size: "fdtable"."max_fds",
        table_files: "fdtable"."fd",
        file_mnt: "file"."f_path.mnt",
        file_dentry: "file"."f_path.dentry",
        file_inode: "file"."f_inode",
        pwd_mnt: "fs_struct"."pwd.mnt",
        pwd_dentry: "fs_struct"."pwd.dentry",
        dentry_parent: "dentry"."d_parent",
        dentry_name_length: "dentry"."d_name.len",
        dentry_name: "dentry"."d_name.name",
        dentry_hash: "dentry"."d_hash.pprev",
        mnt_root: "vfsmount"."mnt_root",
        mount_mnt: "mount"."mnt",
        mount_parent: "mount"."mnt_parent",
        mount_mountpoint: "mount"."mnt_mountpoint",
        inode_number: "inode"."i_ino",
        inode_mode: "inode"."i_mode",
        inode_super: "inode"."i_sb",
        super_device: "super_block"."s_dev",
    }
}

/// Offsets of a system call's number and arguments at its return, and how to recognise a 32-bit
/// call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SyscallOffsets {
    /// The number, in `pt_regs`.
    pub number: u32,
    /// The arguments, in `pt_regs`. The first is the copy that the result does not overwrite.
    pub arguments: [u32; 6],
    /// A word of `task_struct` with a bit for 32-bit calls.
    pub compat_word: u32,
    /// The bit that is set during a 32-bit call.
    pub compat_bit: u32,
}

impl SyscallOffsets {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self { number: 0, arguments: [0; 6], compat_word: 0, compat_bit: 0 };
}
