//! What is asked for.

use rusqlite::types::Value;
use rusqlite::{Connection, params};
use whalewatch_core::{Container, ContainerPatterns, Runtime, Timestamp};

/// What is asked for: events for which all of this holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Patterns over containers, as the `filter` handler has them: `web*`, `image:nginx*`,
    /// `label:tier`, `!web-test`. An id may be given by its first 12 digits or more.
    pub containers: Vec<String>,
    /// Kinds, any of which fits: `process.exec`, `file.*`; `file` means all that begin with it.
    pub kinds: Vec<String>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// Of this process.
    pub pid: Option<u32>,
    /// Of processes whose command name fits this pattern.
    pub comm: Option<String>,
    /// About a file, a mount point or an executable whose path fits this pattern.
    pub path: Option<String>,
    /// Attributed so: `resolved`, `pending`, `unknown` or `host`.
    pub attribution: Option<String>,
    /// The last so many only.
    pub limit: Option<u64>,
}

impl Query {
    /// What is wrong with its patterns.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(found) = ContainerPatterns::new("container", &self.containers) {
            problems.extend(found.into_iter().map(|problem| match problem.hint {
                Some(hint) => format!("--container: {}: {hint}", problem.message),
                None => format!("--container: {}", problem.message),
            }));
        }
        let kinds = self.kinds.iter().map(|kind| ("--kind", kind));
        let others = [("--comm", &self.comm), ("--path", &self.path)];
        let others = others.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?)));
        for (key, glob) in kinds.chain(others) {
            if glob.is_empty() {
                problems.push(format!("{key}: the pattern is empty: leave it out, or write *"));
            } else if unclosed(glob) {
                problems
                    .push(format!("{key}: \"{glob}\": the [ is not closed: write [[] for itself"));
            }
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            problems.push("--since is not before --until: nothing lies between".into());
        }
        problems
    }

    /// Container patterns with short ids made into patterns.
    fn container_patterns(&self) -> Vec<String> {
        let patterns = self.containers.iter().map(|pattern| {
            let id = pattern.strip_prefix('!').unwrap_or(pattern);
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            let short = (12..64).contains(&id.len()) && id.bytes().all(hex);
            if short { format!("{pattern}*") } else { pattern.clone() }
        });
        patterns.collect()
    }
}

/// Whether a set of characters in an `SQLite` pattern has no end, which it would take for one that
/// nothing fits.
fn unclosed(glob: &str) -> bool {
    let mut rest = glob;
    while let Some(at) = rest.find('[') {
        let set = &rest[at + 1..];
        let set = set.strip_prefix('^').unwrap_or(set);
        // A ] that comes first stands for itself.
        let Some((end, _)) = set.char_indices().skip(1).find(|(_, c)| *c == ']') else {
            return true;
        };
        rest = &set[end + 1..];
    }
    false
}

/// A query as SQL.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// Holds for rows `e` of events.
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Conditions {
    pub(crate) fn new(connection: &Connection, query: &Query) -> rusqlite::Result<Self> {
        // What comes later is not part of the answer.
        let last: Option<i64> =
            connection.query_row("SELECT max(id) FROM events", (), |row| row.get(0))?;
        let mut conditions =
            Self { sql: format!("e.id <= {}", last.unwrap_or(0)), values: Vec::new() };
        if !query.containers.is_empty() {
            conditions.one_of("container", &containers(connection, query)?);
        }
        if !query.kinds.is_empty() {
            conditions.one_of("kind", &kinds(connection, query)?);
        }
        let nanos = |time: Timestamp| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX).into();
        if let Some(since) = query.since {
            conditions.and("e.time >= ?", [nanos(since)]);
        }
        if let Some(until) = query.until {
            conditions.and("e.time < ?", [nanos(until)]);
        }
        if let Some(pid) = query.pid {
            conditions.and("e.pid = ?", [pid.into()]);
        }
        if let Some(comm) = &query.comm {
            conditions.and("e.comm GLOB ?", [comm.clone().into()]);
        }
        if let Some(path) = &query.path {
            let three = [path, path, path].map(|path| path.clone().into());
            conditions.and("(e.path GLOB ? OR e.executable GLOB ? OR e.to_path GLOB ?)", three);
        }
        if let Some(state) = &query.attribution {
            conditions.and("e.attribution = ?", [state.clone().into()]);
        }
        Ok(conditions)
    }

    fn and<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    fn one_of(&mut self, column: &str, keys: &[i64]) {
        let keys: Vec<String> = keys.iter().map(i64::to_string).collect();
        self.and(&format!("e.{column} IN ({})", keys.join(", ")), []);
    }
}

