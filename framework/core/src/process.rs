//! Data about the process of an event, common to all trackers.

use serde::{Deserialize, Serialize};

use crate::field::{Field, FieldInfo, Type, Value};

/// Identifies a process. A pid alone does not, since the kernel reuses it after the process has
/// exited.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize,
)]
pub struct ProcessKey {
    /// The process id in the host's pid namespace.
    pub pid: u32,
    /// When it started: nanoseconds since boot, suspended time included (the kernel's
    /// `start_boottime`).
    pub start_time: u64,
}

/// Inode numbers of a process's namespaces, as in `/proc/PID/ns/*`; 0 if not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Namespaces {
    /// User namespace.
    pub user: u32,
    /// Pid namespace of the process itself, not the one for its children.
    pub pid: u32,
    /// Mount namespace.
    pub mnt: u32,
    /// Network namespace.
    pub net: u32,
}

/// A process, with ids of the host's namespaces unless stated otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Process {
    /// Process id (the kernel's `tgid`).
    pub pid: u32,
    /// Thread id (the kernel's `pid`).
    pub tid: u32,
    /// Process id of the parent.
    pub parent_pid: u32,
    /// Process id inside its own pid namespace; equal to `pid` in the initial one.
    pub namespaced_pid: u32,
    /// Start of the process: nanoseconds since boot.
    pub start_time: u64,
    /// Start of the parent: nanoseconds since boot; 0 if not known.
    pub parent_start_time: u64,
    /// Effective user id, in the initial user namespace.
    pub uid: u32,
    /// Effective group id, in the initial user namespace.
    pub gid: u32,
    /// Command name as the kernel keeps it: at most 15 bytes, NUL-padded, not always UTF-8.
    #[serde(with = "comm")]
    pub comm: [u8; 16],
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Id of its cgroup in the default (version 2) hierarchy; 0 if not known.
    pub cgroup_id: u64,
}

impl Process {
    /// The key that identifies the process.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { pid: self.pid, start_time: self.start_time }
    }

    /// The key that identifies its parent.
    pub fn parent_key(&self) -> ProcessKey {
        ProcessKey { pid: self.parent_pid, start_time: self.parent_start_time }
    }

    /// The command name without its padding.
    pub fn comm(&self) -> &[u8] {
        let end = self.comm.iter().position(|&b| b == 0).unwrap_or(self.comm.len());
        &self.comm[..end]
    }
}

/// Serialises a command name as text if it is UTF-8, otherwise as bytes.
mod comm {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize)]
    #[serde(untagged)]
    enum Comm {
        Text(String),
        Bytes([u8; 16]),
    }

    pub(super) fn serialize<S: Serializer>(comm: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        let end = comm.iter().position(|&b| b == 0).unwrap_or(comm.len());
        match std::str::from_utf8(&comm[..end]) {
            Ok(text) if comm[end..].iter().all(|&b| b == 0) => text.serialize(to),
            _ => Comm::Bytes(*comm).serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        let text = match Comm::deserialize(from)? {
            Comm::Bytes(bytes) => return Ok(bytes),
            Comm::Text(text) => text,
        };
        let mut bytes = [0; 16];
        let room = bytes.get_mut(..text.len()).filter(|room| room.len() < 16);
        let room = room.ok_or_else(|| D::Error::custom("a command name has at most 15 bytes"))?;
        room.copy_from_slice(text.as_bytes());
        Ok(bytes)
    }
}

const fn uint(
    name: &'static str,
    doc: &'static str,
    get: fn(&Process) -> Value<'_>,
) -> Field<Process> {
    Field { info: FieldInfo { name, ty: Type::Uint, doc }, get }
}

/// The number, or null for 0, which stands for "not known".
fn known(number: u64) -> Value<'static> {
    if number == 0 { Value::Null } else { Value::Uint(number) }
}

/// The fields of every event with a process, in the order of output.
pub const PROCESS_FIELDS: &[Field<Process>] = &[
    uint("process.pid", "process id", |p| Value::Uint(p.pid.into())),
    uint("process.tid", "thread id", |p| Value::Uint(p.tid.into())),
    uint("process.parent_pid", "process id of the parent", |p| Value::Uint(p.parent_pid.into())),
    uint("process.vpid", "process id inside its own pid namespace", |p| {
        Value::Uint(p.namespaced_pid.into())
    }),
    uint("process.start_time", "start of the process, nanoseconds since boot", |p| {
        Value::Uint(p.start_time)
    }),
    Field {
        info: FieldInfo { name: "process.comm", ty: Type::Text, doc: "command name" },
        get: |p| Value::Text(p.comm()),
    },
    uint("process.user.id", "effective user id", |p| Value::Uint(p.uid.into())),
    uint("process.group.id", "effective group id", |p| Value::Uint(p.gid.into())),
    uint("process.namespaces.user", "inode number of the user namespace", |p| {
        known(p.namespaces.user.into())
    }),
    uint("process.namespaces.pid", "inode number of the pid namespace", |p| {
        known(p.namespaces.pid.into())
    }),
    uint("process.namespaces.mnt", "inode number of the mount namespace", |p| {
        known(p.namespaces.mnt.into())
    }),
    uint("process.namespaces.net", "inode number of the network namespace", |p| {
        known(p.namespaces.net.into())
    }),
    uint("process.cgroup_id", "id of the cgroup in the default hierarchy", |p| known(p.cgroup_id)),
];
