//! The process tracker's events.

use bytes::Bytes;
use whalewatch_core::{
    Change, Event, Field, FieldInfo, Process, ProcessKey, Texts, Timestamp, Type, Value,
};

/// A step in the life of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEvent {
    /// When it happened.
    pub time: Timestamp,
    /// The process; for a fork, the new one.
    pub process: Process,
    /// Whether it is one of the kernel's own threads.
    pub kernel_thread: bool,
    /// What happened to it.
    pub what: What,
}

/// What happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was already running when the tracker was attached.
    Existing,
    /// It was created by `maker`, which is not its parent if `CLONE_PARENT` was set.
    Forked {
        /// The process that forked.
        maker: ProcessKey,
    },
    /// It replaced its program.
    Executed(Executed),
    /// It exited, with all of its threads.
    Exited {
        /// The status as `wait(2)` returns it: signal in bits 0 to 6, core dumped in bit 7, exit
        /// code in bits 8 to 15.
        status: u32,
    },
}

/// The program that a process executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The executable's path as the process gave it to the kernel, in the process's own view of the
    /// file system.
    pub path: Bytes,
    /// Arguments, each followed by a NUL byte.
    pub args: Bytes,
    /// Number of all arguments, including those that were cut.
    pub args_count: u32,
    /// Bytes of all arguments, including those that were cut.
    pub args_total: u32,
    /// Whether the path is cut: only the beginning of the full one.
    pub path_truncated: bool,
    /// Whether the arguments are cut, or could not be read at all.
    pub args_truncated: bool,
}

impl ProcessEvent {
    fn executed(&self) -> Option<&Executed> {
        match &self.what {
            What::Executed(executed) => Some(executed),
            _ => None,
        }
    }

    fn status(&self) -> Option<u32> {
        match self.what {
            What::Exited { status } => Some(status),
            _ => None,
        }
    }

    /// The exit code of a process that no signal ended.
    pub fn exit_code(&self) -> Option<u32> {
        let exited = self.exit_signal().is_none();
        self.status().filter(|_| exited).map(|status| (status >> 8) & 0xff)
    }

    /// The signal that ended the process.
    pub fn exit_signal(&self) -> Option<u32> {
        self.status().map(|status| status & 0x7f).filter(|signal| *signal != 0)
    }

    /// Whether a signal that ended the process left a core dump.
    pub fn core_dumped(&self) -> Option<bool> {
        self.exit_signal().and(self.status()).map(|status| status & 0x80 != 0)
    }
}

/// True or null: a rare flag is not printed with every event.
fn flag(set: bool) -> Value<'static> {
    if set { Value::Bool(true) } else { Value::Null }
}

fn number(number: Option<u32>) -> Value<'static> {
    number.map_or(Value::Null, |number| Value::Uint(number.into()))
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&ProcessEvent) -> Value<'_>,
) -> Field<ProcessEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for ProcessEvent {
    const NAME: &'static str = "process";
    const KINDS: &'static [&'static str] =
        &["process.fork", "process.exec", "process.exit", "process.existing"];
    const FIELDS: &'static [Field<Self>] = &[
        field(
            "process.executable.path",
            Type::Text,
            "path of the executable, as the process gave it",
            |e| e.executed().map_or(Value::Null, |x| Value::Text(&x.path)),
        ),
        field("process.executable.path_truncated", Type::Bool, "true if the path was cut", |e| {
            flag(e.executed().is_some_and(|x| x.path_truncated))
        }),
        field(
            "process.command_args",
            Type::Texts,
            "arguments, starting with the command itself",
            |e| e.executed().map_or(Value::Null, |x| Value::Texts(Texts(&x.args))),
        ),
        field(
            "process.args_count",
            Type::Uint,
            "number of arguments, including those that were cut",
            |e| number(e.executed().map(|x| x.args_count)),
        ),
        field(
            "process.args_truncated",
            Type::Bool,
            "true if arguments were cut or could not be read",
            |e| flag(e.executed().is_some_and(|x| x.args_truncated)),
        ),
        field(
            "process.exit.code",
            Type::Uint,
            "exit code; none if a signal ended the process",
            |e| number(e.exit_code()),
        ),
        field(
            "process.exit.signal",
            Type::Uint,
            "number of the signal that ended the process",
            |e| number(e.exit_signal()),
        ),
        field("process.exit.core_dumped", Type::Bool, "true if the process dumped core", |e| {
            flag(e.core_dumped() == Some(true))
        }),
        field("process.kernel_thread", Type::Bool, "true for a kernel thread", |e| {
            flag(e.kernel_thread)
        }),
    ];

    fn kind(&self) -> &'static str {
        match self.what {
            What::Existing => "process.existing",
            What::Forked { .. } => "process.fork",
            What::Executed(_) => "process.exec",
            What::Exited { .. } => "process.exit",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }

    fn change(&self) -> Option<Change<'_>> {
        Some(match self.what {
            What::Existing => Change::Existing,
            What::Forked { maker } => Change::Forked { parent: maker },
            What::Executed(_) => Change::Executed,
            What::Exited { .. } => Change::Exited,
        })
    }
}
