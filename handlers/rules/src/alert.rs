//! Alerts: what a rule tells.

use std::sync::Arc;

use whalewatch_core::{Event, Field, FieldInfo, Process, Texts, Timestamp, Type, Value};

use crate::options::Severity;

/// What is the same in all alerts of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The rule's name.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// Tags, each closed by a NUL byte.
    pub tags: Box<[u8]>,
}

/// A rule was right about something. Its process, its target and its attribution are those of the
/// event that completed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// When that event happened.
    pub time: Timestamp,
    /// Who did it.
    pub process: Option<Process>,
    /// Whom it was done to.
    pub target: Option<Process>,
    /// The cgroup that it is about, of an event of no process.
    pub cgroup: Option<u64>,
    /// The rule.
    pub facts: Arc<Facts>,
    /// What happened, for people.
    pub description: Box<[u8]>,
    /// How many events it comes of.
    pub count: u64,
    /// How many more alerts there would have been since the last of the same rule and key.
    pub repeats: u64,
    /// When the first of the events happened.
    pub since: Timestamp,
    /// The events it comes of, the newest eight.
    pub events: Events,
    /// What is known of the process besides.
    pub about: About,
}

/// The events that an alert comes of, in lists whose elements are each closed by a NUL byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Each as a line of JSON; those are left out for which there was no room.
    pub lines: Vec<u8>,
    /// Their kinds.
    pub kinds: Vec<u8>,
    /// Their times, in RFC 3339.
    pub times: Vec<u8>,
    /// Their processes' pids; `-` for none.
    pub pids: Vec<u8>,
}

/// What is known of a process besides what every event says. Nothing where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Path of its executable.
    pub path: Option<Box<[u8]>>,
    /// Its arguments, each closed by a NUL byte.
    pub args: Option<Box<[u8]>>,
    /// Command name of its parent.
    pub parent_comm: Option<Box<[u8]>>,
    /// Path of the parent's executable.
    pub parent_path: Option<Box<[u8]>>,
    /// Command names of its ancestors, the parent first, each closed by a NUL byte.
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
        field("alert.count", Type::Uint, "how many events it comes of", |a| Value::Uint(a.count)),
        field(
            "alert.repeats",
            Type::Uint,
            "how many more there would have been since the last of the same rule and key",
            |a| Value::Uint(a.repeats),
        ),
        field("alert.since", Type::Time, "when the first of the events happened", |a| {
            Value::Time(a.since)
        }),
        field("alert.event_kinds", Type::Texts, "kinds of the events, the newest eight", |a| {
            texts(&a.events.kinds)
        }),
        field("alert.event_times", Type::Texts, "their times", |a| texts(&a.events.times)),
        field("alert.event_pids", Type::Texts, "their processes; - for none", |a| {
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
