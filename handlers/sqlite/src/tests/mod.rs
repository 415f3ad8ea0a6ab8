//! Tests of the handler with real files.

mod failures;
mod queries;
mod retained;
mod written;

use std::fs;
use std::iter::repeat;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;
use whalewatch_core::{
    Attribution, Batch, Container, Event, Evidence, HandlerCounters, Process, Timestamp, Type,
};
use whalewatch_kit::Json;
use whalewatch_testing::{Bench, TestEvent, TestType, process};

use crate::{History, HistoryError, Query, Sqlite, SqliteOptions};

/// An event of any kind and time.
pub(crate) type Did = TestEvent<DidType>;

#[derive(Clone)]
pub(crate) struct DidType;

impl TestType for DidType {
    const NAME: &'static str = "did";
    const KINDS: &'static [&'static str] =
        &["process.exec", "process.exit", "file.open", "network.connect"];
    const FIELDS: &'static [(&'static str, Type)] = &[
        ("process.executable.path", Type::Text),
        ("file.path", Type::Text),
        ("network.peer.address", Type::Text),
        ("network.peer.port", Type::Uint),
        ("more", Type::Text),
    ];
}

/// A process that the first one started.
pub(crate) fn child(pid: u32, name: &str) -> Process {
    Process { parent_pid: 1, start_time: u64::from(pid), ..process(pid, name) }
}

/// A file that this process opened now.
pub(crate) fn opened(pid: u32, path: &str) -> Did {
    let event = Did::of("file.open").at(Timestamp::now().as_nanos()).by(child(pid, "cat"));
    event.with("file.path", path).with("more", path)
}

pub(crate) fn batch(events: Vec<Did>, attribution: &Attribution) -> Batch {
    Batch::new("did".into(), events).with_attributions(repeat(attribution.clone()))
}

pub(crate) fn host() -> Attribution {
    Attribution::host(Evidence::Cgroup)
}

pub(crate) fn inside(container: &Arc<Container>) -> Attribution {
    Attribution::container(Arc::clone(container), Evidence::Cgroup)
}

/// The lines of a batch, as every output writes them.
pub(crate) fn lines(batch: &Batch) -> Vec<String> {
    let mut out = Vec::new();
    Json::new("node-1").batch(&mut out, batch);
    String::from_utf8(out).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// A folder with a database that is written to.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) options: SqliteOptions,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("history.db");
        Self { dir, options: SqliteOptions { path, ..SqliteOptions::default() } }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.options.path
    }

    pub(crate) fn bench(&self) -> Bench<Sqlite> {
        let mut bench = Bench::new::<Did>(&self.options).unwrap_or_else(|p| panic!("{p:?}"));
        assert!(bench.receive(Duration::ZERO).expect("handler takes it"), "first tick");
        bench
    }

    /// Why the handler cannot be built.
    pub(crate) fn refusal(&self) -> String {
        let problems = Bench::<Sqlite>::new::<Did>(&self.options).err().expect("build fails");
        problems[0].message.clone()
    }

    /// The total size of the database files.
    pub(crate) fn size(&self) -> u64 {
        self.files().iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum()
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path()).expect("folder exists");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("folder entry").path()).collect();
        files.sort();
        files
    }

    /// Another program that uses the database.
    pub(crate) fn other(&self) -> Connection {
        Connection::open(self.path()).expect("database opens")
    }

    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.other().query_row(sql, (), |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub(crate) fn stored(&self) -> Vec<String> {
        self.answer(&Query::default())
    }

    pub(crate) fn answer(&self, query: &Query) -> Vec<String> {
        let history = History::open(self.path()).unwrap_or_else(|e| panic!("{e}"));
        let mut lines = Vec::new();
        let count = history.each::<HistoryError>(query, |found| {
            lines.push(found.json.to_owned());
            Ok(())
        });
        assert_eq!(count.unwrap_or_else(|e| panic!("{e}")), lines.len() as u64);
        lines
    }

    #[track_caller]
    pub(crate) fn assert_whole(&self) {
        let connection = self.other();
        let check: String = connection
            .query_row("PRAGMA integrity_check", (), |row| row.get(0))
            .expect("check runs");
        assert_eq!(check, "ok");
        let orphans = "SELECT (SELECT count(*) FROM pragma_foreign_key_check)
            + (SELECT count(*) FROM events WHERE id NOT IN (SELECT event FROM bodies))
            + (SELECT count(*) FROM bodies WHERE event NOT IN (SELECT id FROM events))";
        assert_eq!(connection.query_row(orphans, (), |row| row.get::<_, i64>(0)), Ok(0));
    }
}

/// Advances time until `count` events are delivered.
#[track_caller]
pub(crate) fn until_delivered(bench: &mut Bench<Sqlite>, count: u64) {
    until(bench, |bench| delivered(bench) == count);
}

#[track_caller]
pub(crate) fn until(bench: &mut Bench<Sqlite>, condition: impl Fn(&Bench<Sqlite>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition(bench) {
        assert!(Instant::now() < deadline, "{:?}", bench.counters);
        tick(bench);
        std::thread::yield_now();
    }
}

pub(crate) fn tick(bench: &mut Bench<Sqlite>) {
    bench.advance(Duration::from_millis(200)).expect("handler takes the tick");
}

pub(crate) fn delivered(bench: &Bench<Sqlite>) -> u64 {
    bench.count(|c: &HandlerCounters| &c.output)
}

pub(crate) fn dropped(bench: &Bench<Sqlite>) -> u64 {
    bench.count(|c: &HandlerCounters| &c.dropped)
}
