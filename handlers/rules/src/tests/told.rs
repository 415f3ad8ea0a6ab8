//! Events of every tracker as one type, written as tables: `{ kind = "file.open", comm = "sh",
//! "file.path" = "/etc/passwd" }`.

use std::sync::Arc;

use serde::Deserialize;
use whalewatch_core::{
    Attribution, Batch, Change, Container, Event, Evidence, Field, FieldInfo, Namespaces, Process,
    Runtime, State, Texts, Timestamp, Type, Value,
};

/// An event as it is written.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    kind: String,
    /// Milliseconds since the event before.
    #[serde(default = "ten")]
    after: u64,
    #[serde(default)]
    pid: u32,
    #[serde(default = "one")]
    ppid: u32,
    /// In its container; by default that of a process that is not the first.
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

/// An event with any fields.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    kind: &'static str,
    time: Timestamp,
    process: Process,
    target: Option<Process>,
    values: Vec<(String, Owned)>,
}

#[derive(Clone, Debug)]
enum Owned {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(String),
    Texts(Vec<u8>),
}

impl Told {
    fn get(&self, name: &str) -> Value<'_> {
        match self.values.iter().find(|(known, _)| known == name) {
            None => Value::Null,
            Some((_, Owned::Bool(flag))) => Value::Bool(*flag),
            Some((_, Owned::Int(number))) => Value::Int(*number),
            Some((_, Owned::Uint(number))) => Value::Uint(*number),
            Some((_, Owned::Text(text))) => Value::Text(text.as_bytes()),
            Some((_, Owned::Texts(list))) => Value::Texts(Texts(list)),
        }
    }
}

macro_rules! fields {
    ($($name:literal $ty:ident,)*) => {
        &[$(Field {
            info: FieldInfo { name: $name, ty: Type::$ty, doc: "" },
            get: |event: &Told| event.get($name),
        },)*]
    };
}

impl Event for Told {
    const NAME: &'static str = "told";
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
    const FIELDS: &'static [Field<Self>] = fields![
        "process.executable.path" Text,
        "process.command_args" Texts,
        "process.exit.signal" Uint,
        "file.path" Text,
        "file.access" Text,
        "file.create" Bool,
        "file.truncate" Bool,
        "file.mode" Text,
        "network.transport" Text,
        "network.peer.address" Text,
        "network.peer.port" Uint,
        "signal.number" Uint,
        "signal.name" Text,
        "signal.sender" Text,
        "signal.target.comm" Text,
        "mount.operation" Text,
        "mount.source" Text,
        "mount.target" Text,
        "privilege.call" Text,
        "privilege.changed" Bool,
        "privilege.namespaces" Texts,
        "privilege.requested.namespace" Uint,
        "privilege.after.namespaces.mnt" Uint,
        "privilege.gained" Texts,
        "privilege.request" Text,
        "privilege.target.pid" Uint,
        "privilege.target.comm" Text,
        "module.name" Text,
        "bpf.command" Text,
        "bpf.program.type" Text,
        "error.code" Uint,
        "error.type" Text,
    ];

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

    fn change(&self) -> Option<Change<'_>> {
        Some(match self.kind {
            "process.existing" => Change::Existing,
            "process.fork" => Change::Forked { parent: self.process.parent_key() },
            "process.exec" => Change::Executed,
            "process.exit" => Change::Exited,
            _ => return None,
        })
    }
}

/// When the first event happens.
const START: u64 = 1_795_441_580_000_000_000;

/// Inode numbers of the namespaces of a container, by its cgroup.
fn spaces(cgroup: u64) -> Namespaces {
    let base = 4_026_531_000 + cgroup as u32 * 10;
    Namespaces { user: base + 1, pid: base + 2, mnt: base + 3, net: base + 4 }
}

/// A cgroup's number by the container's name; the host's is 1.
fn cgroup(container: Option<&str>) -> u64 {
    container.map_or(1, |name| name.bytes().map(u64::from).sum::<u64>() % 1000 + 2)
}

fn container(name: &str) -> Arc<Container> {
    let bare = Container::bare(format!("id-of-{name}"), Runtime::Docker);
    let image = format!("image-of-{}", name.trim_end_matches(|c: char| c.is_ascii_digit()));
    Arc::new(Container { name: Some(name.into()), image: Some(image.into()), ..bare })
}

fn process(line: &Line) -> Process {
    let mut comm = [0; 16];
    let length = line.comm.len().min(15);
    comm[..length].copy_from_slice(&line.comm.as_bytes()[..length]);
    let cgroup = cgroup(line.container.as_deref());
    Process {
        pid: line.pid,
        tid: line.pid,
        parent_pid: line.ppid,
        namespaced_pid: line.vpid,
        start_time: u64::from(line.pid) * 1000,
        parent_start_time: u64::from(line.ppid) * 1000,
        comm,
        namespaces: spaces(cgroup),
        cgroup_id: cgroup,
        ..Process::default()
    }
}

impl Line {
    /// The same with a number for `%` in its texts, and in the last digits of its numbers that end
    /// in 0000.
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

    pub(crate) fn told(&self, time: Timestamp) -> Told {
        let kind = Told::KINDS.iter().find(|kind| **kind == self.kind);
        let values = self.fields.iter().map(|(name, value)| {
            let field = Told::FIELDS.iter().find(|field| field.info.name == name);
            let ty = field.unwrap_or_else(|| panic!("no field {name}")).info.ty;
            (name.clone(), owned(name, ty, value))
        });
        Told {
            kind: kind.unwrap_or_else(|| panic!("no kind {}", self.kind)),
            time,
            process: process(self),
            target: self.target.as_ref().map(|_| Process::default()),
            values: values.collect(),
        }
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

    /// Whether it tells what ran before the watching began.
    pub(crate) fn existed(&self) -> bool {
        self.kind == "process.existing"
    }

    /// Whether it is one of the process tracker's.
    pub(crate) fn is_of_process(&self) -> bool {
        self.kind.starts_with("process.")
    }
}

fn owned(name: &str, ty: Type, value: &toml::Value) -> Owned {
    match (ty, value) {
        (Type::Bool, toml::Value::Boolean(flag)) => Owned::Bool(*flag),
        (Type::Int, toml::Value::Integer(number)) => Owned::Int(*number),
        (Type::Uint, toml::Value::Integer(number)) => Owned::Uint(number.unsigned_abs()),
        (Type::Text, toml::Value::String(text)) => Owned::Text(text.clone()),
        (Type::Texts, toml::Value::Array(items)) => {
            let text = |item: &toml::Value| format!("{}\0", item.as_str().expect("a text"));
            Owned::Texts(items.iter().map(text).collect::<String>().into_bytes())
        }
        (ty, value) => panic!("{name} is of type {ty:?}, not {value:?}"),
    }
}

/// Each event in a batch of its own, attributed.
pub(crate) fn batches(lines: &[Line]) -> Vec<Batch> {
    let mut time = START;
    let told = lines.iter().map(|line| {
        time += line.after * 1_000_000;
        let batch = Batch::new("t".into(), vec![line.told(Timestamp(time))]);
        batch.with_attributions([line.attribution()])
    });
    told.collect()
}

/// Inode number of one of the host's namespaces.
pub(crate) fn host_mnt() -> u32 {
    spaces(1).mnt
}
