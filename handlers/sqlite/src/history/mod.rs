//! Answers queries from a history, also while it is written.

mod group;
mod open;
mod query;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use whalewatch_core::Timestamp;

pub use group::{GROUPS, Group};
pub use open::HistoryError;
pub use query::Query;

use open::Opened;
pub(crate) use query::Conditions;

/// A history opened for reading. Reading never writes to it and never creates a file.
#[derive(Debug)]
pub struct History(Opened);

/// An event that a query found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The time of the event.
    pub time: Timestamp,
    /// The kind of the event.
    pub kind: &'a str,
    /// Id of the container that caused the event.
    pub container_id: Option<&'a str>,
    /// The container's name, even if it became known after the event.
    pub container_name: Option<&'a str>,
    /// The attribution state when the event happened: `resolved`, `pending`, `unknown` or `host`.
    pub attribution: Option<&'a str>,
    /// Pid of the process.
    pub pid: Option<u32>,
    /// Pid of its parent.
    pub parent_pid: Option<u32>,
    /// Its effective user id.
    pub uid: Option<u32>,
    /// Its command name.
    pub comm: Option<&'a str>,
    /// The whole event as a line of JSON, as it was written at the time.
    pub json: &'a str,
}

/// How many events are searched for at a time. Each takes 16 bytes until it is read.
const MANY: i64 = 1_000_000;

/// How many events are read at a time.
const TOGETHER: usize = 256;

const EVENT: &str =
    "SELECT e.time, k.name, c.id, c.name, e.attribution, e.pid, e.parent_pid, e.uid, e.comm, b.json
    FROM events e
    JOIN kinds k ON k.key = e.kind
    JOIN bodies b ON b.event = e.id
    LEFT JOIN containers c ON c.key = e.container
    WHERE e.id = ?1";

impl History {
    /// Calls `take` for each event that matches the query, in the order of time, and returns their
    /// number. Stops when `take` fails.
    ///
    /// No lock is held while `take` runs, so a slow one never blocks a writer. Events that
    /// retention deletes meanwhile are left out.
    ///
    /// # Errors
    /// [`HistoryError`], or the error of `take`.
    pub fn each<E: From<HistoryError>>(
        &self,
        query: &Query,
        mut take: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let conditions = Conditions::new(self.connection(), query).map_err(|e| self.failed(&e))?;
        let start = self.start(&conditions, query.limit).map_err(|e| self.failed(&e))?;
        let Some(mut last) = start else { return Ok(0) };
        let mut count = 0;
        loop {
            let ids = self.ids(&conditions, last).map_err(|e| self.failed(&e))?;
            for ids in ids.chunks(TOGETHER) {
                // Owned, so that the read has ended before `take` is called.
                let events = self.stored(ids).map_err(|e| self.failed(&e))?;
                for event in &events {
                    take(event.found())?;
                }
                count += events.len() as u64;
            }
            match ids.last() {
                Some(&end) if ids.len() as i64 == MANY => last = end,
                _ => break,
            }
        }
        self.0.check()?;
        Ok(count)
    }

    /// Counts the events that match the query by the values of some fields. Returns at most
    /// `query.limit` groups, the largest first.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn count(
        &self,
        query: &Query,
        by: &[Group],
    ) -> Result<Vec<(u64, Vec<Value>)>, HistoryError> {
        let counted = self.try_count(query, by).map_err(|e| self.failed(&e))?;
        self.0.check()?;
        Ok(counted)
    }

    fn try_count(&self, query: &Query, by: &[Group]) -> rusqlite::Result<Vec<(u64, Vec<Value>)>> {
        let conditions = Conditions::new(self.connection(), query)?;
        let columns: Vec<&str> = by.iter().map(Group::sql).collect();
        let numbers: Vec<String> = (2..2 + by.len()).map(|n| n.to_string()).collect();
        let limit = query.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let sql = format!(
            "SELECT count(*), {} FROM events e {} WHERE {} \
             GROUP BY {numbers} ORDER BY 1 DESC, {numbers} LIMIT {limit}",
            columns.join(", "),
            group::joins(by),
            conditions.sql,
            numbers = numbers.join(", "),
        );
        let mut statement = self.connection().prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(&conditions.values), |row| {
            let values = (1..=by.len()).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?;
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), values))
        })?;
        rows.collect()
    }

    /// Explains why a query found nothing, as far as possible.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn why_nothing(&self, query: &Query) -> Result<String, HistoryError> {
        query::why_nothing(self.connection(), query).map_err(|e| self.failed(&e))
    }

    fn connection(&self) -> &Connection {
        &self.0.connection
    }

    fn failed(&self, error: &rusqlite::Error) -> HistoryError {
        self.0.failed(error)
    }

    /// Returns the position just before the first matching event; `None` if there is none.
    fn start(
        &self,
        conditions: &Conditions,
        limit: Option<u64>,
    ) -> rusqlite::Result<Option<(i64, i64)>> {
        let Some(limit) = limit else { return Ok(Some((i64::MIN, i64::MIN))) };
        if limit == 0 {
            return Ok(None);
        }
        let sql = format!(
            "SELECT time, id - 1 FROM (SELECT e.time, e.id FROM events e WHERE {} \
             ORDER BY e.time DESC, e.id DESC LIMIT {}) ORDER BY time, id LIMIT 1",
            conditions.sql,
            i64::try_from(limit).unwrap_or(i64::MAX)
        );
        let mut statement = self.connection().prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(&conditions.values))?;
        rows.next()?.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }

    /// Returns times and ids of the next events.
    fn ids(&self, conditions: &Conditions, after: (i64, i64)) -> rusqlite::Result<Vec<(i64, i64)>> {
        let sql = format!(
            "SELECT e.time, e.id FROM events e WHERE {} AND (e.time, e.id) > ({}, {}) \
             ORDER BY e.time, e.id LIMIT {MANY}",
            conditions.sql, after.0, after.1
        );
        let mut statement = self.connection().prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(&conditions.values), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect()
    }

    /// Returns those of the events that still exist.
    fn stored(&self, ids: &[(i64, i64)]) -> rusqlite::Result<Vec<Stored>> {
        // In one transaction, because SQLite checks the files at the start of each.
        let transaction = self.connection().unchecked_transaction()?;
        let mut statement = transaction.prepare_cached(EVENT)?;
        let mut events = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            events.extend(statement.query_row(params![id], Stored::new).optional()?);
        }
        Ok(events)
    }
}

/// An event as read from the database.
struct Stored {
    time: i64,
    /// Kind, container id, container name, attribution state, command name.
    texts: [Option<String>; 5],
    /// Pid, pid of the parent, user id.
    ids: [Option<u32>; 3],
    json: String,
}

impl Stored {
    fn new(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            time: row.get(0)?,
            texts: [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(8)?],
            ids: [row.get(5)?, row.get(6)?, row.get(7)?],
            json: row.get(9)?,
        })
    }

    fn found(&self) -> Found<'_> {
        let [kind, container_id, container_name, attribution, comm] =
            self.texts.each_ref().map(Option::as_deref);
        let [pid, parent_pid, uid] = self.ids;
        Found {
            time: Timestamp(self.time.max(0).unsigned_abs()),
            kind: kind.unwrap_or_default(),
            container_id,
            container_name,
            attribution,
            pid,
            parent_pid,
            uid,
            comm,
            json: &self.json,
        }
    }
}
