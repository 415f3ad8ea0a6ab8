//! The process that the current thread traces.

use whalewatch_trackers_common::ProcessHeader;
use whalewatch_trackers_common::privilege::PrivilegeOffsets;
use whalewatch_trackers_ebpf::{
    TASK,
    kernel::global,
    path::{member, read},
    process::current,
};

use crate::SETTINGS;

const OFFSETS: *const PrivilegeOffsets = &raw const SETTINGS.offsets;

/// How many of a thread's tracees to search, the most recently attached one first.
const MOST_TRACED: usize = 16;
/// Bytes of a `struct upid`, which the loader checks.
const UPID: u64 = 16;

/// Finds the thread that the current one traces and knows by this id, and writes its process.
/// Returns 0 if there is none.
///
/// The kernel keeps a thread's tracees in a linked list, whose types the verifier does not track,
/// so all reads need a helper.
#[inline(never)]
pub(crate) unsafe fn write_traced(number: u32, out: *mut ProcessHeader) -> u32 {
    if out.is_null() {
        return 0;
    }
    // SAFETY: the current task is known; the helpers check what they read.
    unsafe {
        let task = current() as u64;
        let own: u64 = member(task, &raw const (*OFFSETS).thread_pid);
        let level: u32 = member(own, &raw const (*TASK).pid_level);
        let entry = u64::from(global(&raw const (*OFFSETS).ptrace_entry));
        let head = task.wrapping_add(u64::from(global(&raw const (*OFFSETS).ptraced)));
        let namespace = upid(own, level).1;
        let mut at: u64 = read(head);
        for _ in 0..MOST_TRACED {
            if at == head || at == 0 {
                return 0;
            }
            let traced = at.wrapping_sub(entry);
            let pid: u64 = member(traced, &raw const (*OFFSETS).thread_pid);
            let (known_as, within) = upid(pid, level);
            if known_as == number && within == namespace {
                write(traced, out);
                return 1;
            }
            at = read(at);
        }
        0
    }
}

/// The number of a pid at a level, and the pid namespace of that level.
#[inline(always)]
unsafe fn upid(pid: u64, level: u32) -> (u32, u64) {
    // SAFETY: the helper checks what it reads.
    unsafe {
        let numbers = pid.wrapping_add(u64::from(global(&raw const (*TASK).pid_numbers)));
        let [number, namespace]: [u64; 2] =
            read(numbers.wrapping_add(u64::from(level).wrapping_mul(UPID)));
        (number as u32, namespace)
    }
}

/// Writes a process header from a task that the verifier does not know.
#[inline(always)]
unsafe fn write(task: u64, out: *mut ProcessHeader) {
    // SAFETY: the helper checks what it reads; the record is the caller's.
    unsafe {
        let leader: u64 = member(task, &raw const (*TASK).group_leader);
        (*out).pid = member(task, &raw const (*TASK).tgid);
        (*out).tid = member(task, &raw const (*TASK).pid);
        (*out).start_time = member(leader, &raw const (*TASK).start_boottime);
        (*out).comm = member(leader, &raw const (*TASK).comm);

        let parent: u64 = member(leader, &raw const (*TASK).real_parent);
        let parent_leader: u64 = member(parent, &raw const (*TASK).group_leader);
        (*out).parent_pid = member(parent, &raw const (*TASK).tgid);
        (*out).parent_start_time = member(parent_leader, &raw const (*TASK).start_boottime);

        let css_set: u64 = member(task, &raw const (*TASK).cgroups);
        let cgroup: u64 = member(css_set, &raw const (*TASK).css_set_cgroup);
        let node: u64 = member(cgroup, &raw const (*TASK).cgroup_node);
        (*out).cgroup_id = member(node, &raw const (*TASK).node_id);

        let cred: u64 = member(task, &raw const (*TASK).real_cred);
        (*out).uid = member(cred, &raw const (*TASK).cred_euid);
        (*out).gid = member(cred, &raw const (*TASK).cred_egid);
        let user_ns: u64 = member(cred, &raw const (*TASK).cred_user_ns);
        (*out).user_namespace = member(user_ns, &raw const (*TASK).user_ns_inum);

        let nsproxy: u64 = member(task, &raw const (*TASK).nsproxy);
        let mnt_ns: u64 = member(nsproxy, &raw const (*TASK).nsproxy_mnt_ns);
        (*out).mnt_namespace = member(mnt_ns, &raw const (*TASK).mnt_ns_inum);
        let net_ns: u64 = member(nsproxy, &raw const (*TASK).nsproxy_net_ns);
        (*out).net_namespace = member(net_ns, &raw const (*TASK).net_ns_inum);

        let pid: u64 = member(leader, &raw const (*OFFSETS).thread_pid);
        let level: u32 = member(pid, &raw const (*TASK).pid_level);
        let (number, pid_ns) = upid(pid, level);
        (*out).namespace_pid = number;
        (*out).pid_namespace = member(pid_ns, &raw const (*TASK).pid_ns_inum);
    }
}
