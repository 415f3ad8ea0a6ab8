//! The privilege tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::offsets::{Member, offsets};
use crate::{ProcessHeader, SYSCALLS};

/// The record has a target: the traced process or the new one.
pub const FLAG_PRIVILEGE_TARGET: u16 = 1 << 5;
/// The state before is known.
pub const FLAG_PRIVILEGE_BEFORE: u16 = 1 << 6;
/// The path is the kernel's, not one that the process gave.
pub const FLAG_PRIVILEGE_RESOLVED: u16 = 1 << 7;

/// No data except the arguments.
pub const FORM_PLAIN: u16 = 0;
/// `setns`: the namespace is read from its file.
pub const FORM_SETNS: u16 = 1;
/// `clone`: reported only with flags for new namespaces.
pub const FORM_CLONE: u16 = 2;
/// `clone3`: like `clone`, with its flags in memory.
pub const FORM_CLONE3: u16 = 3;
/// `execve`: reported only if it changed ids or capabilities.
pub const FORM_EXEC: u16 = 4;
/// `capset`: the sets are in memory.
pub const FORM_CAPSET: u16 = 5;
/// `ptrace`: the settings select the requests to report.
pub const FORM_PTRACE: u16 = 6;
/// `init_module`: the name comes from the kernel.
pub const FORM_INIT_MODULE: u16 = 7;
/// `finit_module`: like `init_module`, with the module in a file.
pub const FORM_FINIT_MODULE: u16 = 8;
/// `delete_module`: the name is an argument.
pub const FORM_DELETE_MODULE: u16 = 9;
/// `bpf`: the settings select the commands to report.
pub const FORM_BPF: u16 = 10;
/// `unshare`: reported only with flags for new namespaces.
pub const FORM_UNSHARE: u16 = 11;

/// Size of the table of system calls.
pub const PRIVILEGE_CALLS: usize = 64;
/// Words of a call's data in memory that a record holds.
pub const GIVEN_WORDS: usize = 9;
/// Words of a module's name (`MODULE_NAME_LEN`).
pub const MODULE_NAME_WORDS: usize = 7;

/// Names of the elements of [`PrivilegeState::ids`].
pub const ID_NAMES: [&str; 8] = ["uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid"];
/// Names of the elements of [`PrivilegeState::capabilities`].
pub const CAPABILITY_SETS: [&str; 5] =
    ["effective", "permitted", "inheritable", "bounding", "ambient"];
/// Names of the elements of [`PrivilegeState::namespaces`].
pub const NAMESPACE_NAMES: [&str; 9] =
    ["user", "mnt", "net", "uts", "ipc", "cgroup", "pid_for_children", "time", "time_for_children"];

offsets! {
    /// Offsets for a [`PrivilegeState`], a namespace's file and a traced process.
    PrivilegeOffsets {
        uid: "cred"."uid",
        suid: "cred"."suid",
        fsuid: "cred"."fsuid",
        gid: "cred"."gid",
        sgid: "cred"."sgid",
        fsgid: "cred"."fsgid",
        effective: "cred"."cap_effective",
        permitted: "cred"."cap_permitted",
        inheritable: "cred"."cap_inheritable",
        bounding: "cred"."cap_bset",
        ambient: "cred"."cap_ambient",
        uts_ns: "nsproxy"."uts_ns",
        ipc_ns: "nsproxy"."ipc_ns",
        cgroup_ns: "nsproxy"."cgroup_ns",
        pid_ns: "nsproxy"."pid_ns_for_children",
        uts_inum: "uts_namespace"."ns.inum",
        ipc_inum: "ipc_namespace"."ns.inum",
        cgroup_inum: "cgroup_namespace"."ns.inum",
        inode_private: "inode"."i_private",
        super_magic: "super_block"."s_magic",
        ns_ops: "ns_common"."ops",
        ns_inum: "ns_common"."inum",
        ops_name: "proc_ns_operations"."name",
        ptraced: "task_struct"."ptraced",
        ptrace_entry: "task_struct"."ptrace_entry",
        thread_pid: "task_struct"."thread_pid",
    }
}

/// Offsets of members that some kernels lack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OptionalOffsets {
    /// 1 if the kernel has time namespaces.
    pub has_time: u32,
    /// `nsproxy.time_ns`
    pub time_ns: u32,
    /// `nsproxy.time_ns_for_children`
    pub time_children: u32,
    /// `time_namespace.ns.inum`
    pub time_inum: u32,
    /// `module.name`; 0 if the kernel has no modules.
    pub module_name: u32,
}

