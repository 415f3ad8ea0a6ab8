//! Alerts: the output of rules.

use std::sync::Arc;

use whalewatch_core::{Event, Field, FieldInfo, Process, Texts, Timestamp, Type, Value};

use crate::options::Severity;

/// The parts that all alerts of a rule share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The rule's name.
    pub rule: String,
    /// The rule's severity.
    pub severity: Severity,
    /// The rule's tags, each followed by a NUL byte.
    pub tags: Box<[u8]>,
}

/// A match of a rule. Its process, target and attribution are those of the event that completed the
/// match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The time of that event.
    pub time: Timestamp,
    /// The process of that event.
    pub process: Option<Process>,
    /// The target of that event.
    pub target: Option<Process>,
    /// The cgroup of that event, if it has no process.
    pub cgroup: Option<u64>,
    /// The rule.
    pub facts: Arc<Facts>,
    /// What happened, for people.
    pub description: Box<[u8]>,
    /// Number of events in the match.
    pub count: u64,
    /// Number of alerts suppressed since the last one of the same rule and key.
    pub repeats: u64,
    /// Time of the first event in the match.
    pub since: Timestamp,
    /// The newest eight events of the match.
    pub events: Events,
    /// More about the process.
    pub about: About,
}

/// The events of an alert, in lists whose elements each end with a NUL byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Each as a line of JSON. Events that did not fit in memory are missing.
    pub lines: Vec<u8>,
    /// Their kinds.
    pub kinds: Vec<u8>,
    /// Their times, in RFC 3339.
    pub times: Vec<u8>,
    /// The pids of their processes; `-` for none.
    pub pids: Vec<u8>,
}

/// What is known of a process beside the fields that every event has. `None` if unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Path of its executable.
    pub path: Option<Box<[u8]>>,
    /// Its arguments, each followed by a NUL byte.
    pub args: Option<Box<[u8]>>,
    /// Command name of its parent.
    pub parent_comm: Option<Box<[u8]>>,
    /// Path of the parent's executable.
    pub parent_path: Option<Box<[u8]>>,
    /// Command names of its ancestors, the parent first, each followed by a NUL byte.
    pub ancestors: Option<Box<[u8]>>,
}

fn text(text: Option<&[u8]>) -> Value<'_> {
    text.map_or(Value::Null, Value::Text)
}

fn texts(list: &[u8]) -> Value<'_> {
    if list.is_empty() { Value::Null } else { Value::Texts(Texts(list)) }
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&Alert) -> Value<'_>,
) -> Field<Alert> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for Alert {
    const NAME: &'static str = "alert";
    const KINDS: &'static [&'static str] = &["alert"];
    const FIELDS: &'static [Field<Self>] = &[
        field("alert.rule", Type::Text, "name of the rule", |a| {
            Value::Text(a.facts.rule.as_bytes())
        }),
        field("alert.severity", Type::Text, "info, low, medium, high or critical", |a| {
            Value::Text(a.facts.severity.as_str().as_bytes())
        }),
        field("alert.level", Type::Uint, "the severity as a number, from 1 to 5", |a| {
            Value::Uint(a.facts.severity.level())
        }),
        field("alert.description", Type::Text, "what happened, for people", |a| {
            Value::Text(&a.description)
        }),
        field("alert.tags", Type::Texts, "tags of the rule", |a| texts(&a.facts.tags)),
        field("alert.count", Type::Uint, "number of events in the match", |a| Value::Uint(a.count)),
        field(
            "alert.repeats",
            Type::Uint,
            "alerts suppressed since the last one of the same rule and key",
            |a| Value::Uint(a.repeats),
        ),
        field("alert.since", Type::Time, "time of the first event", |a| Value::Time(a.since)),
        field("alert.event_kinds", Type::Texts, "kinds of the events, the newest eight", |a| {
            texts(&a.events.kinds)
        }),
        field("alert.event_times", Type::Texts, "their times", |a| texts(&a.events.times)),
        field("alert.event_pids", Type::Texts, "pids of their processes; - for none", |a| {
            texts(&a.events.pids)
        }),
        field("alert.events", Type::Texts, "the events themselves, as lines of JSON", |a| {
            texts(&a.events.lines)
        }),
        field("process.executable.path", Type::Text, "path of the executable, where known", |a| {
            text(a.about.path.as_deref())
        }),
        field("process.command_args", Type::Texts, "arguments, the command itself first", |a| {
            a.about.args.as_deref().map_or(Value::Null, texts)
        }),
        field("parent.comm", Type::Text, "command name of the parent, where known", |a| {
            text(a.about.parent_comm.as_deref())
        }),
        field("parent.executable.path", Type::Text, "path of its executable, where known", |a| {
            text(a.about.parent_path.as_deref())
        }),
        field(
            "ancestors.comm",
            Type::Texts,
            "command names of the ancestors, the parent first",
            |a| a.about.ancestors.as_deref().map_or(Value::Null, texts),
        ),
    ];

    fn kind(&self) -> &'static str {
        "alert"
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn target(&self) -> Option<&Process> {
        self.target.as_ref()
    }

    fn cgroup(&self) -> Option<u64> {
        self.cgroup
    }
}
