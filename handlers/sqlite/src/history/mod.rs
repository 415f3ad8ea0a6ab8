//! Answers from a history, also while it is written.

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

/// A history that is read. Nothing is ever written to it, and no file is made.
#[derive(Debug)]
pub struct History(Opened);

/// An event that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub kind: &'a str,
    /// Id of the container that did it.
    pub container_id: Option<&'a str>,
    /// The container's name, also if it came after the event.
    pub container_name: Option<&'a str>,
    /// `resolved`, `pending`, `unknown` or `host`, as it was when it happened.
    pub attribution: Option<&'a str>,
    /// The process.
    pub pid: Option<u32>,
    /// Its parent.
    pub parent_pid: Option<u32>,
    /// Its effective user.
    pub uid: Option<u32>,
    /// Its command name.
    pub comm: Option<&'a str>,
    /// The whole event, as it was printed when it happened.
    pub json: &'a str,
}

/// How many events are searched for at once. What is found is remembered by 16 bytes each.
const MANY: i64 = 1_000_000;

/// How many are read at once.
const TOGETHER: usize = 256;

const EVENT: &str =
    "SELECT e.time, k.name, c.id, c.name, e.attribution, e.pid, e.parent_pid, e.uid, e.comm, b.json
    FROM events e
    JOIN kinds k ON k.key = e.kind
    JOIN bodies b ON b.event = e.id
    LEFT JOIN containers c ON c.key = e.container
    WHERE e.id = ?1";

impl History {
    /// Gives each event that is asked for to `take`, in the order of time; says how many there
    /// were. Stops when `take` fails.
    ///
    /// While an event is taken nothing is held that a writer could wait for, however long that is.
    /// What retention deletes meanwhile is left out.
    ///
    /// # Errors
    /// [`HistoryError`], or what `take` gave.
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
                // Owned, so that the read has ended before the first is taken.
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

    /// Counts the events that are asked for by the values of some fields, the largest count first;
    /// at most `query.limit` groups.
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
            "SELECT count(*), {} FROM events e {} WHERE {} GROUP BY {numbers} ORDER BY 1 DESC, {numbers} LIMIT {limit}",
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

    /// Why nothing was found, as far as that can be told.
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

    /// The place just before the first event that is wanted; `None` if there is none.
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
            "SELECT time, id - 1 FROM (SELECT e.time, e.id FROM events e WHERE {} ORDER BY e.time DESC, e.id DESC LIMIT {}) ORDER BY time, id LIMIT 1",
            conditions.sql,
            i64::try_from(limit).unwrap_or(i64::MAX)
        );
        let mut statement = self.connection().prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(&conditions.values))?;
        rows.next()?.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    }

    /// Times and ids of the next events.
    fn ids(&self, conditions: &Conditions, after: (i64, i64)) -> rusqlite::Result<Vec<(i64, i64)>> {
        let sql = format!(
            "SELECT e.time, e.id FROM events e WHERE {} AND (e.time, e.id) > ({}, {}) ORDER BY e.time, e.id LIMIT {MANY}",
            conditions.sql, after.0, after.1
        );
        let mut statement = self.connection().prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(&conditions.values), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect()
    }

    /// Those of these events that are still there.
    fn stored(&self, ids: &[(i64, i64)]) -> rusqlite::Result<Vec<Stored>> {
        // One transaction, since each begins with looks at the files.
        let transaction = self.connection().unchecked_transaction()?;
        let mut statement = transaction.prepare_cached(EVENT)?;
        let mut events = Vec::with_capacity(ids.len());
        for (_, id) in ids {
            events.extend(statement.query_row(params![id], Stored::new).optional()?);
        }
        Ok(events)
    }
}

/// An event as it was read.
struct Stored {
    time: i64,
    /// Kind, container's id and name, attribution, command name.
    texts: [Option<String>; 5],
    /// Pid, parent's pid, user.
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
