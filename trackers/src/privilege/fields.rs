//! The fields of the privilege tracker's events.

use whalewatch_core::{Field, FieldInfo, Process, Texts, Type, Value};
use whalewatch_trackers_common::privilege::PrivilegeState;

use super::event::{Bpf, PrivilegeEvent, PrivilegeWhat};
use crate::errno;

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&PrivilegeEvent) -> Value<'_>,
) -> Field<PrivilegeEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

/// An element of a state, before or after.
macro_rules! state {
    ($when:ident, $part:ident, $place:literal, $name:literal, $doc:literal) => {
        field(concat!("privilege.", stringify!($when), ".", $name), Type::Uint, $doc, |e| {
            let relevant = e.relevant.$part >> $place & 1 != 0;
            let number = relevant.then(|| $when(e).map(|state| u64::from(state.$part[$place])));
            number.flatten().map_or(Value::Null, Value::Uint)
        })
    };
}

/// A requested id.
macro_rules! requested {
    ($place:literal, $name:literal, $doc:literal) => {
        field(concat!("privilege.requested.", $name), Type::Int, $doc, |e| match &e.what {
            PrivilegeWhat::Ids { requested, .. } => {
                requested[$place].map_or(Value::Null, Value::Int)
            }
            _ => Value::Null,
        })
    };
}

/// A requested set of capabilities.
macro_rules! requested_set {
    ($place:literal, $name:literal) => {
        field(
            concat!("privilege.requested.capabilities.", $name),
            Type::Uint,
            concat!("requested ", $name, " set, as bits"),
            |e| match &e.what {
                PrivilegeWhat::Capabilities { requested: Some(sets) } => Value::Uint(sets[$place]),
                _ => Value::Null,
            },
        )
    };
}

fn before(event: &PrivilegeEvent) -> Option<&PrivilegeState> {
    event.before.as_ref()
}

#[expect(clippy::unnecessary_wraps, reason = "as `before`, so that one macro serves both")]
fn after(event: &PrivilegeEvent) -> Option<&PrivilegeState> {
    Some(&event.after)
}

fn texts(list: &[u8]) -> Value<'_> {
    if list.is_empty() { Value::Null } else { Value::Texts(Texts(list)) }
}

fn text(text: &[u8]) -> Value<'_> {
    if text.is_empty() { Value::Null } else { Value::Text(text) }
}

fn target(event: &PrivilegeEvent, get: fn(&Process) -> u64) -> Value<'_> {
    event.target.as_ref().map_or(Value::Null, |target| Value::Uint(get(target)))
}

fn bpf<'a>(event: &'a PrivilegeEvent, get: fn(&'a Bpf) -> &'a [u8]) -> Value<'a> {
    match &event.what {
        PrivilegeWhat::Bpf(bpf) => text(get(bpf)),
        _ => Value::Null,
    }
}

fn flag(set: bool) -> Value<'static> {
    if set { Value::Bool(true) } else { Value::Null }
}

