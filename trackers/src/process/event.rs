//! What the process tracker tells.

use bytes::Bytes;
use whalewatch_core::{
    Change, Event, Field, FieldInfo, Process, ProcessKey, Texts, Timestamp, Type, Value,
};

/// Something happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEvent {
    /// When.
    pub time: Timestamp,
    /// The process: for a fork, the new one.
    pub process: Process,
    /// Whether it is one of the kernel's own threads.
    pub kernel_thread: bool,
    /// What happened to it.
    pub what: What,
}

/// What happened to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was running before watching began.
    Existing,
    /// It was made by `maker`, which need not be its parent (`CLONE_PARENT`).
    Forked {
        /// The process that forked.
        maker: ProcessKey,
    },
    /// It runs another program from now on.
    Executed(Executed),
    /// It ended, with all of its threads.
    Exited {
        /// The status as `wait` tells it: signal in bits 0 to 6, core dumped in bit 7, exit code in
        /// bits 8 to 15.
        status: u32,
    },
}

/// The program that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The executable's path as it was given to the kernel, in the process's own view of the file
    /// system.
    pub path: Bytes,
    /// Arguments, each closed by a NUL byte.
    pub args: Bytes,
    /// How many arguments there truly were.
    pub args_count: u32,
    /// How many bytes the arguments truly had.
    pub args_total: u32,
    /// The path is only the beginning of the true one.
    pub path_truncated: bool,
    /// The arguments are only the beginning of the true ones, or could not be read at all.
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

    /// The exit code, of a process that ended by itself.
    pub fn exit_code(&self) -> Option<u32> {
        let ended_by_itself = self.exit_signal().is_none();
        self.status().filter(|_| ended_by_itself).map(|status| (status >> 8) & 0xff)
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

/// True where it holds, nothing where it does not: a flag that is seldom set is not printed with
/// every event.
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
            "path of the executable, as it was given",
            |e| e.executed().map_or(Value::Null, |x| Value::Text(&x.path)),
        ),
        field(
            "process.executable.path_truncated",
            Type::Bool,
            "true if the path is longer than shown",
            |e| flag(e.executed().is_some_and(|x| x.path_truncated)),
        ),
        field("process.command_args", Type::Texts, "arguments, the command itself first", |e| {
            e.executed().map_or(Value::Null, |x| Value::Texts(Texts(&x.args)))
        }),
        field("process.args_count", Type::Uint, "how many arguments there are", |e| {
            number(e.executed().map(|x| x.args_count))
        }),
        field(
            "process.args_truncated",
            Type::Bool,
            "true if there are more arguments than shown",
            |e| flag(e.executed().is_some_and(|x| x.args_truncated)),
        ),
        field(
            "process.exit.code",
            Type::Uint,
            "exit code of a process that ended by itself",
            |e| number(e.exit_code()),
        ),
        field(
            "process.exit.signal",
            Type::Uint,
            "number of the signal that ended the process",
            |e| number(e.exit_signal()),
        ),
        field("process.exit.core_dumped", Type::Bool, "true if a core dump was left", |e| {
            flag(e.core_dumped() == Some(true))
        }),
        field("process.kernel_thread", Type::Bool, "true for the kernel's own threads", |e| {
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
