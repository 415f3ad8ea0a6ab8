//! What the oom tracker tells.

use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

/// A process is killed because memory ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomEvent {
    /// When it was chosen.
    pub time: Timestamp,
    /// The process.
    pub victim: Process,
    /// Bytes that it has mapped.
    pub total: u64,
    /// Bytes that it has in memory.
    pub memory: Memory,
    /// The limit of its memory cgroup, in bytes, or of the next one above that has one; `None` for
    /// none.
    pub limit: Option<u64>,
    /// Bytes that are used of that.
    pub usage: Option<u64>,
    /// Its `oom_score_adj`, from -1000 to 1000.
    pub score_adjustment: i32,
    /// The process that needed memory when there was none.
    pub trigger_pid: u32,
    /// Its command name, padded with NUL bytes.
    pub trigger_comm: [u8; 16],
}

/// What a process has in memory, in bytes. The kernel spreads these counters over CPUs, so each can
/// be off by some pages a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of its own.
    pub anonymous: u64,
    /// Of files.
    pub file: u64,
    /// Shared.
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
        uint("oom.total_bytes", "bytes that the process has mapped", |e| Value::Uint(e.total)),
        uint("oom.anonymous_bytes", "bytes of its own in memory", |e| {
            Value::Uint(e.memory.anonymous)
        }),
        uint("oom.file_bytes", "bytes of files in memory", |e| Value::Uint(e.memory.file)),
        uint("oom.shared_bytes", "shared bytes in memory", |e| Value::Uint(e.memory.shared)),
        uint("oom.swap_bytes", "bytes that are swapped out", |e| Value::Uint(e.memory.swap)),
        uint(
            "oom.limit_bytes",
            "limit of its memory cgroup, or of the next one above that has one",
            |e| known(e.limit),
        ),
        uint("oom.usage_bytes", "what is used of that limit", |e| known(e.usage)),
        Field {
            info: FieldInfo {
                name: "oom.score_adjustment",
                ty: Type::Int,
                doc: "its oom_score_adj, from -1000 to 1000",
            },
            get: |e| Value::Int(e.score_adjustment.into()),
        },
        uint("oom.trigger.pid", "process that needed memory when there was none", |e| {
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
