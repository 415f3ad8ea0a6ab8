//! The mounts tracker's events.

use bytes::Bytes;
use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

use crate::errno;
use crate::path::FilePath;

/// A mount was made, changed, moved or removed, or the attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEvent {
    /// When the system call returned.
    pub time: Timestamp,
    /// The process.
    pub process: Process,
    /// What was done.
    pub operation: Operation,
    /// What was mounted: a device, a directory, or any other word that the file system accepts.
    /// Empty if there is none.
    pub source: FilePath,
    /// Where it was mounted.
    pub target: FilePath,
    /// The type of the file system; empty if the call names none.
    pub fs_type: Bytes,
    /// Flags of the call.
    pub flags: u64,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file system was mounted.
    Mount,
    /// A directory was mounted at a second place.
    Bind,
    /// A detached mount was attached: `move_mount` after `fsmount` or `open_tree`.
    Attach,
    /// The options of a mount were changed.
    Remount,
    /// The propagation of a mount to and from other namespaces was changed.
    Propagation,
    /// A mount was moved.
    Move,
    /// The root of the mount namespace was replaced.
    PivotRoot,
    /// A mount was removed.
    Unmount,
}

impl Operation {
    /// What `mount(2)` does with these flags; the kernel tests them in this order
    /// (`path_mount` in `fs/namespace.c`, Linux 6.1).
    pub(super) fn of_mount(flags: u64) -> Self {
        let propagation = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;
        let has = |flag: libc::c_ulong| flags & flag != 0;
        if has(libc::MS_REMOUNT) {
            Self::Remount
        } else if has(libc::MS_BIND) {
            Self::Bind
        } else if has(propagation) {
            Self::Propagation
        } else if has(libc::MS_MOVE) {
            Self::Move
        } else {
            Self::Mount
        }
    }

    /// Its name in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Bind => "bind",
            Self::Attach => "attach",
            Self::Remount => "remount",
            Self::Propagation => "propagation",
            Self::Move => "move",
            Self::PivotRoot => "pivot_root",
            Self::Unmount => "unmount",
        }
    }

    /// Whether its source is a place in the file system.
    pub(super) fn has_source_path(self) -> bool {
        matches!(self, Self::Bind | Self::Move | Self::PivotRoot)
    }
}

fn text(bytes: &[u8]) -> Value<'_> {
    if bytes.is_empty() { Value::Null } else { Value::Text(bytes) }
}

fn flag(set: bool) -> Value<'static> {
    if set { Value::Bool(true) } else { Value::Null }
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&MountEvent) -> Value<'_>,
) -> Field<MountEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for MountEvent {
    const NAME: &'static str = "mounts";
    const KINDS: &'static [&'static str] = &["mount.mount", "mount.umount", "mount.move"];
    const FIELDS: &'static [Field<Self>] = &[
        field(
            "mount.operation",
            Type::Text,
            "mount, bind, attach, remount, propagation, move, pivot_root or unmount",
            |e| Value::Text(e.operation.as_str().as_bytes()),
        ),
        field("mount.source", Type::Text, "what is mounted, as the process gave it", |e| {
            text(&e.source.bytes)
        }),
        field("mount.source_truncated", Type::Bool, "true if the path was cut", |e| {
            flag(e.source.truncated)
        }),
        field("mount.target", Type::Text, "where it is mounted, as the process gave it", |e| {
            text(&e.target.bytes)
        }),
        field("mount.target_truncated", Type::Bool, "true if the path was cut", |e| {
            flag(e.target.truncated)
        }),
        field("mount.type", Type::Text, "type of the file system: tmpfs, …", |e| {
            text(&e.fs_type)
        }),
        field("mount.flags", Type::Uint, "flags of the call", |e| Value::Uint(e.flags)),
        field("error.code", Type::Uint, "error number if the call failed", |e| {
            errno::of(e.result).map_or(Value::Null, |number| Value::Uint(number.into()))
        }),
        field("error.type", Type::Text, "name of the error: EPERM, …", |e| {
            let name = errno::of(e.result).and_then(errno::name);
            name.map_or(Value::Null, |name| Value::Text(name.as_bytes()))
        }),
    ];

    fn kind(&self) -> &'static str {
        match self.operation {
            Operation::Unmount => "mount.umount",
            Operation::Move | Operation::PivotRoot => "mount.move",
            _ => "mount.mount",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_select_the_operation() {
        let of = |flags| Operation::of_mount(flags).as_str();
        assert_eq!(of(0), "mount");
        assert_eq!(of(libc::MS_NOSUID | libc::MS_RDONLY), "mount");
        assert_eq!(of(libc::MS_BIND | libc::MS_REC), "bind");
        assert_eq!(of(libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY), "remount");
        assert_eq!(of(libc::MS_PRIVATE | libc::MS_REC), "propagation");
        assert_eq!(of(libc::MS_MOVE), "move");
    }
}
