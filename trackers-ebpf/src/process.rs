//! The header of a process record, from a task.

use core::mem::size_of;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use whalewatch_trackers_common::{FLAG_KERNEL_THREAD, ProcessHeader, TaskOffsets};

use crate::{
    kernel::{Kernel, global, load},
    output::write_header,
};

/// `PF_KTHREAD`.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// The inode number of the initial pid namespace, the same on every kernel (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u32 = 0xefff_fffc;

/// The cgroup of a task in the default hierarchy.
///
/// # Safety
///
/// `task` must be a task that the verifier knows, `o` a read-only global.
#[inline(always)]
pub unsafe fn cgroup_id(task: Kernel, o: *const TaskOffsets) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        let css_set: Kernel = load(task, &raw const (*o).cgroups);
        let cgroup: Kernel = load(css_set, &raw const (*o).css_set_cgroup);
        let node: Kernel = load(cgroup, &raw const (*o).cgroup_node);
        load(node, &raw const (*o).node_id)
    }
}

/// What a process header is made from.
pub struct Subject {
    /// The task that acts.
    pub task: Kernel,
    /// The first thread of its process: the task itself, where that is known. Each pointer that is followed costs the
    /// verifier a millisecond at start, since it looks every one up by name.
    pub leader: Kernel,
    /// Its [`cgroup_id`].
    pub cgroup_id: u64,
}

/// Fills in a whole process header.
///
/// # Safety
///
/// `out` must be writable, the subject's tasks known to the verifier, `o` a read-only global.
#[inline(always)]
pub unsafe fn write_process(
    out: *mut ProcessHeader,
    subject: &Subject,
    o: *const TaskOffsets,
    length: usize,
    kind: u16,
) {
    let &Subject { task, leader, cgroup_id } = subject;
    // SAFETY: the caller's.
    unsafe {
        let flags: u32 = load(leader, &raw const (*o).flags);
        let flags = if flags & KERNEL_THREAD == 0 { 0 } else { FLAG_KERNEL_THREAD };
        write_header(&raw mut (*out).record, length as u32, kind, flags);

        (*out).pid = load(task, &raw const (*o).tgid);
        (*out).tid = load(task, &raw const (*o).pid);
        (*out).start_time = load(leader, &raw const (*o).start_boottime);
        (*out).cgroup_id = cgroup_id;
        let comm = (&raw mut (*out).comm).cast::<u64>();
        let base = leader.add(global(&raw const (*o).comm) as usize).cast::<u64>();
        comm.write_unaligned(base.read_volatile());
        comm.add(1).write_unaligned(base.add(1).read_volatile());

        let parent: Kernel = load(leader, &raw const (*o).real_parent);
        (*out).parent_pid = load(parent, &raw const (*o).tgid);
        let parent_leader: Kernel = load(parent, &raw const (*o).group_leader);
        (*out).parent_start_time = load(parent_leader, &raw const (*o).start_boottime);

        write_credentials(out, task, o);
        write_namespaces(out, task, o);
    }
}

#[inline(always)]
unsafe fn write_credentials(out: *mut ProcessHeader, task: Kernel, o: *const TaskOffsets) {
    // SAFETY: as for `write_process`.
    unsafe {
        let cred: Kernel = load(task, &raw const (*o).real_cred);
        (*out).uid = load(cred, &raw const (*o).cred_euid);
        (*out).gid = load(cred, &raw const (*o).cred_egid);
        let user_ns: Kernel = load(cred, &raw const (*o).cred_user_ns);
        (*out).user_namespace = load(user_ns, &raw const (*o).user_ns_inum);
    }
}

#[inline(always)]
unsafe fn write_namespaces(out: *mut ProcessHeader, task: Kernel, o: *const TaskOffsets) {
    // SAFETY: as for `write_process`.
    unsafe {
        let nsproxy: Kernel = load(task, &raw const (*o).nsproxy);
        let mnt_ns: Kernel = load(nsproxy, &raw const (*o).nsproxy_mnt_ns);
        (*out).mnt_namespace = load(mnt_ns, &raw const (*o).mnt_ns_inum);
        let net_ns: Kernel = load(nsproxy, &raw const (*o).nsproxy_net_ns);
        (*out).net_namespace = load(net_ns, &raw const (*o).net_ns_inum);

        // The pid of the whole process is the second of the kinds that the kernel keeps (PIDTYPE_TGID).
        let signal: Kernel = load(task, &raw const (*o).signal);
        let pids = signal.add(global(&raw const (*o).signal_pids) as usize);
        let pid: Kernel = pids.cast::<Kernel>().add(1).read_volatile();
        let level: u32 = load(pid, &raw const (*o).pid_level);
        if level == 0 {
            (*out).namespace_pid = load(task, &raw const (*o).tgid);
            (*out).pid_namespace = INITIAL_PID_NAMESPACE;
        } else {
            write_nested_pid(out, pid, level, o);
        }
    }
}

/// Of the numbers that a process has, one a nested pid namespace, takes the innermost. The array's length varies, which
/// is more than the verifier follows, hence the helper calls.
#[inline(always)]
unsafe fn write_nested_pid(
    out: *mut ProcessHeader,
    pid: Kernel,
    level: u32,
    o: *const TaskOffsets,
) {
    /// `struct upid { int nr; struct pid_namespace *ns; }`, which the loader checks.
    #[repr(C)]
    struct Upid {
        nr: u32,
        ns: Kernel,
    }
    let mut upid = Upid { nr: 0, ns: core::ptr::null() };
    let mut inum = 0_u32;
    // SAFETY: the helpers check the addresses that they read.
    unsafe {
        let numbers = pid.add(global(&raw const (*o).pid_numbers) as usize).cast::<Upid>();
        bpf_probe_read_kernel(
            (&raw mut upid).cast(),
            size_of::<Upid>() as u32,
            numbers.add(level as usize).cast(),
        );
        bpf_probe_read_kernel(
            (&raw mut inum).cast(),
            size_of::<u32>() as u32,
            upid.ns.add(global(&raw const (*o).pid_ns_inum) as usize).cast(),
        );
        (*out).namespace_pid = upid.nr;
        (*out).pid_namespace = inum;
    }
}
