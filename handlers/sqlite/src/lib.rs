//! The `sqlite` handler: a history of events in an embedded database, kept for as long and as large
//! as is asked for; and [`History`], which answers from it.
//!
//! It is written in transactions of many events. An event counts as delivered when its transaction
//! is committed, not before. While the database cannot be written, events wait in memory, up to a
//! bound; then they are dropped, and counted.

mod fault;
mod handler;
mod history;
mod keys;
mod limits;
mod options;
mod retention;
mod rows;
mod schema;
mod store;
#[cfg(test)]
mod tests;

pub use handler::{Sqlite, Tick};
pub use history::{Found, GROUPS, Group, History, HistoryError, Query};
pub use options::{DEFAULT_PATH, SqliteOptions, Sync};
/// A value that events are counted by.
pub use rusqlite::types::Value;
