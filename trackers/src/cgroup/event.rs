//! What the cgroup tracker tells.

use bytes::Bytes;
use whalewatch_core::{
    Change, Event, Field, FieldInfo, Process, ProcessKey, Timestamp, Type, Value,
};

/// Something happened to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupEvent {
    /// When.
    pub time: Timestamp,
    /// The cgroup's id.
    pub id: u64,
    /// Its path below the root of its hierarchy.
    pub path: Bytes,
    /// The path is only the beginning of the true one.
    pub path_truncated: bool,
    /// The hierarchy's id; 0 is the default (version 2) hierarchy.
    pub hierarchy: u32,
    /// How deep below the root it is.
    pub level: u32,
    /// What happened to it.
    pub what: CgroupWhat,
}

/// What happened to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupWhat {
    /// It was made.
    Made,
    /// It was removed.
    Removed,
    /// It got another path.
    Renamed,
    /// A process moved to it.
    Attached {
        /// The process.
        process: ProcessKey,
        /// The thread that was named.
        tid: u32,
        /// Whether the whole process moved, not this thread alone.
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
        field("cgroup.path_truncated", Type::Bool, "true if the path is longer than shown", |e| {
            if e.path_truncated { Value::Bool(true) } else { Value::Null }
        }),
        field("cgroup.hierarchy", Type::Uint, "id of the hierarchy; 0 is the default one", |e| {
            Value::Uint(e.hierarchy.into())
        }),
        field("cgroup.level", Type::Uint, "how deep below the root it is", |e| {
            Value::Uint(e.level.into())
        }),
        field("cgroup.attached.pid", Type::Uint, "process that moved to the cgroup", |e| {
            match e.what {
                CgroupWhat::Attached { process, .. } => Value::Uint(process.pid.into()),
                _ => Value::Null,
            }
        }),
        field(
            "cgroup.attached.tid",
            Type::Uint,
            "thread that was named when it moved",
            |e| match e.what {
                CgroupWhat::Attached { tid, .. } => Value::Uint(tid.into()),
                _ => Value::Null,
            },
        ),
        field("cgroup.attached.whole", Type::Bool, "whether the whole process moved", |e| match e
            .what
        {
            CgroupWhat::Attached { whole, .. } => Value::Bool(whole),
            _ => Value::Null,
        }),
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

    /// None: the process that moves is not the one that moves it, and a cgroup is made by whoever
    /// made it.
    fn process(&self) -> Option<&Process> {
        None
    }

    /// Version 1 hierarchies say nothing of containers' ids: what happens there is no change.
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
            // A process is where its first thread is.
            CgroupWhat::Attached { process, tid, whole: false } if tid == process.pid => {
                Change::Moved { process, to: self.id }
            }
            CgroupWhat::Attached { .. } => return None,
        })
    }
}
