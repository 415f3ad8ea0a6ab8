//! The layout of the database, and how to recognise a history.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as a history of Whalewatch, for `file` and `sqlite3`: `whlw`.
const APPLICATION_ID: i32 = 0x7768_6c77;

/// Version of the layout, stored in `user_version`.
pub(crate) const VERSION: i32 = 1;

const SCHEMA: &str = include_str!("schema.sql");

/// What a database contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing yet.
    Empty,
    /// A history of this layout.
    Ours,
    /// A history with a newer layout than this program knows.
    Newer(i32),
    /// Something else.
    Foreign,
}

/// Determines what a database contains.
pub(crate) fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    let id: i32 = connection.query_row("PRAGMA application_id", (), |row| row.get(0))?;
    let version: i32 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    Ok(match (id, version) {
        (0, 0) if objects == 0 => Kind::Empty,
        (APPLICATION_ID, VERSION) => Kind::Ours,
        (APPLICATION_ID, newer) if newer > VERSION => Kind::Newer(newer),
        _ => Kind::Foreign,
    })
}

/// Returns why a database of this kind cannot be used and what to do; `None` if it can be used.
pub(crate) fn refusal(kind: Kind) -> Option<String> {
    match kind {
        Kind::Empty | Kind::Ours => None,
        Kind::Newer(version) => Some(format!(
            "it was written by a newer Whalewatch (layout {version}, this version knows \
             {VERSION}): use the newer version, or another file"
        )),
        Kind::Foreign => {
            Some("it is a database, but not a history of Whalewatch: name another file".into())
        }
    }
}

/// Creates the tables in an empty database.
pub(crate) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    // `auto_vacuum` must be set before anything is written.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another program may have created them meanwhile.
    if kind(&transaction)? == Kind::Empty {
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
        ))?;
    }
    transaction.commit()
}
