//! The syscalls tracker's events.

use bytes::Bytes;
use whalewatch_core::{Event, Field, FieldInfo, Process, Texts, Timestamp, Type, Value};

use crate::errno;

/// One system call, or the sum of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyscallEvent {
    /// When the call returned, or the sum was read.
    pub time: Timestamp,
    /// The system call's number on this architecture.
    pub number: u32,
    /// One call or a sum.
    pub what: SyscallWhat,
}

/// One system call, or the sum of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyscallWhat {
    /// One call.
    Call {
        /// The process.
        process: Process,
        /// Its six arguments in hexadecimal, each followed by a NUL byte.
        arguments: Bytes,
        /// Its result.
        result: i64,
        /// The error number, if it failed.
        error: Option<u32>,
        /// Its duration in nanoseconds.
        latency: u64,
    },
    /// All calls with one number in a cgroup during an interval.
    Stats {
        /// The cgroup's id.
        cgroup: u64,
        /// Number of calls.
        count: u64,
        /// Number of failed calls.
        errors: u64,
        /// Sum of their durations in nanoseconds.
        time: u64,
        /// The longest duration in nanoseconds.
        longest: u64,
        /// Length of the interval in nanoseconds.
        interval: u64,
        /// Failed calls by error (`ENOENT=12`), each followed by a NUL byte.
        errors_by_type: Bytes,
        /// Calls by duration (`1024=7`), each followed by a NUL byte.
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
        field(
            "syscall.name",
            Type::Text,
            "name of the call; none if it is newer than the tracker's list",
            |e| super::name(e.number).map_or(Value::Null, |name| Value::Text(name.as_bytes())),
        ),
        field("syscall.number", Type::Uint, "number of the call on this architecture", |e| {
            Value::Uint(e.number.into())
        }),
        field("syscall.arguments", Type::Texts, "the six arguments, in hexadecimal", |e| match &e
            .what
        {
            Call { arguments, .. } => Value::Texts(Texts(arguments)),
            Stats { .. } => Value::Null,
        }),
        field(
            "syscall.result",
            Type::Int,
            "result of the call; a negative number is an error",
            |e| match e.what {
                Call { result, .. } => Value::Int(result),
                Stats { .. } => Value::Null,
            },
        ),
        field("syscall.latency_ns", Type::Uint, "duration of the call in nanoseconds", |e| {
            stat(e, |what| if let Call { latency, .. } = what { Some(*latency) } else { None })
        }),
        field("syscall.count", Type::Uint, "calls that returned in this interval", sum!(count)),
        field("syscall.errors", Type::Uint, "failed calls in this interval", sum!(errors)),
        field(
            "syscall.errors_by_type",
            Type::Texts,
            "failed calls by error: ENOENT=12, …",
            |e| match &e.what {
                Stats { errors_by_type, .. } => Value::Texts(Texts(errors_by_type)),
                Call { .. } => Value::Null,
            },
        ),
        field("syscall.time_ns", Type::Uint, "sum of the durations in nanoseconds", sum!(time)),
        field(
            "syscall.latency.max_ns",
            Type::Uint,
            "longest duration in nanoseconds",
            sum!(longest),
        ),
        field(
            "syscall.latency.histogram",
            Type::Texts,
            "calls by duration in powers of two: 1024=7 for 7 calls of 1024 to 2047 ns",
            |e| match &e.what {
                Stats { histogram, .. } => Value::Texts(Texts(histogram)),
                Call { .. } => Value::Null,
            },
        ),
        field(
            "syscall.interval_ns",
            Type::Uint,
            "length of this interval in nanoseconds",
            sum!(interval),
        ),
        field("cgroup.id", Type::Uint, "id of the cgroup whose calls are summed", sum!(cgroup)),
        field("error.code", Type::Uint, "error number if the call failed", |e| {
            error(e).map_or(Value::Null, |number| Value::Uint(number.into()))
        }),
        field("error.type", Type::Text, "name of the error: ENOENT, …", |e| {
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
