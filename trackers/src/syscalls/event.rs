//! What the syscalls tracker tells.

use bytes::Bytes;
use whalewatch_core::{Event, Field, FieldInfo, Process, Texts, Timestamp, Type, Value};

use crate::errno;

/// System calls were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallEvent {
    /// When the call returned, or the sum was made.
    pub time: Timestamp,
    /// The system call's number on this architecture.
    pub number: u32,
    /// What is told of it.
    pub what: SyscallWhat,
}

/// What is told of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyscallWhat {
    /// One call.
    Call {
        /// The process.
        process: Process,
        /// Its six arguments, each ended by a NUL byte.
        arguments: Bytes,
        /// What it gave.
        result: i64,
        /// The error number, if it failed.
        error: Option<u32>,
        /// Nanoseconds that it took.
        latency: u64,
    },
    /// All calls of a cgroup in an interval.
    Stats {
        /// The cgroup's id.
        cgroup: u64,
        /// Calls.
        count: u64,
        /// Those that failed.
        errors: u64,
        /// Nanoseconds in all.
        time: u64,
        /// Nanoseconds of the longest.
        longest: u64,
        /// Nanoseconds since it was told last.
        interval: u64,
        /// How many failed with which error, each ended by a NUL byte.
        errors_by_type: Bytes,
        /// How many took how long, each ended by a NUL byte.
        histogram: Bytes,
    },
}

use SyscallWhat::{Call, Stats};

fn stat(event: &SyscallEvent, get: fn(&SyscallWhat) -> Option<u64>) -> Value<'static> {
    get(&event.what).map_or(Value::Null, Value::Uint)
}

/// One of the sums.
macro_rules! sum {
    ($field:ident) => {
        |e| stat(e, |what| if let Stats { $field, .. } = what { Some(*$field) } else { None })
    };
}

fn error(event: &SyscallEvent) -> Option<u32> {
    if let Call { error, .. } = event.what { error } else { None }
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&SyscallEvent) -> Value<'_>,
) -> Field<SyscallEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for SyscallEvent {
    const NAME: &'static str = "syscalls";
    const KINDS: &'static [&'static str] = &["syscall.stats", "syscall.call"];
    const FIELDS: &'static [Field<Self>] = &[
        field("syscall.name", Type::Text, "the call's name; none if newer than our list", |e| {
            super::name(e.number).map_or(Value::Null, |name| Value::Text(name.as_bytes()))
        }),
        field("syscall.number", Type::Uint, "its number on this architecture", |e| {
            Value::Uint(e.number.into())
        }),
        field("syscall.arguments", Type::Texts, "its six arguments, in hexadecimal", |e| match &e
            .what
        {
            Call { arguments, .. } => Value::Texts(Texts(arguments)),
            Stats { .. } => Value::Null,
        }),
        field("syscall.result", Type::Int, "what it gave; below 0 an error", |e| match e.what {
            Call { result, .. } => Value::Int(result),
            Stats { .. } => Value::Null,
        }),
        field("syscall.latency_ns", Type::Uint, "nanoseconds that it took", |e| {
            stat(e, |what| if let Call { latency, .. } = what { Some(*latency) } else { None })
        }),
        field("syscall.count", Type::Uint, "calls that returned in this interval", sum!(count)),
        field("syscall.errors", Type::Uint, "those that failed", sum!(errors)),
        field(
            "syscall.errors_by_type",
            Type::Texts,
            "how many failed with which error: ENOENT=12, …",
            |e| match &e.what {
                Stats { errors_by_type, .. } => Value::Texts(Texts(errors_by_type)),
                Call { .. } => Value::Null,
            },
        ),
        field("syscall.time_ns", Type::Uint, "nanoseconds that they took in all", sum!(time)),
        field("syscall.latency.max_ns", Type::Uint, "nanoseconds of the longest", sum!(longest)),
        field(
            "syscall.latency.histogram",
            Type::Texts,
            "how many took how long, in powers of two: least nanoseconds=calls",
            |e| match &e.what {
                Stats { histogram, .. } => Value::Texts(Texts(histogram)),
                Call { .. } => Value::Null,
            },
        ),
        field("syscall.interval_ns", Type::Uint, "nanoseconds that it sums", sum!(interval)),
        field("cgroup.id", Type::Uint, "id of the cgroup that is summed", sum!(cgroup)),
        field("error.code", Type::Uint, "error number of a call that failed", |e| {
            error(e).map_or(Value::Null, |number| Value::Uint(number.into()))
        }),
        field("error.type", Type::Text, "name of that error: ENOENT, …", |e| {
            let name = error(e).and_then(errno::name);
            name.map_or(Value::Null, |name| Value::Text(name.as_bytes()))
        }),
    ];

    fn kind(&self) -> &'static str {
        match self.what {
            Stats { .. } => "syscall.stats",
            Call { .. } => "syscall.call",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        if let Call { process, .. } = &self.what { Some(process) } else { None }
    }

    fn cgroup(&self) -> Option<u64> {
        if let Stats { cgroup, .. } = self.what { Some(cgroup) } else { None }
    }
}
