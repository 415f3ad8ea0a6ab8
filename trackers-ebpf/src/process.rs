//! Writes the header of a process record from a task.

use core::mem::size_of;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel};
use whalewatch_trackers_common::{FLAG_KERNEL_THREAD, ProcessHeader};

use crate::{
    TASK,
    kernel::{Kernel, global, load},
    output::write_header,
};

/// `PF_KTHREAD`.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// The inode number of the initial pid namespace on every kernel (`PROC_PID_INIT_INO` in
/// `include/linux/proc_ns.h`, Linux 6.1).
const INITIAL_PID_NAMESPACE: u32 = 0xefff_fffc;

/// The cgroup of a task in the default hierarchy.
///
/// # Safety
///
/// `task` must be a task that the verifier knows.
#[inline(always)]
pub unsafe fn cgroup_id(task: Kernel) -> u64 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let css_set: Kernel = load(task, &raw const (*TASK).cgroups);
        let cgroup: Kernel = load(css_set, &raw const (*TASK).css_set_cgroup);
        let node: Kernel = load(cgroup, &raw const (*TASK).cgroup_node);
        load(node, &raw const (*TASK).node_id)
    }
}

/// The current task, as a pointer whose type the verifier knows.
#[inline(always)]
pub fn current() -> Kernel {
    // SAFETY: it takes nothing.
    unsafe { bpf_get_current_task_btf().cast_const().cast() }
}

/// The tasks and the cgroup that a process header describes.
pub struct Subject {
    /// The task that acts.
    pub task: Kernel,
    /// The first thread of its process; the task itself if that is known. Every pointer to follow
    /// costs the verifier about a millisecond at load time, because it looks up the type by name.
    pub leader: Kernel,
    /// Its [`cgroup_id`].
    pub cgroup_id: u64,
}

impl Subject {
    /// The current task.
    ///
    /// # Safety
    ///
    /// Only in process context: in an interrupt, the current task is unrelated.
    #[inline(always)]
    pub unsafe fn current() -> Self {
        let task = current();
        // SAFETY: the helper's task is known to the verifier.
        unsafe {
            let leader: Kernel = load(task, &raw const (*TASK).group_leader);
            Self { task, leader, cgroup_id: cgroup_id(task) }
        }
    }
}

/// Writes a process header.
///
/// # Safety
///
/// `out` must be writable, the subject's tasks known to the verifier.
#[inline(always)]
pub unsafe fn write_process(out: *mut ProcessHeader, subject: &Subject, length: usize, kind: u16) {
    let &Subject { task, leader, cgroup_id } = subject;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let flags: u32 = load(leader, &raw const (*TASK).flags);
        let flags = if flags & KERNEL_THREAD == 0 { 0 } else { FLAG_KERNEL_THREAD };
        write_header(&raw mut (*out).record, length as u32, kind, flags);

        (*out).pid = load(task, &raw const (*TASK).tgid);
        (*out).tid = load(task, &raw const (*TASK).pid);
        (*out).start_time = load(leader, &raw const (*TASK).start_boottime);
        (*out).cgroup_id = cgroup_id;
        let comm = (&raw mut (*out).comm).cast::<u64>();
        let base = leader.add(global(&raw const (*TASK).comm) as usize).cast::<u64>();
        comm.write_unaligned(base.read_volatile());
        comm.add(1).write_unaligned(base.add(1).read_volatile());

        let parent: Kernel = load(leader, &raw const (*TASK).real_parent);
        (*out).parent_pid = load(parent, &raw const (*TASK).tgid);
        let parent_leader: Kernel = load(parent, &raw const (*TASK).group_leader);
        (*out).parent_start_time = load(parent_leader, &raw const (*TASK).start_boottime);

        write_credentials(out, task);
        write_namespaces(out, task);
    }
}

#[inline(always)]
unsafe fn write_credentials(out: *mut ProcessHeader, task: Kernel) {
    // SAFETY: as for `write_process`.
    unsafe {
        let cred: Kernel = load(task, &raw const (*TASK).real_cred);
        (*out).uid = load(cred, &raw const (*TASK).cred_euid);
        (*out).gid = load(cred, &raw const (*TASK).cred_egid);
        let user_ns: Kernel = load(cred, &raw const (*TASK).cred_user_ns);
        (*out).user_namespace = load(user_ns, &raw const (*TASK).user_ns_inum);
    }
}

#[inline(always)]
unsafe fn write_namespaces(out: *mut ProcessHeader, task: Kernel) {
    // SAFETY: as for `write_process`.
    unsafe {
        let nsproxy: Kernel = load(task, &raw const (*TASK).nsproxy);
        let mnt_ns: Kernel = load(nsproxy, &raw const (*TASK).nsproxy_mnt_ns);
        (*out).mnt_namespace = load(mnt_ns, &raw const (*TASK).mnt_ns_inum);
        let net_ns: Kernel = load(nsproxy, &raw const (*TASK).nsproxy_net_ns);
        (*out).net_namespace = load(net_ns, &raw const (*TASK).net_ns_inum);

        // `signal.pids[PIDTYPE_TGID]`, the second element, is the pid of the whole process (`enum
        // pid_type`).
        let signal: Kernel = load(task, &raw const (*TASK).signal);
        let pids = signal.add(global(&raw const (*TASK).signal_pids) as usize);
        let pid: Kernel = pids.cast::<Kernel>().add(1).read_volatile();
        let level: u32 = load(pid, &raw const (*TASK).pid_level);
        if level == 0 {
            (*out).namespace_pid = load(task, &raw const (*TASK).tgid);
            (*out).pid_namespace = INITIAL_PID_NAMESPACE;
        } else {
            write_nested_pid(out, pid, level);
        }
    }
}

/// Writes the innermost of a process's pids, which has one per nested pid namespace. They are in an
/// array of variable length, which the verifier does not track, hence the helper calls.
#[inline(always)]
unsafe fn write_nested_pid(out: *mut ProcessHeader, pid: Kernel, level: u32) {
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
        let numbers = pid.add(global(&raw const (*TASK).pid_numbers) as usize).cast::<Upid>();
        bpf_probe_read_kernel(
            (&raw mut upid).cast(),
            size_of::<Upid>() as u32,
            numbers.add(level as usize).cast(),
        );
        bpf_probe_read_kernel(
            (&raw mut inum).cast(),
            size_of::<u32>() as u32,
            upid.ns.add(global(&raw const (*TASK).pid_ns_inum) as usize).cast(),
        );
        (*out).namespace_pid = upid.nr;
        (*out).pid_namespace = inum;
    }
}
