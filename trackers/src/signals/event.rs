//! What the signals tracker tells.

use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

use super::names;

/// A signal was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalEvent {
    /// When.
    pub time: Timestamp,
    /// Who sent it; who gets it, where the kernel itself sent it.
    pub sender: Process,
    /// Who gets it.
    pub target: Process,
    /// Its number.
    pub number: u32,
    /// Why it was sent (`si_code`).
    pub code: i32,
    /// What became of it, as the kernel numbers it.
    pub result: u32,
    /// Whether it is for the whole process, and not one thread.
    pub group: bool,
    /// Whether the kernel itself sent it.
    pub from_kernel: bool,
}

impl SignalEvent {
    /// What became of it, in a word.
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
            "its name: SIGKILL, …; SIGRT for all real-time signals",
            |e| Value::Text(names::name(e.number).as_bytes()),
        ),
        field("signal.code", Type::Int, "why it was sent: si_code of sigaction(2)", |e| {
            Value::Int(e.code.into())
        }),
        field(
            "signal.result",
            Type::Text,
            "delivered, ignored, already_pending, overflow_fail or lose_info",
            |e| Value::Text(e.result().as_bytes()),
        ),
        field("signal.group", Type::Bool, "true if it is for the whole process", |e| {
            Value::Bool(e.group)
        }),
        field(
            "signal.sender",
            Type::Text,
            "process, or kernel: then the event's process is the one that gets it",
            |e| Value::Text(if e.from_kernel { b"kernel" } else { b"process" }),
        ),
        field("signal.target.pid", Type::Uint, "process that gets it", |e| {
            Value::Uint(e.target.pid.into())
        }),
        field("signal.target.tid", Type::Uint, "thread that it was aimed at", |e| {
            Value::Uint(e.target.tid.into())
        }),
        field("signal.target.vpid", Type::Uint, "that process in its own pid namespace", |e| {
            Value::Uint(e.target.namespaced_pid.into())
        }),
        field("signal.target.start_time", Type::Uint, "start of that process", |e| {
            Value::Uint(e.target.start_time)
        }),
        field("signal.target.comm", Type::Text, "command name of that process", |e| {
            Value::Text(e.target.comm())
        }),
        field("signal.target.user.id", Type::Uint, "effective user id of that process", |e| {
            Value::Uint(e.target.uid.into())
        }),
        field("signal.target.cgroup_id", Type::Uint, "cgroup of that process", |e| {
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
