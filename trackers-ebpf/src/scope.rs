//! The scope: decides what to report before anything is read or written for an event.

use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use whalewatch_trackers_common::SCOPE_LIST;

use crate::{
    COMMON, TASK,
    kernel::{Kernel, global, load},
    process::Subject,
};

/// Which cgroups are watched (1) or not (0), by id. User space maintains the map; the loader
/// enlarges it if it is used.
#[map]
static SCOPE: HashMap<u64, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// How many levels above a cgroup to search for one that is in the map.
const MOST_LEVELS: usize = 8;

/// Whether to report an action of this task. `failed` says whether the action failed.
///
/// # Safety
///
/// The subject's tasks must be known to the verifier.
#[inline(always)]
pub unsafe fn watches(subject: &Subject, failed: bool) -> bool {
    // SAFETY: guaranteed by the caller; the globals are this object's.
    unsafe {
        if !watches_result(failed) {
            return false;
        }
        if global(&raw const COMMON.scope.by_cgroup) != 0 && !watches_cgroup(subject) {
            return false;
        }
        !is_own(subject.leader) && watches_user(subject.task) && watches_command(subject.leader)
    }
}

/// Whether to report a failure or a success, for programs that learn the result after they have
/// called [`watches`].
#[inline(always)]
pub fn watches_result(failed: bool) -> bool {
    // SAFETY: a global of this object.
    failed || unsafe { global(&raw const COMMON.scope.failed_only) } == 0
}

/// Whether to report an event of this cgroup whose process is not known.
///
/// # Safety
///
/// `cgroup` must be a cgroup that the verifier knows.
#[inline(always)]
pub unsafe fn watches_unowned(cgroup: Kernel, failed: bool) -> bool {
    // SAFETY: guaranteed by the caller; the globals are this object's.
    unsafe {
        let by_process = global(&raw const COMMON.scope.uid_count) != 0
            || global(&raw const COMMON.scope.comm_count) != 0;
        if by_process || !watches_result(failed) {
            return false;
        }
        if global(&raw const COMMON.scope.by_cgroup) == 0 {
            return true;
        }
        let node: Kernel = load(cgroup, &raw const (*TASK).cgroup_node);
        let id: u64 = load(node, &raw const (*TASK).node_id);
        match SCOPE.get(id) {
            Some(&watched) => watched != 0,
            None => watches_above(cgroup),
        }
    }
}

/// Whether a task belongs to the process to skip, or to a child of it.
///
/// # Safety
///
/// `leader` must be a task that the verifier knows.
#[inline(always)]
pub unsafe fn is_own(leader: Kernel) -> bool {
    // SAFETY: as for `watches`.
    unsafe {
        let own = global(&raw const COMMON.scope.own_pid);
        if own == 0 {
            return false;
        }
        let parent: Kernel = load(leader, &raw const (*TASK).real_parent);
        load::<u32>(leader, &raw const (*TASK).tgid) == own
            || load::<u32>(parent, &raw const (*TASK).tgid) == own
    }
}

#[inline(always)]
unsafe fn watches_cgroup(subject: &Subject) -> bool {
    // SAFETY: reading a map's value.
    if let Some(&watched) = unsafe { SCOPE.get(subject.cgroup_id) } {
        return watched != 0;
    }
    // SAFETY: as for `watches`.
    unsafe {
        let css_set: Kernel = load(subject.task, &raw const (*TASK).cgroups);
        watches_above(load(css_set, &raw const (*TASK).css_set_cgroup))
    }
}

/// Whether the nearest ancestor in the map is watched: for cgroups that are new, or that a
/// container created inside its own.
#[inline(never)]
unsafe fn watches_above(mut cgroup: Kernel) -> bool {
    // SAFETY: as for `watches`.
    unsafe {
        for _ in 0..MOST_LEVELS {
            let parent: Kernel = load(cgroup, &raw const (*TASK).cgroup_css_parent);
            if parent.is_null() {
                break;
            }
            cgroup = load(parent, &raw const (*TASK).css_cgroup);
            let node: Kernel = load(cgroup, &raw const (*TASK).cgroup_node);
            let id: u64 = load(node, &raw const (*TASK).node_id);
            if let Some(&watched) = SCOPE.get(id) {
                return watched != 0;
            }
        }
        global(&raw const COMMON.scope.unlisted) != 0
    }
}

#[inline(never)]
unsafe fn watches_user(task: Kernel) -> bool {
    // SAFETY: as for `watches`.
    unsafe {
        let count = global(&raw const COMMON.scope.uid_count) as usize;
        if count == 0 {
            return true;
        }
        let cred: Kernel = load(task, &raw const (*TASK).real_cred);
        let uid: u32 = load(cred, &raw const (*TASK).cred_euid);
        for i in 0..SCOPE_LIST {
            if i < count && global((&raw const COMMON.scope.uids).cast::<u32>().add(i)) == uid {
                return true;
            }
        }
        false
    }
}

#[inline(never)]
unsafe fn watches_command(leader: Kernel) -> bool {
    // SAFETY: as for `watches`.
    unsafe {
        let count = global(&raw const COMMON.scope.comm_count) as usize;
        if count == 0 {
            return true;
        }
        let base = leader.add(global(&raw const (*TASK).comm) as usize).cast::<u64>();
        let (first, second) = (base.read_volatile(), base.add(1).read_volatile());
        for i in 0..SCOPE_LIST {
            let comm = (&raw const COMMON.scope.comms).cast::<u64>().add(2 * i);
            if i < count && global(comm) == first && global(comm.add(1)) == second {
                return true;
            }
        }
        false
    }
}
