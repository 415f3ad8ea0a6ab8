//! The header that all records of processes have.

use whalewatch_core::{Namespaces, Process};
use whalewatch_trackers_common::ProcessHeader;

/// The common data of a process, from the header of a record.
pub(crate) fn process(header: &ProcessHeader) -> Process {
    Process {
        pid: header.pid,
        tid: header.tid,
        parent_pid: header.parent_pid,
        namespaced_pid: header.namespace_pid,
        start_time: header.start_time,
        parent_start_time: header.parent_start_time,
        uid: header.uid,
        gid: header.gid,
        comm: header.comm,
        namespaces: Namespaces {
            user: header.user_namespace,
            pid: header.pid_namespace,
            mnt: header.mnt_namespace,
            net: header.net_namespace,
        },
        cgroup_id: header.cgroup_id,
    }
}
