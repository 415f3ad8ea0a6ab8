//! The `sqlite` handler keeps a history of events in an embedded database, with limits on age and
//! size; [`History`] answers queries from it.
//!
//! Events are written in transactions of many. An event counts as delivered when its transaction is
//! committed, not before. While the database cannot be written, events wait in memory up to a
//! limit; beyond it they are dropped and counted.

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
