//! The cgroup tracker's events.

use bytes::Bytes;
use whalewatch_core::{
    Change, Event, Field, FieldInfo, Process, ProcessKey, Timestamp, Type, Value,
};

/// A change of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupEvent {
    /// When it happened.
    pub time: Timestamp,
    /// The cgroup's id.
    pub id: u64,
    /// Its path below the root of its hierarchy.
    pub path: Bytes,
    /// Whether the path is cut: only the beginning of the full one.
    pub path_truncated: bool,
    /// The hierarchy's id; 0 is the default (version 2) hierarchy.
    pub hierarchy: u32,
    /// How many levels below the root it is.
    pub level: u32,
    /// What happened to it.
    pub what: CgroupWhat,
}

/// What happened to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupWhat {
    /// It was created.
    Made,
    /// It was removed.
    Removed,
    /// It has a new path.
    Renamed,
    /// A process moved to it.
    Attached {
        /// The process.
        process: ProcessKey,
        /// The thread that the kernel's event names.
        tid: u32,
        /// Whether the whole process moved, not only this thread.
        whole: bool,
    },
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&CgroupEvent) -> Value<'_>,
) -> Field<CgroupEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for CgroupEvent {
    const NAME: &'static str = "cgroup";
    const KINDS: &'static [&'static str] =
        &["cgroup.mkdir", "cgroup.rmdir", "cgroup.rename", "cgroup.attach"];
    const FIELDS: &'static [Field<Self>] = &[
        field("cgroup.id", Type::Uint, "id of the cgroup", |e| Value::Uint(e.id)),
        field("cgroup.path", Type::Text, "path of the cgroup in its hierarchy", |e| {
            Value::Text(&e.path)
        }),
        field("cgroup.path_truncated", Type::Bool, "true if the path was cut", |e| {
            if e.path_truncated { Value::Bool(true) } else { Value::Null }
        }),
        field(
            "cgroup.hierarchy",
            Type::Uint,
            "id of the hierarchy; 0 is the default (version 2) one",
            |e| Value::Uint(e.hierarchy.into()),
        ),
        field("cgroup.level", Type::Uint, "levels below the root of the hierarchy", |e| {
            Value::Uint(e.level.into())
        }),
        field(
            "cgroup.attached.pid",
            Type::Uint,
            "id of the process that moved into the cgroup",
            |e| match e.what {
                CgroupWhat::Attached { process, .. } => Value::Uint(process.pid.into()),
                _ => Value::Null,
            },
        ),
        field(
            "cgroup.attached.tid",
            Type::Uint,
            "id of the thread that the kernel's event names",
            |e| match e.what {
                CgroupWhat::Attached { tid, .. } => Value::Uint(tid.into()),
                _ => Value::Null,
            },
        ),
        field(
            "cgroup.attached.whole",
            Type::Bool,
            "true if the whole process moved, false if only that thread did",
            |e| match e.what {
                CgroupWhat::Attached { whole, .. } => Value::Bool(whole),
                _ => Value::Null,
            },
        ),
    ];

    fn kind(&self) -> &'static str {
        match self.what {
            CgroupWhat::Made => "cgroup.mkdir",
            CgroupWhat::Removed => "cgroup.rmdir",
            CgroupWhat::Renamed => "cgroup.rename",
            CgroupWhat::Attached { .. } => "cgroup.attach",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    /// None: the records do not say who made the change. A process that moves is not the one that
    /// moves it.
    fn process(&self) -> Option<&Process> {
        None
    }

    /// Changes are about the default hierarchy only: attribution goes by its ids.
    fn change(&self) -> Option<Change<'_>> {
        if self.hierarchy != 0 {
            return None;
        }
        Some(match self.what {
            CgroupWhat::Made => Change::CgroupMade { id: self.id, path: &self.path },
            CgroupWhat::Removed => Change::CgroupRemoved { id: self.id, path: &self.path },
            CgroupWhat::Renamed => Change::CgroupRenamed { id: self.id, path: &self.path },
            CgroupWhat::Attached { process, whole: true, .. } => {
                Change::Moved { process, to: self.id }
            }
            // A process counts as being where its first thread is.
            CgroupWhat::Attached { process, tid, whole: false } if tid == process.pid => {
                Change::Moved { process, to: self.id }
            }
            CgroupWhat::Attached { .. } => return None,
        })
    }
}
