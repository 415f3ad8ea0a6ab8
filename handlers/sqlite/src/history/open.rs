//! Opens a history for reading, without leaving a trace.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::History;
use crate::schema;
use crate::store::beside;

/// Cache of a reader, in KiB. Large enough for the table `events` with a million rows.
const CACHE_KIB: u32 = 64 * 1024;

/// How long a read waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A history cannot be read. The text says how to fix it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct HistoryError {
    /// Path of the database.
    path: String,
    message: String,
}

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    path: PathBuf,
    /// Size and modification time of the file, if nobody was writing it. It is then read without
    /// locks, and no files are created next to it.
    still: Option<(u64, Option<SystemTime>)>,
}

impl History {
    /// Opens a history.
    ///
    /// # Errors
    /// If the file does not exist, is not a history, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let error = |message: String| HistoryError { path: path.display().to_string(), message };
        let file = fs::metadata(path).map_err(|e| {
            match e.kind() {
            ErrorKind::NotFound => error(
                "there is no such database: use the path that the sqlite handler has in its options"
                    .into(),
            ),
            _ => error(e.to_string()),
        }
        })?;
        if file.is_dir() {
            return Err(error("this is a folder: name the database in it".into()));
        }
        if file.len() == 0 {
            return Err(error("the file is empty: nothing was ever written to it".into()));
        }
        let opened = Opened::new(path, &file).map_err(|e| error(describe(&e)))?;
        match schema::kind(&opened.connection) {
            Ok(kind) => match schema::refusal(kind) {
                Some(refusal) => Err(error(refusal)),
                None => Ok(Self(opened)),
            },
            Err(e) => Err(error(describe(&e))),
        }
    }
}

impl Opened {
    fn new(path: &Path, file: &Metadata) -> rusqlite::Result<Self> {
        let still = (!beside(path, "-wal").exists()).then(|| state(file));
        let mode = if still.is_some() { "immutable=1" } else { "mode=ro" };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(path, mode), flags)?;
        connection.busy_timeout(LOCK_TIMEOUT)?;
        connection.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}"))?;
        Ok(Self { connection, path: path.to_owned(), still })
    }

    /// Checks that nobody wrote to the database while it was read without locks.
    pub(crate) fn check(&self) -> Result<(), HistoryError> {
        let Some(still) = self.still else { return Ok(()) };
        let same = fs::metadata(&self.path).is_ok_and(|file| state(&file) == still);
        if same && !beside(&self.path, "-wal").exists() {
            return Ok(());
        }
        Err(self.error("a tracer began to write it while it was read: run the query again".into()))
    }

    /// Turns the error of a failed read into one with a path and a hint.
    pub(crate) fn failed(&self, error: &Error) -> HistoryError {
        // What was read without locks can be inconsistent if somebody wrote meanwhile.
        self.check().err().unwrap_or_else(|| self.error(describe(error)))
    }

    fn error(&self, message: String) -> HistoryError {
        HistoryError { path: self.path.display().to_string(), message }
    }
}

fn state(file: &Metadata) -> (u64, Option<SystemTime>) {
    (file.len(), file.modified().ok())
}

fn describe(error: &Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => ": name the database that the sqlite handler writes",
        Some(ErrorCode::DatabaseCorrupt) => ": `sqlite3 FILE .recover` may save what is in it",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ": check the permissions; while a tracer writes it, or after a tracer was killed, \
             only its owner or root can read it"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ": another program has locked it: run the query again"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// Returns a path as a URI for `SQLite`, with all special characters escaped.
fn uri(path: &Path, mode: &str) -> String {
    let mut uri = String::from("file:");
    if !path.is_absolute() {
        uri.push_str("./");
    }
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(uri, "%{byte:02x}").ok();
        }
    }
    uri + "?" + mode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_of_paths_are_escaped() {
        assert_eq!(
            uri(Path::new("/a b/c?d#e%.db"), "mode=ro"),
            "file:/a%20b/c%3fd%23e%25.db?mode=ro"
        );
        assert_eq!(uri(Path::new("file:x"), "mode=ro"), "file:./file%3ax?mode=ro");
    }
}
