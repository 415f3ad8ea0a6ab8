//! The capabilities, ids and namespaces of a thread.

use whalewatch_trackers_common::privilege::{PrivilegeOffsets, PrivilegeState};
use whalewatch_trackers_ebpf::{
    TASK,
    kernel::{Kernel, global, load},
};

use crate::SETTINGS;

const OFFSETS: *const PrivilegeOffsets = &raw const SETTINGS.offsets;

/// Reads the state from a task.
///
/// # Safety
///
/// `task` must be a task that the verifier knows, `out` writable.
#[inline(always)]
pub(crate) unsafe fn write_state(task: Kernel, out: *mut PrivilegeState) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let cred: Kernel = load(task, &raw const (*TASK).real_cred);
        (*out).capabilities = [
            load(cred, &raw const (*OFFSETS).effective),
            load(cred, &raw const (*OFFSETS).permitted),
            load(cred, &raw const (*OFFSETS).inheritable),
            load(cred, &raw const (*OFFSETS).bounding),
            load(cred, &raw const (*OFFSETS).ambient),
        ];
        (*out).ids = [
            load(cred, &raw const (*OFFSETS).uid),
            load(cred, &raw const (*TASK).cred_euid),
            load(cred, &raw const (*OFFSETS).suid),
            load(cred, &raw const (*OFFSETS).fsuid),
            load(cred, &raw const (*OFFSETS).gid),
            load(cred, &raw const (*TASK).cred_egid),
            load(cred, &raw const (*OFFSETS).sgid),
            load(cred, &raw const (*OFFSETS).fsgid),
        ];
        let user_ns: Kernel = load(cred, &raw const (*TASK).cred_user_ns);
        let nsproxy: Kernel = load(task, &raw const (*TASK).nsproxy);
        let inside = |namespace: *const u32, inum: *const u32| -> u32 {
            let namespace: Kernel = load(nsproxy, namespace);
            load(namespace, inum)
        };
        let optional = &raw const SETTINGS.optional;
        let [time, time_children] = if global(&raw const (*optional).has_time) == 0 {
            [0, 0]
        } else {
            let inum = &raw const (*optional).time_inum;
            [
                inside(&raw const (*optional).time_ns, inum),
                inside(&raw const (*optional).time_children, inum),
            ]
        };
        (*out).namespaces = [
            load(user_ns, &raw const (*TASK).user_ns_inum),
            inside(&raw const (*TASK).nsproxy_mnt_ns, &raw const (*TASK).mnt_ns_inum),
            inside(&raw const (*TASK).nsproxy_net_ns, &raw const (*TASK).net_ns_inum),
            inside(&raw const (*OFFSETS).uts_ns, &raw const (*OFFSETS).uts_inum),
            inside(&raw const (*OFFSETS).ipc_ns, &raw const (*OFFSETS).ipc_inum),
            inside(&raw const (*OFFSETS).cgroup_ns, &raw const (*OFFSETS).cgroup_inum),
            inside(&raw const (*OFFSETS).pid_ns, &raw const (*TASK).pid_ns_inum),
            time,
            time_children,
        ];
        (*out).padding = 0;
    }
}

/// Whether ids or capabilities differ.
///
/// # Safety
///
/// Both must be readable.
#[inline(always)]
pub(crate) unsafe fn is_changed(
    before: *const PrivilegeState,
    after: *const PrivilegeState,
) -> bool {
    // Five sets, and eight ids in four words.
    const WORDS: usize = 9;
    let (before, after) = (before.cast::<u64>(), after.cast::<u64>());
    let mut difference = 0;
    for n in 0..WORDS {
        // SAFETY: guaranteed by the caller.
        unsafe { difference |= before.add(n).read_volatile() ^ after.add(n).read_volatile() };
    }
    difference != 0
}
