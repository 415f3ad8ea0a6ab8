//! For tests and benchmarks: events like those of a tracker, a bench to test a single handler on,
//! an HTTP server, and an allocator that counts.

mod allocations;
mod bench;
mod event;
mod server;

use std::sync::Arc;

pub use allocations::{CountingAllocator, allocations, print_allocations};
pub use bench::Bench;
pub use event::{Common, TestEvent, TestType, comm, process};
pub use server::{Answer, Received, Server};

use whalewatch_core::{
    Container, Event, Field, FieldInfo, Namespaces, Process, Runtime, Status, Texts, Timestamp,
    Type, Value,
};

/// Something a process did, as the process tracker reports it.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What happened.
    pub kind: &'static str,
    /// The process that did it.
    pub process: Process,
    /// The program that runs.
    pub path: Option<&'static str>,
    /// Its arguments, each ended by a NUL byte.
    pub args: Option<Vec<u8>>,
    /// Their number, if it is more than `args` holds.
    pub args_count: Option<u64>,
    /// The exit code.
    pub exit: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
}

const fn field<E>(name: &'static str, ty: Type, get: fn(&E) -> Value<'_>) -> Field<E> {
    Field { info: FieldInfo { name, ty, doc: "" }, get }
}

impl Event for Ran {
    const NAME: &'static str = "ran";
    const KINDS: &'static [&'static str] = &["process.exec", "process.exit"];
    const FIELDS: &'static [Field<Self>] = &[
        field("process.executable.path", Type::Text, |e| {
            e.path.map_or(Value::Null, |path| Value::Text(path.as_bytes()))
        }),
        field("process.command_args", Type::Texts, |e| {
            e.args.as_ref().map_or(Value::Null, |args| Value::Texts(Texts(args)))
        }),
        field("process.args_count", Type::Uint, |e| e.args_count.map_or(Value::Null, Value::Uint)),
        field("process.args_truncated", Type::Bool, |e| {
            e.args_count.map_or(Value::Null, |_| Value::Bool(true))
        }),
        field("process.exit.code", Type::Int, |e| e.exit.map_or(Value::Null, Value::Int)),
        field("process.exit.signal", Type::Int, |e| e.signal.map_or(Value::Null, Value::Int)),
    ];

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn time(&self) -> Timestamp {
        Timestamp(1_795_441_580_171_234_567)
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }
}

/// Returns the event of the example line in the documentation.
pub fn example() -> Ran {
    Ran {
        kind: "process.exec",
        process: Process {
            pid: 19920,
            tid: 19920,
            parent_pid: 19901,
            namespaced_pid: 1,
            start_time: 940_973_514,
            comm: comm("true"),
            namespaces: Namespaces {
                user: 4_026_531_837,
                pid: 4_026_532_183,
                mnt: 4_026_532_180,
                net: 4_026_532_185,
            },
            cgroup_id: 12227,
            ..Process::default()
        },
        path: Some("/bin/true"),
        args: Some(b"/bin/true\0".to_vec()),
        args_count: None,
        exit: None,
        signal: None,
    }
}

/// Returns a container of which only the id is known.
pub fn bare(id: &str) -> Container {
    Container::bare(id, Runtime::Docker)
}

/// Returns a container whose id, name, image and status are known.
pub fn named(id: &str, name: &str, image: &str, status: Status) -> Arc<Container> {
    Arc::new(Container { name: Some(name.into()), image: Some(image.into()), status, ..bare(id) })
}

/// An event without a process, with every type of value and with names that conflict.
#[derive(Clone, Debug)]
pub struct Odd;

impl Event for Odd {
    const NAME: &'static str = "odd";
    const KINDS: &'static [&'static str] = &["odd"];
    const FIELDS: &'static [Field<Self>] = &[
        field("container.own", Type::Uint, |_| Value::Uint(1)),
        field("a.yes", Type::Bool, |_| Value::Bool(true)),
        field("a.none", Type::Bool, |_| Value::Null),
        field("a.b.c", Type::Int, |_| Value::Int(-5)),
        field("when", Type::Time, |_| Value::Time(Timestamp(2_000_000_000))),
        field("list", Type::Texts, |_| Value::Texts(Texts(b""))),
        field("name", Type::Text, |_| Value::Text(b"\x1b]0;x\x07")),
        field("a.yes.deep", Type::Uint, |_| Value::Uint(7)),
        field("host.zone", Type::Text, |_| Value::Text(b"b")),
    ];

    fn kind(&self) -> &'static str {
        "odd"
    }

    fn time(&self) -> Timestamp {
        Timestamp(1_000_000_000)
    }

    fn process(&self) -> Option<&Process> {
        None
    }
}

/// An event with a time, a text and a number that tests choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Did {
    /// When it happened, in nanoseconds since 1970.
    pub time: u64,
    /// The field `did.what`.
    pub what: Option<String>,
    /// The field `did.amount`.
    pub amount: Option<i64>,
}

impl Did {
    /// Creates an event with both values.
    pub fn new(time: u64, what: &str, amount: i64) -> Self {
        Self { time, what: Some(what.to_owned()), amount: Some(amount) }
    }
}

impl Event for Did {
    const NAME: &'static str = "did";
    const KINDS: &'static [&'static str] = &["did"];
    const FIELDS: &'static [Field<Self>] = &[
        field("did.what", Type::Text, |e| {
            e.what.as_ref().map_or(Value::Null, |what| Value::Text(what.as_bytes()))
        }),
        field("did.amount", Type::Int, |e| e.amount.map_or(Value::Null, Value::Int)),
    ];

    fn kind(&self) -> &'static str {
        "did"
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.time)
    }

    fn process(&self) -> Option<&Process> {
        None
    }
}
