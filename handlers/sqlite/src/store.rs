//! The database, opened for writing.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, Transaction, TransactionBehavior};

use crate::fault::Fault;
use crate::keys::Keys;
use crate::limits::{Limits, PAGE, logged};
use crate::options::{SqliteOptions, Sync};
use crate::rows::{Chunk, Row};
use crate::schema::{self, Kind};

/// How long one attempt waits for a lock. For longer waits, the handler retries.
const LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// Page cache of `SQLite`, in KiB.
const CACHE_KIB: u32 = 16 * 1024;

/// A database opened for writing.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) connection: Connection,
    path: PathBuf,
    /// Device and inode of the opened file.
    file: (u64, u64),
    pub(crate) limits: Limits,
    /// Age in nanoseconds at which events are deleted; 0 for never.
    pub(crate) keep: i64,
    pub(crate) keys: Keys,
    /// A number that `SQLite` changes when another program writes.
    data_version: i64,
    /// Events deleted since the last sweep through the containers.
    pub(crate) deleted: u64,
    /// Key of the last container that the current sweep has checked.
    pub(crate) swept: i64,
}

/// The database could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It cannot be opened until somebody fixes the cause.
    Refused(String),
    /// It may work later.
    Fault(Fault),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match Fault::from(error) {
            Fault::Broken(message) => Self::Refused(message),
            fault => Self::Fault(fault),
        }
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Refused(message) => Self::Broken(message),
            OpenError::Fault(fault) => fault,
        }
    }
}

impl Store {
    /// Opens the database, or creates it.
    pub(crate) fn open(options: &SqliteOptions) -> Result<Self, OpenError> {
        // A path that begins with `file:` would be treated as a URI.
        let path = if options.path.is_absolute() {
            options.path.clone()
        } else {
            Path::new(".").join(&options.path)
        };
        make_file(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(LOCK_TIMEOUT)?;
        let limits = Limits::new(options.max_size.0);
        match schema::kind(&connection)? {
            Kind::Empty => schema::create(&mut connection)?,
            kind => {
                if let Some(refusal) = schema::refusal(kind) {
                    return Err(OpenError::Refused(refusal));
                }
            }
        }
        set_up(&connection, &limits, options.sync)?;
        let file = fs::metadata(&path).map_err(|e| OpenError::Refused(e.to_string()))?;
        Ok(Self {
            connection,
            path,
            file: identity(&file),
            limits,
            keep: i64::try_from(options.keep.0.as_nanos()).unwrap_or(i64::MAX),
            keys: Keys::default(),
            data_version: 0,
            deleted: 0,
            swept: 0,
        })
    }

    /// Writes a chunk in one transaction: either all of it is committed, or nothing.
    pub(crate) fn write(&mut self, host: &str, chunk: &Chunk) -> Result<(), Fault> {
        self.check_file()?;
        self.make_room(chunk.stored())?;
        self.bound_log(logged(chunk.rows.len(), chunk.stored()))?;
        self.insert(host, chunk).map_err(|error| {
            // The rows of these keys may have been rolled back.
            self.keys.forget();
            Fault::from(error)
        })
    }

    fn insert(&mut self, host: &str, chunk: &Chunk) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = pragma(&transaction, "PRAGMA data_version")?;
        if version != self.data_version {
            self.keys.forget();
            self.data_version = version;
        }
        insert(&transaction, &mut self.keys, host, chunk)?;
        transaction.commit()
    }

    /// Empties the log if there is no room for a transaction that needs `need` bytes of it.
    pub(crate) fn bound_log(&self, need: u64) -> Result<(), Fault> {
        let Some(total) = self.limits.total else { return Ok(()) };
        let pages = self.pages()?.0;
        let fits = || {
            let log = length(&beside(&self.path, "-wal")) + length(&beside(&self.path, "-shm"));
            let database = length(&self.path).max(pages * PAGE);
            log + need <= self.limits.log || log + need + database <= total
        };
        if fits() {
            return Ok(());
        }
        // The pragma also returns whether a reader was in the way, but the length of the log shows
        // that.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        if fits() { Ok(()) } else { Err(Fault::Held) }
    }

