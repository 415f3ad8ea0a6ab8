//! What the privilege tracker tells.

use bytes::Bytes;
use whalewatch_core::{Event, Field, Process, Timestamp};
use whalewatch_trackers_common::privilege::PrivilegeState;

use super::fields::FIELDS;
use crate::path::FilePath;

/// A process did something that changes what it may do, or that reaches into another or the kernel;
/// or was to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivilegeEvent {
    /// When the system call returned.
    pub time: Timestamp,
    /// The process, as it is then.
    pub process: Process,
    /// The process that is traced, or that was made, where it is known.
    pub target: Option<Process>,
    /// The event's kind.
    pub kind: &'static str,
    /// Name of the system call.
    pub call: &'static str,
    /// What it gave: below 0 the negative error number.
    pub result: i64,
    /// What was before, where that is known.
    pub before: Option<PrivilegeState>,
    /// What is then: the new process's, where one was made.
    pub after: PrivilegeState,
    /// What of these the event is about.
    pub told: Told,
    /// Names of capabilities that the effective set has got, each closed by a NUL byte.
    pub gained: Bytes,
    /// Names of those that it has no more.
    pub lost: Bytes,
    /// What was done.
    pub what: PrivilegeWhat,
}

/// What of a state an event is about, by bits in the order of the state's parts: what changed, and
/// what the call is there to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// User and group ids.
    pub ids: u16,
    /// Sets of capabilities.
    pub capabilities: u16,
    /// Namespaces.
    pub namespaces: u16,
    /// Whether anything changed; not known where what was before is not.
    pub changed: Option<bool>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivilegeWhat {
    /// Namespaces were entered or made.
    Namespaces {
        /// Flags of the call.
        flags: u64,
        /// Names of the kinds, each closed by a NUL byte.
        names: Bytes,
        /// The namespace that was to be entered, by its inode number; 0 where there is no single
        /// one.
        entered: u32,
    },
    /// Ids were changed.
    Ids {
        /// Those that were asked for, in the numbers of the process's own user namespace: -1 to
        /// leave one as it is.
        requested: [Option<i64>; 8],
        /// How many supplementary groups were asked for.
        groups: Option<u64>,
    },
    /// Capabilities were changed.
    Capabilities {
        /// The effective, permitted and inheritable sets that were asked for.
        requested: Option<[u64; 3]>,
    },
    /// Another process was reached into.
    Ptrace {
        /// The request; none for a call that has but one.
        request: Option<Bytes>,
        /// The other, as the process calls it.
        pid: Option<i64>,
    },
    /// A module was loaded or unloaded.
    Module {
        /// Its name; empty where not known.
        name: Bytes,
        /// The file that it came from.
        path: Option<FilePath>,
    },
    /// Something was asked of BPF.
    Bpf(Bpf),
}

/// What was asked of BPF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bpf {
    /// The command.
    pub command: Bytes,
    /// Type of a program that is loaded.
    pub program_type: Option<Bytes>,
    /// Type of a map that is made.
    pub map_type: Option<Bytes>,
    /// What it is attached to.
    pub attach_type: Option<Bytes>,
    /// Name of the program or map; empty where it has none.
    pub name: Bytes,
    /// Path that it is pinned at.
    pub path: Bytes,
    /// The raw tracepoint that it is attached to.
    pub tracepoint: Bytes,
    /// Whether path or tracepoint are longer than shown.
    pub truncated: bool,
    /// Id of the program, map, link or types that was asked for.
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