/// Keys of the containers that are meant.
fn containers(connection: &Connection, query: &Query) -> rusqlite::Result<Vec<i64>> {
    // Patterns were checked before: see `Query::problems`. A wrong one means nothing.
    let Ok(patterns) = ContainerPatterns::new("container", &query.container_patterns()) else {
        return Ok(Vec::new());
    };
    let mut labels = connection.prepare("SELECT label, value FROM labels WHERE container = ?1")?;
    let mut all = connection.prepare("SELECT key, id, name, image FROM containers")?;
    let mut rows = all.query(())?;
    let mut meant = Vec::new();
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(0)?;
        let labels = labels.query_map(params![key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let container = Container {
            name: row.get::<_, Option<String>>(2)?.map(Into::into),
            image: row.get::<_, Option<String>>(3)?.map(Into::into),
            labels: labels.collect::<rusqlite::Result<_>>()?,
            ..Container::bare(row.get::<_, String>(1)?, Runtime::Other)
        };
        if patterns.matches(&container) {
            meant.push(key);
        }
    }
    Ok(meant)
}

/// Keys of the kinds that are meant.
fn kinds(connection: &Connection, query: &Query) -> rusqlite::Result<Vec<i64>> {
    let mut keys = Vec::new();
    let mut statement =
        connection.prepare("SELECT key FROM kinds WHERE name GLOB ?1 OR name GLOB ?1 || '.*'")?;
    for kind in &query.kinds {
        let found = statement.query_map([kind], |row| row.get(0))?;
        keys.extend(found.collect::<rusqlite::Result<Vec<i64>>>()?);
    }
    Ok(keys)
}

/// Why nothing was found, as far as that can be told.
pub(crate) fn why_nothing(connection: &Connection, query: &Query) -> rusqlite::Result<String> {
    if !connection.prepare("SELECT 1 FROM events LIMIT 1")?.exists(())? {
        return Ok("no event is in it yet".into());
    }
    if !query.containers.is_empty() && containers(connection, query)?.is_empty() {
        let sql =
            "SELECT coalesce(name, substr(id, 1, 12)) FROM containers ORDER BY key DESC LIMIT 10";
        let there = names(connection, sql)?;
        return Ok(if there.is_empty() {
            "no container is in it".into()
        } else {
            format!("no container in it fits --container: there are {there}")
        });
    }
    if !query.kinds.is_empty() && kinds(connection, query)?.is_empty() {
        let there = names(connection, "SELECT name FROM kinds ORDER BY name LIMIT 40")?;
        return Ok(format!("no event in it is of such a kind: there are {there}"));
    }
    Ok("no event in it fits all that was asked for".into())
}

/// The names that a statement gives, harmless, as one text.
fn names(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map((), |row| row.get::<_, String>(0))?;
    let mut text = Vec::new();
    for name in names {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        whalewatch_kit::text::visible(&mut text, name?.as_bytes());
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_without_its_end_is_told() {
        for (glob, want) in [
            ("a*", false),
            ("[ab]*", false),
            ("[]a]", false),
            ("[^]]x", false),
            ("[[]", false),
            ("[", true),
            ("[]", true),
            ("a[bc", true),
            ("[\u{e9}]", false),
            ("[^]", true),
            ("[a][b", true),
        ] {
            assert_eq!(unclosed(glob), want, "{glob}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let query = Query {
            containers: vec!["[a".into()],
            kinds: vec!["x[".into(), String::new()],
            since: Some(Timestamp(5)),
            until: Some(Timestamp(5)),
            ..Query::default()
        };
        let problems = query.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].starts_with("--container: \"[a\""), "{problems:?}");
        assert_eq!(Query::default().problems(), [""; 0]);
    }

    #[test]
    fn short_ids_are_patterns() {
        let query = Query {
            containers: vec!["e0d4e0d4e0d4".into(), "!e0d4e0d4e0d4".into(), "web".into()],
            ..Query::default()
        };
        assert_eq!(query.container_patterns(), ["e0d4e0d4e0d4*", "!e0d4e0d4e0d4*", "web"]);
    }
}
