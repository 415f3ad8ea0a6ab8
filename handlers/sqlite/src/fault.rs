//! Reasons why the database cannot be written at the moment. None of them ends the handler: it
//! retries.

use std::fmt;

use rusqlite::{Error, ErrorCode};

/// Why the database cannot be written at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Old events are being deleted to make room, and more must be deleted first.
    MakingRoom,
    /// Another program holds the write lock.
    Busy,
    /// The disk, or a quota, is full.
    Full,
    /// A long read transaction prevents the log from being emptied, and the log has reached its
    /// limit.
    Held,
    /// The events are larger than the whole database may be, so they can never be written.
    TooLarge,
    /// Any other error, with its text. The database is closed and opened again.
    Broken(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Broken(describe(&error)),
        }
    }
}

/// Returns the text of an error and, if known, how to fix it.
pub(crate) fn describe(error: &Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => ": move it away, and a new one is created",
        Some(ErrorCode::NotADatabase) => ": name another file, or move it away",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ": check the path, and that this user may write to the file and its folder"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MakingRoom => "old events are being deleted",
            Self::Busy => "another program has locked it for writing",
            Self::Full => "the disk is full: free some space, or set a smaller max_size",
            Self::Held => {
                "a program reads it in one long transaction, so its log cannot be emptied and \
                 max_size is reached: end that transaction"
            }
            Self::TooLarge => "the events are larger than max_size allows",
            Self::Broken(message) => message,
        })
    }
}
