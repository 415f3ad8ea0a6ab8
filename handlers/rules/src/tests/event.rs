//! Events of all trackers as one type, written as tables: `{ kind = "file.open", comm = "sh",
//! "file.path" = "/etc/passwd" }`.

use std::sync::Arc;

use serde::Deserialize;
use whalewatch_core::{
    Attribution, Batch, Change, Container, Event, Evidence, Namespaces, OwnedValue, Process,
    Runtime, State, Timestamp, Type,
};
use whalewatch_testing::{TestEvent, TestType, comm};

/// An event as written in a test.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    kind: String,
    /// Milliseconds since the previous event.
    #[serde(default = "ten")]
    after: u64,
    #[serde(default)]
    pid: u32,
    #[serde(default = "one")]
    ppid: u32,
    /// Pid in the container's namespace. By default that of a process that is not the first one.
    #[serde(default = "two")]
    vpid: u32,
    #[serde(default)]
    comm: String,
    /// Name of the container; none for the host.
    container: Option<String>,
    /// Container of the target, or `host`.
    target: Option<String>,
    #[serde(flatten)]
    fields: toml::Table,
}

fn ten() -> u64 {
    10
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

/// A type of events with any of these fields.
#[derive(Clone)]
pub(crate) struct AnyType;

/// An event with any fields.
pub(crate) type AnyEvent = TestEvent<AnyType>;

impl TestType for AnyType {
    const NAME: &'static str = "any";
    const KINDS: &'static [&'static str] = &[
        "process.existing",
        "process.fork",
        "process.exec",
        "process.exit",
        "file.open",
        "file.delete",
        "file.permission",
        "network.connect",
        "oom.kill",
        "signal.send",
        "mount.mount",
        "privilege.setns",
        "privilege.unshare",
        "privilege.setuid",
        "privilege.capset",
        "privilege.ptrace",
        "privilege.module",
        "privilege.bpf",
    ];
    const FIELDS: &'static [(&'static str, Type)] = &[
        ("process.executable.path", Type::Text),
        ("process.command_args", Type::Texts),
        ("process.exit.signal", Type::Uint),
        ("file.path", Type::Text),
        ("file.access", Type::Text),
        ("file.create", Type::Bool),
        ("file.truncate", Type::Bool),
        ("file.mode", Type::Text),
        ("network.transport", Type::Text),
        ("network.peer.address", Type::Text),
        ("network.peer.port", Type::Uint),
        ("signal.number", Type::Uint),
        ("signal.name", Type::Text),
        ("signal.sender", Type::Text),
        ("signal.target.comm", Type::Text),
        ("mount.operation", Type::Text),
        ("mount.source", Type::Text),
        ("mount.target", Type::Text),
        ("privilege.call", Type::Text),
        ("privilege.changed", Type::Bool),
        ("privilege.namespaces", Type::Texts),
        ("privilege.requested.namespace", Type::Uint),
        ("privilege.after.namespaces.mnt", Type::Uint),
        ("privilege.gained", Type::Texts),
        ("privilege.request", Type::Text),
        ("privilege.target.pid", Type::Uint),
        ("privilege.target.comm", Type::Text),
        ("module.name", Type::Text),
        ("bpf.command", Type::Text),
        ("bpf.program.type", Type::Text),
        ("error.code", Type::Uint),
        ("error.type", Type::Text),
    ];
}

/// Time of the first event.
const START: u64 = 1_795_441_580_000_000_000;

/// Inode numbers of a container's namespaces, by its cgroup.
fn spaces(cgroup: u64) -> Namespaces {
    let base = 4_026_531_000 + cgroup as u32 * 10;
    Namespaces { user: base + 1, pid: base + 2, mnt: base + 3, net: base + 4 }
}

/// Returns the id of a container's cgroup; that of the host is 1.
fn cgroup(container: Option<&str>) -> u64 {
    container.map_or(1, |name| name.bytes().map(u64::from).sum::<u64>() % 1000 + 2)
}

