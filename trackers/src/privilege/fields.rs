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

/// A place in a state, before and after.
macro_rules! state {
    ($when:ident, $part:ident, $place:literal, $name:literal, $doc:literal) => {
        field(concat!("privilege.", stringify!($when), ".", $name), Type::Uint, $doc, |e| {
            let told = e.told.$part >> $place & 1 != 0;
            let number = told.then(|| $when(e).map(|state| u64::from(state.$part[$place])));
            number.flatten().map_or(Value::Null, Value::Uint)
        })
    };
}

/// An id that was asked for.
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

/// A set of capabilities that was asked for.
macro_rules! requested_set {
    ($place:literal, $name:literal) => {
        field(
            concat!("privilege.requested.capabilities.", $name),
            Type::Uint,
            concat!("the ", $name, " set that was asked for"),
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
        "whether any id, set of capabilities or namespace is another than before",
        |e| e.told.changed.map_or(Value::Null, Value::Bool),
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
        "kinds of namespaces that were asked for or entered: user, mnt, net, uts, ipc, cgroup, pid, time",
        |e| match &e.what {
            PrivilegeWhat::Namespaces { names, .. } => texts(names),
            _ => Value::Null,
        },
    ),
    field(
        "privilege.requested.namespace",
        Type::Uint,
        "inode number of the namespace that was to be entered",
        |e| match e.what {
            PrivilegeWhat::Namespaces { entered, .. } if entered != 0 => {
                Value::Uint(entered.into())
            }
            _ => Value::Null,
        },
    ),
    requested!(0, "uid", "user id that was asked for, as the process numbers it; -1 for no change"),
    requested!(1, "euid", "the same of the effective user id"),
    requested!(2, "suid", "the same of the saved user id"),
    requested!(3, "fsuid", "the same of the user id for files"),
    requested!(
        4,
        "gid",
        "group id that was asked for, as the process numbers it; -1 for no change"
    ),
    requested!(5, "egid", "the same of the effective group id"),
    requested!(6, "sgid", "the same of the saved group id"),
    requested!(7, "fsgid", "the same of the group id for files"),
    field(
        "privilege.requested.groups",
        Type::Uint,
        "how many supplementary groups were asked for",
        |e| match e.what {
            PrivilegeWhat::Ids { groups: Some(groups), .. } => Value::Uint(groups),
            _ => Value::Null,
        },
    ),
    requested_set!(0, "effective"),
    requested_set!(1, "permitted"),
    requested_set!(2, "inheritable"),
    state!(before, ids, 0, "uid", "real user id before, in the host's numbers"),
    state!(before, ids, 1, "euid", "effective user id before"),
    state!(before, ids, 2, "suid", "saved user id before"),
    state!(before, ids, 3, "fsuid", "user id for files before"),
    state!(before, ids, 4, "gid", "real group id before"),
    state!(before, ids, 5, "egid", "effective group id before"),
    state!(before, ids, 6, "sgid", "saved group id before"),
    state!(before, ids, 7, "fsgid", "group id for files before"),
    state!(before, capabilities, 0, "capabilities.effective", "effective set before, as bits"),
    state!(before, capabilities, 1, "capabilities.permitted", "permitted set before"),
    state!(before, capabilities, 2, "capabilities.inheritable", "inheritable set before"),
    state!(before, capabilities, 3, "capabilities.bounding", "bounding set before"),
    state!(before, capabilities, 4, "capabilities.ambient", "ambient set before"),
    state!(before, namespaces, 0, "namespaces.user", "user namespace before: its inode number"),
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
    state!(after, ids, 0, "uid", "real user id after, in the host's numbers"),
    state!(after, ids, 1, "euid", "effective user id after"),
    state!(after, ids, 2, "suid", "saved user id after"),
    state!(after, ids, 3, "fsuid", "user id for files after"),
    state!(after, ids, 4, "gid", "real group id after"),
    state!(after, ids, 5, "egid", "effective group id after"),
    state!(after, ids, 6, "sgid", "saved group id after"),
    state!(after, ids, 7, "fsgid", "group id for files after"),
    state!(after, capabilities, 0, "capabilities.effective", "effective set after, as bits"),
    state!(after, capabilities, 1, "capabilities.permitted", "permitted set after"),
    state!(after, capabilities, 2, "capabilities.inheritable", "inheritable set after"),
    state!(after, capabilities, 3, "capabilities.bounding", "bounding set after"),
    state!(after, capabilities, 4, "capabilities.ambient", "ambient set after"),
    state!(after, namespaces, 0, "namespaces.user", "user namespace after: its inode number"),
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
    field("privilege.gained", Type::Texts, "capabilities that the effective set has got", |e| {
        texts(&e.gained)
    }),
    field("privilege.lost", Type::Texts, "capabilities that the effective set has no more", |e| {
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
        "process or thread that is reached into, as the process numbers it",
        |e| match e.what {
            PrivilegeWhat::Ptrace { pid: Some(pid), .. } => Value::Int(pid),
            _ => Value::Null,
        },
    ),
    field(
        "privilege.target.pid",
        Type::Uint,
        "process that is traced, where it is, or that clone(2) made",
        |e| target(e, |target| target.pid.into()),
    ),
    field("privilege.target.tid", Type::Uint, "its thread that is traced", |e| {
        target(e, |target| target.tid.into())
    }),
    field("privilege.target.vpid", Type::Uint, "that process in its own pid namespace", |e| {
        target(e, |target| target.namespaced_pid.into())
    }),
    field("privilege.target.start_time", Type::Uint, "start of that process", |e| {
        target(e, |target| target.start_time)
    }),
    field("privilege.target.comm", Type::Text, "command name of that process", |e| {
        e.target.as_ref().map_or(Value::Null, |target| Value::Text(target.comm()))
    }),
    field("privilege.target.user.id", Type::Uint, "effective user id of that process", |e| {
        target(e, |target| target.uid.into())
    }),
    field("privilege.target.cgroup_id", Type::Uint, "cgroup of that process", |e| {
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
    field("module.path_truncated", Type::Bool, "true if that is longer than shown", |e| {
        let truncated = |path: &crate::FilePath| path.truncated;
        flag(matches!(&e.what, PrivilegeWhat::Module { path: Some(p), .. } if truncated(p)))
    }),
    field("bpf.command", Type::Text, "command of bpf(2): BPF_PROG_LOAD, …", |e| {
        bpf(e, |bpf| &bpf.command)
    }),
    field("bpf.program.type", Type::Text, "type of a program that is loaded", |e| {
        bpf(e, |bpf| bpf.program_type.as_deref().unwrap_or_default())
    }),
    field("bpf.map.type", Type::Text, "type of a map that is made", |e| {
        bpf(e, |bpf| bpf.map_type.as_deref().unwrap_or_default())
    }),
    field("bpf.attach_type", Type::Text, "what a program is attached to", |e| {
        bpf(e, |bpf| bpf.attach_type.as_deref().unwrap_or_default())
    }),
    field("bpf.name", Type::Text, "name of the program or map", |e| bpf(e, |bpf| &bpf.name)),
    field("bpf.path", Type::Text, "path that it is pinned at, as it was asked for", |e| {
        bpf(e, |bpf| &bpf.path)
    }),
    field("bpf.tracepoint", Type::Text, "raw tracepoint that a program is attached to", |e| {
        bpf(e, |bpf| &bpf.tracepoint)
    }),
    field("bpf.truncated", Type::Bool, "true if these are longer than shown", |e| {
        flag(matches!(&e.what, PrivilegeWhat::Bpf(Bpf { truncated: true, .. })))
    }),
    field("bpf.id", Type::Uint, "id of what is got by its id", |e| match e.what {
        PrivilegeWhat::Bpf(Bpf { id: Some(id), .. }) => Value::Uint(id.into()),
        _ => Value::Null,
    }),
    field("error.code", Type::Uint, "error number of a call that failed", |e| {
        errno::of(e.result).map_or(Value::Null, |code| Value::Uint(code.into()))
    }),
    field("error.type", Type::Text, "name of that error: EPERM, …", |e| {
        let name = errno::of(e.result).and_then(errno::name);
        name.map_or(Value::Null, |name| Value::Text(name.as_bytes()))
    }),
];
