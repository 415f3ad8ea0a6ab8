//! The files tracker's events.

use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};
use whalewatch_trackers_common::files::IoSums;

use crate::errno;
use crate::path::FilePath;

/// A process did something with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEvent {
    /// When the system call returned, or the sum was read.
    pub time: Timestamp,
    /// The process.
    pub process: Process,
    /// The file.
    pub path: FilePath,
    /// Its inode number; 0 if not known.
    pub inode: u64,
    /// Its device, as the kernel encodes it: the major number from bit 20 on (`MKDEV` in
    /// `include/linux/kdev_t.h`).
    pub device: u32,
    /// Whether its name has been deleted.
    pub deleted: bool,
    /// The call's result: a negative error number if it failed.
    pub result: i64,
    /// What happened to it.
    pub what: FileWhat,
}

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileWhat {
    /// It was opened.
    Opened {
        /// Flags of `open(2)`.
        flags: u32,
        /// Requested permissions of a new file.
        mode: Octal,
    },
    /// It was deleted.
    Deleted {
        /// Whether the call deletes directories.
        directory: bool,
    },
    /// It was renamed.
    Renamed {
        /// The new name.
        to: FilePath,
    },
    /// It got an additional name.
    Linked {
        /// The new name.
        to: FilePath,
        /// Whether the new name is a symbolic link; the event's path is then the link's content.
        symbolic: bool,
    },
    /// Its permissions were changed.
    Mode {
        /// The new permissions.
        mode: Octal,
    },
    /// Its owner was changed; -1 leaves an id unchanged.
    Owner {
        /// The user id.
        user: i64,
        /// The group id.
        group: i64,
    },
    /// The process read from it or wrote to it.
    Io(IoSums),
}

/// Permissions as four octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octal([u8; 4]);

impl Octal {
    /// Formats the lowest twelve bits of a mode.
    pub fn new(mode: u32) -> Self {
        Self([9, 6, 3, 0].map(|shift| b'0' + ((mode >> shift) & 7) as u8))
    }
}

impl FileEvent {
    fn flags(&self) -> Option<u32> {
        match self.what {
            FileWhat::Opened { flags, .. } => Some(flags),
            _ => None,
        }
    }

    /// How it was opened: `read`, `write`, `read-write` or `path` (`O_PATH`).
    pub fn access(&self) -> Option<&'static str> {
        let flags = self.flags()?.cast_signed();
        Some(match flags & libc::O_ACCMODE {
            _ if flags & libc::O_PATH != 0 => "path",
            libc::O_RDONLY => "read",
            libc::O_WRONLY => "write",
            _ => "read-write",
        })
    }

    fn to(&self) -> Option<&FilePath> {
        match &self.what {
            FileWhat::Renamed { to } | FileWhat::Linked { to, .. } => Some(to),
            _ => None,
        }
    }

    fn io(&self) -> Option<&IoSums> {
        match &self.what {
            FileWhat::Io(sums) => Some(sums),
            _ => None,
        }
    }

    fn owner(&self) -> Option<(i64, i64)> {
        match self.what {
            FileWhat::Owner { user, group } => Some((user, group)),
            _ => None,
        }
    }
}

/// True or null.
fn flag(set: bool) -> Value<'static> {
    if set { Value::Bool(true) } else { Value::Null }
}

fn opened_with(event: &FileEvent, bit: i32) -> Value<'static> {
    flag(event.flags().is_some_and(|flags| flags.cast_signed() & bit != 0))
}

