//! The oom tracker's events.

use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

/// The kernel kills a process because memory ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomEvent {
    /// When the process was chosen.
    pub time: Timestamp,
    /// The killed process.
    pub victim: Process,
    /// Bytes of its address space.
    pub total: u64,
    /// Its memory.
    pub memory: Memory,
    /// The limit of its memory cgroup, or of the nearest one above that has a limit, in bytes;
    /// `None` if none has.
    pub limit: Option<u64>,
    /// Bytes used in the cgroup with that limit.
    pub usage: Option<u64>,
    /// Its `oom_score_adj`, from -1000 to 1000.
    pub score_adjustment: i32,
    /// The process whose request for memory failed.
    pub trigger_pid: u32,
    /// Its command name, padded with NUL bytes.
    pub trigger_comm: [u8; 16],
}

/// The memory of a process, in bytes. The kernel keeps these counters per CPU, so each can be off
/// by some pages per CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Anonymous: heap and stack.
    pub anonymous: u64,
    /// Mapped files.
    pub file: u64,
    /// Shared memory.
    pub shared: u64,
    /// Swapped out.
    pub swap: u64,
}

const fn uint(
    name: &'static str,
    doc: &'static str,
    get: fn(&OomEvent) -> Value<'_>,
) -> Field<OomEvent> {
    Field { info: FieldInfo { name, ty: Type::Uint, doc }, get }
}

fn known(number: Option<u64>) -> Value<'static> {
    number.map_or(Value::Null, Value::Uint)
}

impl Event for OomEvent {
    const NAME: &'static str = "oom";
    const KINDS: &'static [&'static str] = &["oom.kill"];
    const FIELDS: &'static [Field<Self>] = &[
        uint("oom.total_bytes", "bytes of the process's address space", |e| Value::Uint(e.total)),
        uint("oom.anonymous_bytes", "bytes of anonymous memory (heap, stack) in use", |e| {
            Value::Uint(e.memory.anonymous)
        }),
        uint("oom.file_bytes", "bytes of mapped files in memory", |e| Value::Uint(e.memory.file)),
        uint("oom.shared_bytes", "bytes of shared memory in use", |e| Value::Uint(e.memory.shared)),
        uint("oom.swap_bytes", "bytes swapped out", |e| Value::Uint(e.memory.swap)),
        uint(
            "oom.limit_bytes",
            "memory limit of its cgroup, or of the nearest one above that has a limit",
            |e| known(e.limit),
        ),
        uint("oom.usage_bytes", "bytes used in the cgroup with that limit", |e| known(e.usage)),
        Field {
            info: FieldInfo {
                name: "oom.score_adjustment",
                ty: Type::Int,
                doc: "oom_score_adj of the process, from -1000 to 1000",
            },
            get: |e| Value::Int(e.score_adjustment.into()),
        },
        uint("oom.trigger.pid", "process id of the one whose request for memory failed", |e| {
            Value::Uint(e.trigger_pid.into())
        }),
        Field {
            info: FieldInfo {
                name: "oom.trigger.comm",
                ty: Type::Text,
                doc: "command name of that process",
            },
            get: |e| {
                let end = e.trigger_comm.iter().position(|&byte| byte == 0);
                Value::Text(&e.trigger_comm[..end.unwrap_or(e.trigger_comm.len())])
            },
        },
    ];

    fn kind(&self) -> &'static str {
        "oom.kill"
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.victim)
    }
}