pub(super) const FIELDS: &[Field<PrivilegeEvent>] = &[
    field("privilege.call", Type::Text, "name of the system call", |e| {
        Value::Text(e.call.as_bytes())
    }),
    field(
        "privilege.changed",
        Type::Bool,
        "whether any id, set of capabilities or namespace differs from before",
        |e| e.relevant.changed.map_or(Value::Null, Value::Bool),
    ),
    field("privilege.flags", Type::Uint, "flags of setns(2), unshare(2) or clone(2)", |e| match e
        .what
    {
        PrivilegeWhat::Namespaces { flags, .. } => Value::Uint(flags),
        _ => Value::Null,
    }),
    field(
        "privilege.namespaces",
        Type::Texts,
        "types of the namespaces created or entered: user, mnt, net, uts, ipc, cgroup, pid, time",
        |e| match &e.what {
            PrivilegeWhat::Namespaces { names, .. } => texts(names),
            _ => Value::Null,
        },
    ),
    field(
        "privilege.requested.namespace",
        Type::Uint,
        "inode number of the namespace to enter",
        |e| match e.what {
            PrivilegeWhat::Namespaces { entered, .. } if entered != 0 => {
                Value::Uint(entered.into())
            }
            _ => Value::Null,
        },
    ),
    requested!(0, "uid", "requested user id, as the process numbers it; -1: unchanged"),
    requested!(1, "euid", "requested effective user id"),
    requested!(2, "suid", "requested saved user id"),
    requested!(3, "fsuid", "requested user id for file access"),
    requested!(4, "gid", "requested group id, as the process numbers it; -1: unchanged"),
    requested!(5, "egid", "requested effective group id"),
    requested!(6, "sgid", "requested saved group id"),
    requested!(7, "fsgid", "requested group id for file access"),
    field(
        "privilege.requested.groups",
        Type::Uint,
        "number of requested supplementary groups",
        |e| match e.what {
            PrivilegeWhat::Ids { groups: Some(groups), .. } => Value::Uint(groups),
            _ => Value::Null,
        },
    ),
    requested_set!(0, "effective"),
    requested_set!(1, "permitted"),
    requested_set!(2, "inheritable"),
    state!(before, ids, 0, "uid", "real user id before, as the host numbers it"),
    state!(before, ids, 1, "euid", "effective user id before"),
    state!(before, ids, 2, "suid", "saved user id before"),
    state!(before, ids, 3, "fsuid", "user id for file access before"),
    state!(before, ids, 4, "gid", "real group id before"),
    state!(before, ids, 5, "egid", "effective group id before"),
    state!(before, ids, 6, "sgid", "saved group id before"),
    state!(before, ids, 7, "fsgid", "group id for file access before"),
    state!(before, capabilities, 0, "capabilities.effective", "effective set before, as bits"),
    state!(before, capabilities, 1, "capabilities.permitted", "permitted set before"),
    state!(before, capabilities, 2, "capabilities.inheritable", "inheritable set before"),
    state!(before, capabilities, 3, "capabilities.bounding", "bounding set before"),
    state!(before, capabilities, 4, "capabilities.ambient", "ambient set before"),
    state!(before, namespaces, 0, "namespaces.user", "inode number of the user namespace before"),
    state!(before, namespaces, 1, "namespaces.mnt", "mount namespace before"),
    state!(before, namespaces, 2, "namespaces.net", "network namespace before"),
    state!(before, namespaces, 3, "namespaces.uts", "UTS namespace before"),
    state!(before, namespaces, 4, "namespaces.ipc", "IPC namespace before"),
    state!(before, namespaces, 5, "namespaces.cgroup", "cgroup namespace before"),
    state!(
        before,
        namespaces,
        6,
        "namespaces.pid_for_children",
        "pid namespace for children before"
    ),
    state!(before, namespaces, 7, "namespaces.time", "time namespace before"),
    state!(
        before,
        namespaces,
        8,
        "namespaces.time_for_children",
        "time namespace for children before"
    ),
    state!(after, ids, 0, "uid", "real user id after, as the host numbers it"),
    state!(after, ids, 1, "euid", "effective user id after"),
    state!(after, ids, 2, "suid", "saved user id after"),
    state!(after, ids, 3, "fsuid", "user id for file access after"),
    state!(after, ids, 4, "gid", "real group id after"),
    state!(after, ids, 5, "egid", "effective group id after"),
    state!(after, ids, 6, "sgid", "saved group id after"),
    state!(after, ids, 7, "fsgid", "group id for file access after"),
    state!(after, capabilities, 0, "capabilities.effective", "effective set after, as bits"),
    state!(after, capabilities, 1, "capabilities.permitted", "permitted set after"),
    state!(after, capabilities, 2, "capabilities.inheritable", "inheritable set after"),
    state!(after, capabilities, 3, "capabilities.bounding", "bounding set after"),
    state!(after, capabilities, 4, "capabilities.ambient", "ambient set after"),
    state!(after, namespaces, 0, "namespaces.user", "inode number of the user namespace after"),
    state!(after, namespaces, 1, "namespaces.mnt", "mount namespace after"),
    state!(after, namespaces, 2, "namespaces.net", "network namespace after"),
    state!(after, namespaces, 3, "namespaces.uts", "UTS namespace after"),
    state!(after, namespaces, 4, "namespaces.ipc", "IPC namespace after"),
    state!(after, namespaces, 5, "namespaces.cgroup", "cgroup namespace after"),
    state!(after, namespaces, 6, "namespaces.pid_for_children", "pid namespace for children after"),
    state!(after, namespaces, 7, "namespaces.time", "time namespace after"),
    state!(
        after,
        namespaces,
        8,
        "namespaces.time_for_children",
        "time namespace for children after"
    ),
    field("privilege.gained", Type::Texts, "capabilities that the effective set gained", |e| {
        texts(&e.gained)
    }),
    field("privilege.lost", Type::Texts, "capabilities that the effective set lost", |e| {
        texts(&e.lost)
    }),
    field("privilege.request", Type::Text, "request of ptrace(2): PTRACE_ATTACH, …", |e| match &e
        .what
    {
        PrivilegeWhat::Ptrace { request: Some(request), .. } => Value::Text(request),
        _ => Value::Null,
    }),
    field(
        "privilege.target_pid",
        Type::Int,
        "id of the traced process or thread, as the calling process numbers it",
        |e| match e.what {
            PrivilegeWhat::Ptrace { pid: Some(pid), .. } => Value::Int(pid),
            _ => Value::Null,
        },
    ),
    field(
        "privilege.target.pid",
        Type::Uint,
        "process id of the traced process, or of the one that clone(2) created",
        |e| target(e, |target| target.pid.into()),
    ),
    field("privilege.target.tid", Type::Uint, "thread id of the target", |e| {
        target(e, |target| target.tid.into())
    }),
    field(
        "privilege.target.vpid",
        Type::Uint,
        "process id of the target inside its own pid namespace",
        |e| target(e, |target| target.namespaced_pid.into()),
    ),
    field(
        "privilege.target.start_time",
        Type::Uint,
        "start of the target, nanoseconds since boot",
        |e| target(e, |target| target.start_time),
    ),
    field("privilege.target.comm", Type::Text, "command name of the target", |e| {
        e.target.as_ref().map_or(Value::Null, |target| Value::Text(target.comm()))
    }),
    field("privilege.target.user.id", Type::Uint, "effective user id of the target", |e| {
        target(e, |target| target.uid.into())
    }),
    field("privilege.target.cgroup_id", Type::Uint, "id of the target's cgroup", |e| {
        target(e, |target| target.cgroup_id)
    }),
    field("module.name", Type::Text, "name of the kernel module", |e| match &e.what {
        PrivilegeWhat::Module { name, .. } => text(name),
        _ => Value::Null,
    }),
    field("module.path", Type::Text, "true path of the module's file", |e| match &e.what {
        PrivilegeWhat::Module { path: Some(path), .. } => Value::Text(&path.bytes),
        _ => Value::Null,
    }),
    field("module.path_truncated", Type::Bool, "true if the path was cut", |e| {
        let truncated = |path: &crate::FilePath| path.truncated;
        flag(matches!(&e.what, PrivilegeWhat::Module { path: Some(p), .. } if truncated(p)))
    }),
    field("bpf.command", Type::Text, "command of bpf(2): BPF_PROG_LOAD, …", |e| {
        bpf(e, |bpf| &bpf.command)
    }),
    field("bpf.program.type", Type::Text, "type of the program to load", |e| {
        bpf(e, |bpf| bpf.program_type.as_deref().unwrap_or_default())
    }),
    field("bpf.map.type", Type::Text, "type of the map to create", |e| {
        bpf(e, |bpf| bpf.map_type.as_deref().unwrap_or_default())
    }),
    field("bpf.attach_type", Type::Text, "type of the hook that the program is attached to", |e| {
        bpf(e, |bpf| bpf.attach_type.as_deref().unwrap_or_default())
    }),
    field("bpf.name", Type::Text, "name of the program or map", |e| bpf(e, |bpf| &bpf.name)),
    field("bpf.path", Type::Text, "path to pin the object at, as the process gave it", |e| {
        bpf(e, |bpf| &bpf.path)
    }),
    field("bpf.tracepoint", Type::Text, "raw tracepoint to attach to", |e| {
        bpf(e, |bpf| &bpf.tracepoint)
    }),
    field("bpf.truncated", Type::Bool, "true if path or tracepoint were cut", |e| {
        flag(matches!(&e.what, PrivilegeWhat::Bpf(Bpf { truncated: true, .. })))
    }),
    field(
        "bpf.id",
        Type::Uint,
        "id of the requested program, map, link or type information",
        |e| match e.what {
            PrivilegeWhat::Bpf(Bpf { id: Some(id), .. }) => Value::Uint(id.into()),
            _ => Value::Null,
        },
    ),
    field("error.code", Type::Uint, "error number if the call failed", |e| {
        errno::of(e.result).map_or(Value::Null, |code| Value::Uint(code.into()))
    }),
    field("error.type", Type::Text, "name of the error: EPERM, …", |e| {
        let name = errno::of(e.result).and_then(errno::name);
        name.map_or(Value::Null, |name| Value::Text(name.as_bytes()))
    }),
];
