//! The records as user space knows them against the type information inside the compiled objects:
//! an object that was built from other records is found here, not by wrong events.

use std::env;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSection as _};
use whalewatch_trackers::btf::Btf;
use whalewatch_trackers_common::files::{FileRecord, FilesSettings, IoKey, IoNote, IoSums};
use whalewatch_trackers_common::mounts::{MountOffsets, MountRecord, MountsSettings};
use whalewatch_trackers_common::network::{
    NetworkOffsets, NetworkOwner, NetworkRecord, NetworkSettings,
};
use whalewatch_trackers_common::oom::{OomOffsets, OomRecord, OomSettings};
use whalewatch_trackers_common::privilege::{
    PrivilegeChild, PrivilegeRecord, PrivilegeSettings, PrivilegeState,
};
use whalewatch_trackers_common::signals::{SignalRecord, SignalsSettings};
use whalewatch_trackers_common::syscalls::{CallKey, CallRecord, CallSums, SyscallsSettings};
use whalewatch_trackers_common::{
    Budget, CgroupRecord, CgroupSettings, CommonSettings, Counters, ExecRecord, ExitRecord,
    ForkRecord, ProcessHeader, ProcessSettings, RecordHeader,
};

/// Where the objects are: those in the repository, or those that `cargo xtask ebpf --check` has
/// rebuilt.
fn objects() -> PathBuf {
    env::var_os("WHALEWATCH_OBJECTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("objects"), PathBuf::from)
}

fn types(name: &str) -> Btf {
    let path = objects().join(name);
    let data = fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let file = object::File::parse(&*data).expect("an ELF file");
    let section = file.section_by_name(".BTF").expect("type information");
    Btf::parse(section.data().expect("readable").to_vec()).expect("well-formed")
}

/// Asserts size and offsets of a record: `check!(btf, Record { field, nested.field })`.
macro_rules! check {
    ($btf:expr, $record:ident { $($($field:ident).+),+ $(,)? }) => {{
        let name = stringify!($record);
        assert_eq!($btf.size(name).expect(name) as usize, size_of::<$record>(), "size of {name}");
        $({
            let path = concat!($(stringify!($field), "."),+).trim_end_matches('.');
            let there = $btf.offset(name, path).expect(path) as usize;
            assert_eq!(there, offset_of!($record, $($field).+), "offset of {name}.{path}");
        })+
    }};
}

#[test]
fn process_records_are_laid_out_alike_on_both_sides() {
    let btf = types("process.o");
    check!(btf, RecordHeader { length, kind, flags, time });
    check!(
        btf,
        ProcessHeader {
            record,
            pid,
            tid,
            parent_pid,
            namespace_pid,
            start_time,
            parent_start_time,
            cgroup_id,
            uid,
            gid,
            user_namespace,
            pid_namespace,
            mnt_namespace,
            net_namespace,
            comm,
        }
    );
    check!(btf, ForkRecord { process, process.comm, maker_start_time, maker_pid, padding });
    check!(btf, ExecRecord { process, path_length, args_length, args_total, args_count });
    check!(btf, ExitRecord { process, status, padding });
    check!(btf, ProcessSettings { exit_tells_group, exec });
    check!(btf, CommonSettings { ring, ring.wake_to, budget, budget.room, scope, scope.comms, task });
    check!(btf, Counters { generated, lost, refused });
    check!(btf, Budget { full_at, refused });
}

#[test]
fn cgroup_records_are_laid_out_alike_on_both_sides() {
    let btf = types("cgroup.o");
    check!(btf, RecordHeader { length, kind, flags, time });
    check!(
        btf,
        CgroupRecord {
            record,
            cgroup_id,
            start_time,
            hierarchy,
            level,
            pid,
            tid,
            path_length,
            padding,
        }
    );
    check!(btf, CgroupSettings { all_hierarchies, cgroup, cgroup.task_group_leader });
}

#[test]
fn file_records_are_laid_out_alike_on_both_sides() {
    let btf = types("files.o");
    check!(
        btf,
        FileRecord {
            process,
            result,
            inode,
            device,
            inode_mode,
            flags,
            mode,
            group,
            padding,
            pieces
        }
    );
    check!(btf, IoKey { start_time, inode, pid, device });
    check!(btf, IoSums { read_bytes, reads, written_bytes, writes });
    check!(btf, IoNote { process, key, table, names });
    check!(btf, FilesSettings { actions, calls });
}

#[test]
fn signal_records_are_laid_out_alike_on_both_sides() {
    let btf = types("signals.o");
    check!(
        btf,
        SignalRecord { process, target, number, code, result, group, from_kernel, padding }
    );
    check!(btf, SignalsSettings { signals, kernel, code });
}

#[test]
fn mount_records_are_laid_out_alike_on_both_sides() {
    let btf = types("mounts.o");
    check!(btf, MountRecord { process, result, flags, pieces, padding });
    check!(btf, MountOffsets { super_block, fs_type, name, padding });
    check!(btf, MountsSettings { offsets, actions, calls });
}

#[test]
fn network_records_are_laid_out_alike_on_both_sides() {
    let btf = types("network.o");
    check!(
        btf,
        NetworkRecord {
            process,
            waited,
            duration,
            sent,
            received,
            retransmitted,
            local,
            peer,
            namespace,
            error,
            backlog,
            local_port,
            peer_port,
            family,
            protocol,
            state,
            padding,
        }
    );
    check!(btf, NetworkOwner { process, started, established, closed, claims, phase, in_call });
    check!(btf, NetworkSettings { actions, kinds, retransmit_tells_error, offsets });
    check!(btf, NetworkOffsets { file_private, bytes_received });
}

#[test]
fn oom_records_are_laid_out_alike_on_both_sides() {
    let btf = types("oom.o");
    check!(
        btf,
        OomRecord {
            process,
            total,
            pages,
            limit,
            usage,
            trigger_pid,
            score_adjustment,
            trigger_comm
        }
    );
    check!(btf, OomSettings { victim_is_task, memory_controller, rss, rss_stride, offsets });
    check!(btf, OomOffsets { mm, counter_parent });
}

#[test]
fn system_call_records_are_laid_out_alike_on_both_sides() {
    let btf = types("syscalls.o");
    check!(btf, CallRecord { process, result, latency, arguments, number, has_result });
    check!(btf, CallKey { cgroup_id, number, errno });
    check!(btf, CallSums { count, errors, time, longest, histogram });
    check!(btf, SyscallsSettings { actions });
}

#[test]
fn privilege_records_are_laid_out_alike_on_both_sides() {
    let btf = types("privilege.o");
    check!(btf, PrivilegeState { capabilities, ids, namespaces, padding });
    check!(
        btf,
        PrivilegeRecord {
            process,
            target,
            result,
            arguments,
            before,
            after,
            given,
            pieces,
            call,
            padding,
        }
    );
    check!(btf, PrivilegeChild { process, state });
    check!(btf, PrivilegeSettings { ptrace, bpf, actions, calls, offsets, optional, padding });
}
