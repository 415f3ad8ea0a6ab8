//! Why a database cannot be written at the moment. None of these ends the handler: the database is
//! tried again.

use std::fmt;

use rusqlite::{Error, ErrorCode};

/// Why a database cannot be written at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Old events are being deleted to make room; more of that is due first.
    MakingRoom,
    /// Another program writes.
    Busy,
    /// The disk, or a quota, is full.
    Full,
    /// Someone who reads since long keeps the log from being emptied, and it has grown to the
    /// limit.
    Held,
    /// More at once than the database may have in all: never to be written.
    TooLarge,
    /// Something else: the database is opened anew. With the error's text.
    Broken(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Broken(told(&error)),
        }
    }
}

/// An error with how to mend it, where that is known.
pub(crate) fn told(error: &Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => ": move it away, and a new one is made",
        Some(ErrorCode::NotADatabase) => ": name another file, or move it away",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ": is the path right, and may this user write to the file and its folder?"
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
                "a program reads it in one long transaction, so its log cannot be emptied and max_size is reached: end that one"
            }
            Self::TooLarge => "these events have no room in max_size",
            Self::Broken(message) => message,
        })
    }
}