    /// Checks that the file at the path is still the opened one.
    pub(crate) fn check_file(&self) -> Result<(), Fault> {
        match fs::metadata(&self.path) {
            Ok(file) if identity(&file) == self.file => Ok(()),
            _ => Err(Fault::Broken("its file was moved or deleted: a new one is created".into())),
        }
    }

    /// Returns the number of pages in the database, and how many of them are free.
    pub(crate) fn pages(&self) -> rusqlite::Result<(u64, u64)> {
        let count = |sql| pragma(&self.connection, sql).map(i64::unsigned_abs);
        Ok((count("PRAGMA page_count")?, count("PRAGMA freelist_count")?))
    }
}

/// Returns the value of a numeric pragma.
pub(crate) fn pragma(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}

fn set_up(connection: &Connection, limits: &Limits, sync: Sync) -> rusqlite::Result<()> {
    let sync = match sync {
        Sync::Normal => "NORMAL",
        Sync::Full => "FULL",
    };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = {sync};
         PRAGMA wal_autocheckpoint = {};
         PRAGMA journal_size_limit = {};
         PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA temp_store = MEMORY;
         PRAGMA foreign_keys = OFF;",
        limits.checkpoint_pages(),
        limits.log / 2,
    ))?;
    if let Some(total) = limits.total {
        // A last safeguard in case the estimates are wrong. Cannot be less than the current size.
        pragma(connection, &format!("PRAGMA max_page_count = {}", total / PAGE))?;
    }
    Ok(())
}

/// Creates the file, accessible only to its owner, unless it exists.
fn make_file(path: &Path) -> Result<(), OpenError> {
    let refused = |what: &str, error: std::io::Error| {
        OpenError::Refused(format!("cannot create {what}: {error}: choose another path"))
    };
    if let Some(folder) = path.parent() {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|error| refused("its folder", error))?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::StorageFull => Err(OpenError::Fault(Fault::Full)),
        Err(error) => Err(refused("the file", error)),
    }
}

/// Returns the path of a file that `SQLite` keeps next to the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// A text of a chunk. Valid UTF-8.
struct Bytes<'a>(Option<&'a [u8]>);

impl ToSql for Bytes<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0.map_or(ValueRef::Null, ValueRef::Text)))
    }
}

const INSERT_EVENT: &str = "
    INSERT INTO events (time, kind, host, container, target_container, attribution, pid, parent_pid,
        start_time, comm, uid, executable, path, to_path, peer_address, error, peer_port, exit_code)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

fn insert(
    transaction: &Transaction<'_>,
    keys: &mut Keys,
    host: &str,
    chunk: &Chunk,
) -> rusqlite::Result<()> {
    let host = keys.host(transaction, host)?;
    let mut event = transaction.prepare_cached(INSERT_EVENT)?;
    let mut body =
        transaction.prepare_cached("INSERT INTO bodies (event, json) VALUES (?1, ?2)")?;
    for row in &chunk.rows {
        let kind = keys.kind(transaction, row.kind)?;
        let mut key = |container: &Option<_>| {
            container.as_ref().map(|container| keys.container(transaction, container)).transpose()
        };
        let (container, target) = (key(&row.container)?, key(&row.target)?);
        insert_event(&mut event, chunk, row, [Some(kind), Some(host), container, target])?;
        body.execute((transaction.last_insert_rowid(), Bytes(Some(chunk.json(row)))))?;
    }
    Ok(())
}

fn insert_event(
    event: &mut rusqlite::Statement<'_>,
    chunk: &Chunk,
    row: &Row,
    [kind, host, container, target]: [Option<i64>; 4],
) -> rusqlite::Result<()> {
    let process = row.process.as_ref();
    let comm = process.map(|p| String::from_utf8_lossy(p.comm()));
    let text = |at: usize| Bytes(chunk.text(row.texts[at]));
    event.execute(rusqlite::params![
        row.time,
        kind,
        host,
        container,
        target,
        row.state.as_str(),
        process.map(|p| p.pid),
        process.map(|p| p.parent_pid),
        process.map(|p| p.start_time.cast_signed()),
        comm.as_deref(),
        process.map(|p| p.uid),
        text(0),
        text(1),
        text(2),
        text(3),
        text(4),
        row.numbers[0],
        row.numbers[1],
    ])?;
    Ok(())
}
