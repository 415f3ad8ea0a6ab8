//! The privilege tracker's events.

use bytes::Bytes;
use whalewatch_core::{Event, Field, Process, Timestamp};
use whalewatch_trackers_common::privilege::PrivilegeState;

use super::fields::FIELDS;
use crate::path::FilePath;

/// A call that changes the privileges of a process, or accesses another process or the kernel. It
/// may have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivilegeEvent {
    /// When the system call returned.
    pub time: Timestamp,
    /// The process, as it was then.
    pub process: Process,
    /// The traced process, or the new one, if known.
    pub target: Option<Process>,
    /// The event's kind.
    pub kind: &'static str,
    /// Name of the system call.
    pub call: &'static str,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
    /// The state before, if known.
    pub before: Option<PrivilegeState>,
    /// The state after; that of the new process if one was created.
    pub after: PrivilegeState,
    /// Which parts of the states the event is about.
    pub relevant: Relevant,
    /// Names of capabilities that the effective set gained, each followed by a NUL byte.
    pub gained: Bytes,
    /// Names of capabilities that the effective set lost.
    pub lost: Bytes,
    /// What was done.
    pub what: PrivilegeWhat,
}

/// Which parts of a state an event is about, as bits in the order of the state's arrays: those that
/// changed, and those that the call exists to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relevant {
    /// User and group ids.
    pub ids: u16,
    /// Sets of capabilities.
    pub capabilities: u16,
    /// Namespaces.
    pub namespaces: u16,
    /// Whether anything changed; `None` if the state before is not known.
    pub changed: Option<bool>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivilegeWhat {
    /// Namespaces were entered or created.
    Namespaces {
        /// Flags of the call.
        flags: u64,
        /// Names of the namespaces' types, each followed by a NUL byte.
        names: Bytes,
        /// Inode number of the namespace to enter; 0 if there is not exactly one.
        entered: u32,
    },
    /// Ids were changed.
    Ids {
        /// The requested ids, as the process's own user namespace numbers them; -1 leaves one
        /// unchanged.
        requested: [Option<i64>; 8],
        /// Number of requested supplementary groups.
        groups: Option<u64>,
    },
    /// Capabilities were changed.
    Capabilities {
        /// The requested effective, permitted and inheritable sets.
        requested: Option<[u64; 3]>,
    },
    /// Another process was traced, or its memory accessed.
    Ptrace {
        /// The request; `None` for a call other than `ptrace`.
        request: Option<Bytes>,
        /// The other process's id, as the calling process numbers it.
        pid: Option<i64>,
    },
    /// A module was loaded or unloaded.
    Module {
        /// Its name; empty if not known.
        name: Bytes,
        /// The file that it was loaded from.
        path: Option<FilePath>,
    },
    /// `bpf(2)` was called.
    Bpf(Bpf),
}

/// A call of `bpf(2)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bpf {
    /// The command.
    pub command: Bytes,
    /// Type of the program to load.
    pub program_type: Option<Bytes>,
    /// Type of the map to create.
    pub map_type: Option<Bytes>,
    /// What the program is attached to.
    pub attach_type: Option<Bytes>,
    /// Name of the program or map; empty if it has none.
    pub name: Bytes,
    /// Path to pin the object at.
    pub path: Bytes,
    /// The raw tracepoint to attach to.
    pub tracepoint: Bytes,
    /// Whether path or tracepoint were cut.
    pub truncated: bool,
    /// Id of the requested program, map, link or type information.
    pub id: Option<u32>,
}

impl Event for PrivilegeEvent {
    const NAME: &'static str = "privilege";
    const KINDS: &'static [&'static str] = &[
        "privilege.setns",
        "privilege.unshare",
        "privilege.setuid",
        "privilege.capset",
        "privilege.ptrace",
        "privilege.module",
        "privilege.bpf",
    ];
    const FIELDS: &'static [Field<Self>] = FIELDS;

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn target(&self) -> Option<&Process> {
        self.target.as_ref()
    }
}
