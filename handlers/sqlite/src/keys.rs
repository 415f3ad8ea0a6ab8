//! Keys of the rows that events refer to: hosts, kinds and containers.

use std::sync::Arc;

use rusqlite::{Connection, params};
use rustc_hash::FxHashMap;
use whalewatch_core::Container;

/// How many containers are cached. When there are more, the cache is cleared.
const CONTAINERS: usize = 4096;

/// How many container snapshots are cached by address, so that they are found without comparing
/// contents.
const RECENT: usize = 16;

/// A cache of keys. It is cleared when another program may have changed the rows, or when a
/// transaction that inserted some was rolled back.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    host: Option<i64>,
    kinds: Vec<(&'static str, i64)>,
    recent: Vec<(Arc<Container>, i64)>,
    oldest: usize,
    containers: FxHashMap<Arc<str>, (Arc<Container>, i64)>,
}

impl Keys {
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Returns the key of a host name.
    pub(crate) fn host(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(key) = self.host {
            return Ok(key);
        }
        let key = named(connection, "hosts", name)?;
        self.host = Some(key);
        Ok(key)
    }

    /// Returns the key of a kind of event.
    pub(crate) fn kind(
        &mut self,
        connection: &Connection,
        name: &'static str,
    ) -> rusqlite::Result<i64> {
        if let Some((_, key)) = self.kinds.iter().find(|(known, _)| *known == name) {
            return Ok(*key);
        }
        let key = named(connection, "kinds", name)?;
        self.kinds.push((name, key));
        Ok(key)
    }

    /// Returns the key of a container. Updates its row if the snapshot has more information.
    pub(crate) fn container(
        &mut self,
        connection: &Connection,
        container: &Arc<Container>,
    ) -> rusqlite::Result<i64> {
        let recent = self.recent.iter().find(|(known, _)| Arc::ptr_eq(known, container));
        if let Some((_, key)) = recent {
            return Ok(*key);
        }
        let key = match self.containers.get(&container.id) {
            Some((known, key)) if written_alike(known, container) => *key,
            _ => self.write(connection, container)?,
        };
        let entry = (Arc::clone(container), key);
        if self.recent.len() < RECENT {
            self.recent.push(entry);
        } else {
            self.recent[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % RECENT;
        }
        Ok(key)
    }

    fn write(
        &mut self,
        connection: &Connection,
        container: &Arc<Container>,
    ) -> rusqlite::Result<i64> {
        let key = write_container(connection, container)?;
        if self.containers.len() >= CONTAINERS {
            self.containers.clear();
        }
        self.containers.insert(Arc::clone(&container.id), (Arc::clone(container), key));
        Ok(key)
    }
}

/// Whether two snapshots of a container lead to the same rows.
fn written_alike(a: &Container, b: &Container) -> bool {
    a.name == b.name && a.image == b.image && a.runtime == b.runtime && a.labels == b.labels
}

/// Returns the key of a name in a table of names. Inserts the name if necessary.
fn named(connection: &Connection, table: &str, name: &str) -> rusqlite::Result<i64> {
    let insert = format!("INSERT INTO {table} (name) VALUES (?1) ON CONFLICT (name) DO NOTHING");
    connection.execute(&insert, params![name])?;
    let select = format!("SELECT key FROM {table} WHERE name = ?1");
    connection.query_row(&select, params![name], |row| row.get(0))
}

/// Inserts or updates a container's row. Fields that the snapshot lacks keep their old value.
fn write_container(connection: &Connection, container: &Container) -> rusqlite::Result<i64> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO containers (id, name, image, runtime) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET
             name = coalesce(excluded.name, name),
             image = coalesce(excluded.image, image),
             runtime = excluded.runtime
         RETURNING key",
    )?;
    let row = params![
        &*container.id,
        container.name.as_deref(),
        container.image.as_deref(),
        container.runtime.as_str(),
    ];
    let key: i64 = upsert.query_row(row, |row| row.get(0))?;
    let mut label = connection.prepare_cached(
        "INSERT INTO labels (container, label, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (container, label) DO UPDATE SET value = excluded.value",
    )?;
    for (name, value) in &container.labels {
        label.execute(params![key, name, value])?;
    }
    Ok(key)
}