impl OptionalOffsets {
    /// The members for time namespaces, in the order of the fields.
    pub const TIME: [Member; 3] = [
        Member { of: "nsproxy", path: "time_ns" },
        Member { of: "nsproxy", path: "time_ns_for_children" },
        Member { of: "time_namespace", path: "ns.inum" },
    ];
    /// The member with a module's name.
    pub const MODULE_NAME: Member = Member { of: "module", path: "name" };

    /// The value in the object, which the loader replaces.
    pub const UNSET: Self =
        Self { has_time: 0, time_ns: 0, time_children: 0, time_inum: 0, module_name: 0 };
}

/// A system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PrivilegeCall {
    /// One of the `KIND_PRIVILEGE_` constants.
    pub kind: u16,
    /// One of the `FORM_` constants.
    pub form: u16,
    /// The call's index in user space's list.
    pub call: u16,
    /// Always 0.
    pub padding: u16,
}

/// The capabilities, ids and namespaces of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PrivilegeState {
    /// Sets of capabilities, in the order of [`CAPABILITY_SETS`].
    pub capabilities: [u64; 5],
    /// User and group ids of the initial user namespace, in the order of [`ID_NAMES`].
    pub ids: [u32; 8],
    /// Inode numbers of namespaces, in the order of [`NAMESPACE_NAMES`]; 0 for none.
    pub namespaces: [u32; 9],
    /// Always 0.
    pub padding: u32,
}

/// The record of a system call. Up to two pieces follow: the names from a file up to the root (leaf
/// first, each followed by a NUL byte); a text.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PrivilegeRecord {
    /// The process, as it is when the call returns.
    pub process: ProcessHeader,
    /// The traced process, or the new one.
    pub target: ProcessHeader,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
    /// Its first three arguments.
    pub arguments: [u64; 3],
    /// The state before.
    pub before: PrivilegeState,
    /// The state after; that of the new process if one was created.
    pub after: PrivilegeState,
    /// The call's data in memory. `setns`: the namespace's inode number and the name of its type.
    /// `capset`: header and sets. Modules: the name in the kernel. `bpf`: the start of `union
    /// bpf_attr`. `clone3`: the flags.
    pub given: [u64; GIVEN_WORDS],
    /// Length in bytes of each piece.
    pub pieces: [u32; 2],
    /// The call's index in user space's list.
    pub call: u32,
    /// Always 0.
    pub padding: u32,
}

/// A new process, kept until the call that created it returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PrivilegeChild {
    /// The process.
    pub process: ProcessHeader,
    /// Its state.
    pub state: PrivilegeState,
}

/// The read-only globals of the privilege tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PrivilegeSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [PrivilegeRecord; 0],
    /// As `record`.
    pub child: [PrivilegeChild; 0],
    /// Requests of `ptrace` to report: bits 0 to 31 for requests of that number, bits 32 to 63 for
    /// those from 0x4200 on. If all bits are set, all others are reported too.
    pub ptrace: u64,
    /// Commands of `bpf` to report, by number; the last bit for all higher ones.
    pub bpf: u64,
    /// The index in `calls` of each system call, by its number; 0 for calls to skip.
    pub actions: [u8; SYSCALLS],
    /// The system calls.
    pub calls: [PrivilegeCall; PRIVILEGE_CALLS],
    /// Offsets of kernel members.
    pub offsets: PrivilegeOffsets,
    /// Offsets of members that some kernels lack.
    pub optional: OptionalOffsets,
    /// Keeps the size a multiple of 8.
    pub padding: u32,
}

impl PrivilegeSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self {
        record: [],
        child: [],
        ptrace: 0,
        bpf: 0,
        actions: [0; SYSCALLS],
        calls: [PrivilegeCall { kind: 0, form: 0, call: 0, padding: 0 }; PRIVILEGE_CALLS],
        offsets: PrivilegeOffsets::UNSET,
        optional: OptionalOffsets::UNSET,
        padding: 0,
    };
}

layouts! {
    PrivilegeState { capabilities, ids, namespaces, padding }
    PrivilegeRecord {
        process, target, result, arguments, before, after, given, pieces, call, padding
    }
    PrivilegeChild { process, state }
    PrivilegeSettings { ptrace, bpf, actions, calls, offsets, optional, padding }
}

const _: () = {
    assert!(size_of::<PrivilegeState>() == 112);
    assert!(size_of::<PrivilegeRecord>() == 536);
    assert!(offset_of!(PrivilegeRecord, before) == 224);
    assert!(offset_of!(PrivilegeRecord, pieces) == 520);
    assert!(size_of::<PrivilegeChild>() == 208);
};
