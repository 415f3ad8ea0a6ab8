//! The signals tracker's events.

use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

use super::names;

/// A signal was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalEvent {
    /// When it was sent.
    pub time: Timestamp,
    /// The sending process; the receiving one if the kernel itself sent the signal.
    pub sender: Process,
    /// The receiving process.
    pub target: Process,
    /// Its number.
    pub number: u32,
    /// Why it was sent (`si_code`).
    pub code: i32,
    /// The result, as the kernel numbers it (`TRACE_SIGNAL_*`).
    pub result: u32,
    /// Whether it is for the whole process, not for one thread.
    pub group: bool,
    /// Whether the kernel itself sent it.
    pub from_kernel: bool,
}

impl SignalEvent {
    /// The result, in a word.
    pub fn result(&self) -> &'static str {
        match self.result {
            0 => "delivered",
            1 => "ignored",
            2 => "already_pending",
            3 => "overflow_fail",
            _ => "lose_info",
        }
    }
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&SignalEvent) -> Value<'_>,
) -> Field<SignalEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for SignalEvent {
    const NAME: &'static str = "signals";
    const KINDS: &'static [&'static str] = &["signal.send"];
    const FIELDS: &'static [Field<Self>] = &[
        field("signal.number", Type::Uint, "number of the signal", |e| {
            Value::Uint(e.number.into())
        }),
        field(
            "signal.name",
            Type::Text,
            "name of the signal: SIGKILL, …; SIGRT for all real-time signals",
            |e| Value::Text(names::name(e.number).as_bytes()),
        ),
        field("signal.code", Type::Int, "reason for the signal: si_code, see sigaction(2)", |e| {
            Value::Int(e.code.into())
        }),
        field(
            "signal.result",
            Type::Text,
            "result: delivered, ignored, already_pending, overflow_fail or lose_info",
            |e| Value::Text(e.result().as_bytes()),
        ),
        field(
            "signal.group",
            Type::Bool,
            "true if the signal is for the whole process, false if for one thread",
            |e| Value::Bool(e.group),
        ),
        field(
            "signal.sender",
            Type::Text,
            "process or kernel; if kernel, the event's process is the receiver",
            |e| Value::Text(if e.from_kernel { b"kernel" } else { b"process" }),
        ),
        field("signal.target.pid", Type::Uint, "process id of the receiver", |e| {
            Value::Uint(e.target.pid.into())
        }),
        field("signal.target.tid", Type::Uint, "thread id of the receiver", |e| {
            Value::Uint(e.target.tid.into())
        }),
        field(
            "signal.target.vpid",
            Type::Uint,
            "process id of the receiver inside its own pid namespace",
            |e| Value::Uint(e.target.namespaced_pid.into()),
        ),
        field(
            "signal.target.start_time",
            Type::Uint,
            "start of the receiver, nanoseconds since boot",
            |e| Value::Uint(e.target.start_time),
        ),
        field("signal.target.comm", Type::Text, "command name of the receiver", |e| {
            Value::Text(e.target.comm())
        }),
        field("signal.target.user.id", Type::Uint, "effective user id of the receiver", |e| {
            Value::Uint(e.target.uid.into())
        }),
        field("signal.target.cgroup_id", Type::Uint, "id of the receiver's cgroup", |e| {
            Value::Uint(e.target.cgroup_id)
        }),
    ];

    fn kind(&self) -> &'static str {
        "signal.send"
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.sender)
    }

    fn target(&self) -> Option<&Process> {
        Some(&self.target)
    }
}