fn uint(number: Option<u64>) -> Value<'static> {
    number.map_or(Value::Null, Value::Uint)
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&FileEvent) -> Value<'_>,
) -> Field<FileEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for FileEvent {
    const NAME: &'static str = "files";
    const KINDS: &'static [&'static str] =
        &["file.open", "file.delete", "file.rename", "file.link", "file.permission", "file.io"];
    const FIELDS: &'static [Field<Self>] = &[
        field("file.path", Type::Text, "path of the file; file.path_source says whose", |e| {
            Value::Text(&e.path.bytes)
        }),
        field(
            "file.path_source",
            Type::Text,
            "kernel: the file's true path; asked: the path as the process gave it",
            |e| Value::Text(if e.path.resolved { b"kernel" } else { b"asked" }),
        ),
        field("file.path_truncated", Type::Bool, "true if the path was cut", |e| {
            flag(e.path.truncated)
        }),
        field("file.to.path", Type::Text, "the new name, as the process gave it", |e| {
            e.to().map_or(Value::Null, |to| Value::Text(&to.bytes))
        }),
        field("file.to.path_truncated", Type::Bool, "true if the new name was cut", |e| {
            flag(e.to().is_some_and(|to| to.truncated))
        }),
        field("file.symbolic_link", Type::Bool, "true for a new symbolic link", |e| {
            flag(matches!(e.what, FileWhat::Linked { symbolic: true, .. }))
        }),
        field("file.directory", Type::Bool, "true if the call deletes directories", |e| {
            flag(matches!(e.what, FileWhat::Deleted { directory: true }))
        }),
        field("file.deleted", Type::Bool, "true if the file's name has been deleted", |e| {
            flag(e.deleted)
        }),
        field("file.inode", Type::Uint, "inode number of the file", |e| {
            uint((e.inode != 0).then_some(e.inode))
        }),
        field("file.device.major", Type::Uint, "major number of the file's device", |e| {
            uint((e.inode != 0).then_some((e.device >> 20).into()))
        }),
        field("file.device.minor", Type::Uint, "minor number of the file's device", |e| {
            uint((e.inode != 0).then_some((e.device & 0xf_ffff).into()))
        }),
        field(
            "file.access",
            Type::Text,
            "access asked for: read, write, read-write or path (O_PATH)",
            |e| e.access().map_or(Value::Null, |word| Value::Text(word.as_bytes())),
        ),
        field("file.flags", Type::Uint, "flags of open(2)", |e| uint(e.flags().map(u64::from))),
        field(
            "file.create",
            Type::Bool,
            "true if the file is created when missing (O_CREAT)",
            |e| opened_with(e, libc::O_CREAT),
        ),
        field("file.truncate", Type::Bool, "true if the file is emptied (O_TRUNC)", |e| {
            opened_with(e, libc::O_TRUNC)
        }),
        field("file.mode", Type::Text, "requested permissions, in octal", |e| match &e.what {
            FileWhat::Mode { mode } => Value::Text(&mode.0),
            FileWhat::Opened { mode, flags } if flags.cast_signed() & CREATING != 0 => {
                Value::Text(&mode.0)
            }
            _ => Value::Null,
        }),
        field(
            "file.owner.id",
            Type::Int,
            "requested owner, as a user id; -1 leaves it unchanged",
            |e| e.owner().map_or(Value::Null, |(user, _)| Value::Int(user)),
        ),
        field("file.group.id", Type::Int, "requested group id; -1 leaves it unchanged", |e| {
            e.owner().map_or(Value::Null, |(_, group)| Value::Int(group))
        }),
        field("file.io.read_bytes", Type::Uint, "bytes read in this interval", |e| {
            uint(e.io().map(|io| io.read_bytes))
        }),
        field("file.io.reads", Type::Uint, "calls that read in this interval", |e| {
            uint(e.io().map(|io| io.reads))
        }),
        field("file.io.written_bytes", Type::Uint, "bytes written in this interval", |e| {
            uint(e.io().map(|io| io.written_bytes))
        }),
        field("file.io.writes", Type::Uint, "calls that wrote in this interval", |e| {
            uint(e.io().map(|io| io.writes))
        }),
        field("error.code", Type::Uint, "error number if the call failed", |e| {
            uint(errno::of(e.result).map(u64::from))
        }),
        field("error.type", Type::Text, "name of the error: ENOENT, …", |e| {
            let name = errno::of(e.result).and_then(errno::name);
            name.map_or(Value::Null, |name| Value::Text(name.as_bytes()))
        }),
    ];

    fn kind(&self) -> &'static str {
        match self.what {
            FileWhat::Opened { .. } => "file.open",
            FileWhat::Deleted { .. } => "file.delete",
            FileWhat::Renamed { .. } => "file.rename",
            FileWhat::Linked { .. } => "file.link",
            FileWhat::Mode { .. } | FileWhat::Owner { .. } => "file.permission",
            FileWhat::Io(_) => "file.io",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }
}

/// Flags that make `open(2)` use the permissions. `O_TMPFILE` includes `O_DIRECTORY`, which does
/// not.
const CREATING: i32 = libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_four_octal_digits() {
        assert_eq!(&Octal::new(0o644).0, b"0644");
        assert_eq!(&Octal::new(0o104_755).0, b"4755");
    }
}
