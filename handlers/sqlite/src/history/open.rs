//! Opening a history to read it, without a trace.

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

/// What is kept of the database in memory while it is asked, in KiB: the narrow table of a million
/// events.
const CACHE_KIB: u32 = 64 * 1024;

/// How long a read waits where it must.
const BUSY: Duration = Duration::from_secs(5);

/// A history cannot be read. The text says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct HistoryError {
    /// The database.
    path: String,
    message: String,
}

#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    path: PathBuf,
    /// The file as it was, where nobody wrote it: it is then read without locks, and no file is
    /// made beside it.
    still: Option<(u64, Option<SystemTime>)>,
}

impl History {
    /// Opens a history.
    ///
    /// # Errors
    /// If there is none, or it is none, or it may not be read.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let error = |message: String| HistoryError { path: path.display().to_string(), message };
        let file = fs::metadata(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => error(
                "there is no such database: is the path the one of the sqlite handler that wrote it?".into(),
            ),
            _ => error(e.to_string()),
        })?;
        if file.is_dir() {
            return Err(error("this is a folder: name the database in it".into()));
        }
        if file.len() == 0 {
            return Err(error("it is empty: nothing was ever written to it".into()));
        }
        let opened = Opened::new(path, &file).map_err(|e| error(told(&e)))?;
        match schema::kind(&opened.connection) {
            Ok(kind) => match schema::refusal(kind) {
                Some(refusal) => Err(error(refusal)),
                None => Ok(Self(opened)),
            },
            Err(e) => Err(error(told(&e))),
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
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}"))?;
        Ok(Self { connection, path: path.to_owned(), still })
    }

    /// Whether what was read can be believed: nobody may have written to what was read without
    /// locks.
    pub(crate) fn check(&self) -> Result<(), HistoryError> {
        let Some(still) = self.still else { return Ok(()) };
        let same = fs::metadata(&self.path).is_ok_and(|file| state(&file) == still);
        if same && !beside(&self.path, "-wal").exists() {
            return Ok(());
        }
        Err(self.error("a tracer began to write it while it was read: ask again".into()))
    }

    /// What a failed read is told as.
    pub(crate) fn failed(&self, error: &Error) -> HistoryError {
        // What was read without locks while someone wrote can look like anything.
        self.check().err().unwrap_or_else(|| self.error(told(error)))
    }

    fn error(&self, message: String) -> HistoryError {
        HistoryError { path: self.path.display().to_string(), message }
    }
}

fn state(file: &Metadata) -> (u64, Option<SystemTime>) {
    (file.len(), file.modified().ok())
}

fn told(error: &Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            ": it is no database: name the one that the sqlite handler writes"
        }
        Some(ErrorCode::DatabaseCorrupt) => ": `sqlite3 FILE .recover` may save what is in it",
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            ": may this user read it? One that a tracer writes, or was killed at, needs its owner or root"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ": another program has locked it: ask again"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// A path as `SQLite`'s URI: all that could mean something else is escaped.
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
    fn no_path_means_anything_else_in_a_uri() {
        assert_eq!(
            uri(Path::new("/a b/c?d#e%.db"), "mode=ro"),
            "file:/a%20b/c%3fd%23e%25.db?mode=ro"
        );
        assert_eq!(uri(Path::new("file:x"), "mode=ro"), "file:./file%3ax?mode=ro");
    }
}