fn container(name: &str) -> Arc<Container> {
    let bare = Container::bare(format!("id-of-{name}"), Runtime::Docker);
    let image = format!("image-of-{}", name.trim_end_matches(|c: char| c.is_ascii_digit()));
    Arc::new(Container { name: Some(name.into()), image: Some(image.into()), ..bare })
}

fn process(line: &Line) -> Process {
    let cgroup = cgroup(line.container.as_deref());
    Process {
        pid: line.pid,
        tid: line.pid,
        parent_pid: line.ppid,
        namespaced_pid: line.vpid,
        start_time: u64::from(line.pid) * 1000,
        parent_start_time: u64::from(line.ppid) * 1000,
        comm: comm(&line.comm),
        namespaces: spaces(cgroup),
        cgroup_id: cgroup,
        ..Process::default()
    }
}

impl Line {
    /// Replaces `%` in the texts with a number, and the last digits of numbers that end in 0000.
    pub(crate) fn numbered(mut self, number: u32) -> Self {
        for (_, value) in &mut self.fields {
            match value {
                toml::Value::String(text) => *text = text.replace('%', &number.to_string()),
                toml::Value::Integer(base) if *base % 10_000 == 0 => *base += i64::from(number),
                _ => {}
            }
        }
        self
    }

    pub(crate) fn event(&self, time: Timestamp) -> AnyEvent {
        let kind = AnyEvent::KINDS.iter().find(|kind| **kind == self.kind);
        let kind = kind.unwrap_or_else(|| panic!("no kind {}", self.kind));
        let process = process(self);
        let change = match *kind {
            "process.existing" => Some(Change::Existing),
            "process.fork" => Some(Change::Forked { parent: process.parent_key() }),
            "process.exec" => Some(Change::Executed),
            "process.exit" => Some(Change::Exited),
            _ => None,
        };
        let mut event = AnyEvent::of(kind).at(time.as_nanos()).by(process);
        if let Some(change) = change {
            event = event.changing(change);
        }
        if self.target.is_some() {
            event = event.to(Process::default());
        }
        self.fields.iter().fold(event, |event, (name, value)| event.with(name, owned(value)))
    }

    fn attribution(&self) -> Attribution {
        let mut attribution = match &self.container {
            Some(name) => Attribution::container(container(name), Evidence::Cgroup),
            None => Attribution::host(Evidence::Cgroup),
        };
        match self.target.as_deref() {
            Some("host") => attribution.target_state = State::Host,
            Some(name) => {
                attribution.target_state = State::Resolved;
                attribution.target = Some(container(name));
            }
            None => {}
        }
        attribution
    }

    /// Whether the event reports a process that already ran.
    pub(crate) fn existed(&self) -> bool {
        self.kind == "process.existing"
    }

    /// Whether the event is from the process tracker.
    pub(crate) fn is_of_process(&self) -> bool {
        self.kind.starts_with("process.")
    }
}

fn owned(value: &toml::Value) -> OwnedValue {
    match value {
        toml::Value::Boolean(flag) => OwnedValue::Bool(*flag),
        toml::Value::Integer(number) => OwnedValue::Int(*number),
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Array(items) => {
            OwnedValue::texts(items.iter().map(|item| item.as_str().expect("a text").as_bytes()))
        }
        value => panic!("no field can be {value:?}"),
    }
}

/// One attributed batch for each event.
pub(crate) fn batches(lines: &[Line]) -> Vec<Batch> {
    let mut time = START;
    let events = lines.iter().map(|line| {
        time += line.after * 1_000_000;
        let batch = Batch::new("t".into(), vec![line.event(Timestamp(time))]);
        batch.with_attributions([line.attribution()])
    });
    events.collect()
}

/// Inode number of the host's mount namespace.
pub(crate) fn host_mnt() -> u32 {
    spaces(1).mnt
}
