//! Queries, their answers, and that they leave no trace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rusqlite::types::Value as Sql;
use whalewatch_core::{Container, Status};
use whalewatch_testing::{bare, named};

use super::*;
use crate::Group;

const START: u64 = 1_795_441_580_000_000_000;

fn event(kind: &'static str, second: u64, pid: u32) -> Did {
    Did::of(kind).at(START + second * 1_000_000_000).by(child(pid, "cat"))
}

/// Events of two containers and the host, over ten seconds.
fn filled() -> Place {
    let mut place = Place::new();
    place.options.keep = whalewatch_core::HumanDuration(Duration::ZERO);
    let mut bench = place.bench();
    let web = Arc::new(Container {
        labels: [("tier".to_owned(), "front".to_owned())].into(),
        ..(*named(&"e0d4".repeat(16), "web-1", "nginx:1", Status::Running)).clone()
    });
    let db = named(&"ab12".repeat(16), "db", "postgres:16", Status::Running);
    let exec = event("process.exec", 0, 7).with("process.executable.path", "/bin/cat");
    let path = "/etc/passwd";
    let open = event("file.open", 1, 7).with("file.path", path).with("more", path);
    let connect = event("network.connect", 2, 7)
        .with("network.peer.address", "10.0.0.1")
        .with("network.peer.port", 443);
    bench.handle(batch(vec![exec, open, connect], &inside(&web))).unwrap();
    bench
        .handle(batch(vec![event("process.exec", 3, 8), event("file.open", 4, 8)], &inside(&db)))
        .unwrap();
    let comm = event("process.exec", 5, 9).by(child(9, "systemd"));
    bench.handle(batch(vec![comm, event("process.exit", 6, 9)], &host())).unwrap();
    let late = Arc::new(bare(&"f00d".repeat(16)));
    bench.handle(batch(vec![event("process.exit", 9, 10)], &inside(&late))).unwrap();
    // From another tracker: later by its batch, but not by its time.
    bench.handle(batch(vec![event("file.open", 8, 11)], &host())).unwrap();
    bench.end().unwrap();
    place
}

/// Seconds of the events that a query finds.
fn seconds(place: &Place, query: &Query) -> Vec<u64> {
    let history = History::open(place.path()).unwrap();
    let mut seconds = Vec::new();
    let each = history.each::<HistoryError>(query, |found| {
        seconds.push((found.time.as_nanos() - START) / 1_000_000_000);
        Ok(())
    });
    each.unwrap();
    seconds
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn each_condition_selects_the_right_events() {
    let place = filled();
    let at = |second: u64| Some(Timestamp(START + second * 1_000_000_000));
    let all = Query::default;
    let containers = |c: &[&str]| Query { containers: strings(c), ..all() };
    let kinds = |k: &[&str]| Query { kinds: strings(k), ..all() };
    for (query, want) in [
        (all(), vec![0, 1, 2, 3, 4, 5, 6, 8, 9]),
        (containers(&["web*"]), vec![0, 1, 2]),
        (containers(&["web-1", "db"]), vec![0, 1, 2, 3, 4]),
        (containers(&["!web*"]), vec![3, 4, 9]),
        (containers(&["e0d4e0d4e0d4"]), vec![0, 1, 2]),
        (containers(&["image:postgres*"]), vec![3, 4]),
        (containers(&["label:tier=front"]), vec![0, 1, 2]),
        (containers(&["nothing"]), vec![]),
        (kinds(&["process.exec"]), vec![0, 3, 5]),
        (kinds(&["process.*"]), vec![0, 3, 5, 6, 9]),
        (kinds(&["file", "network"]), vec![1, 2, 4, 8]),
        (kinds(&["nothing"]), vec![]),
        (Query { since: at(4), ..all() }, vec![4, 5, 6, 8, 9]),
        (Query { until: at(4), ..all() }, vec![0, 1, 2, 3]),
        (Query { since: at(4), until: at(6), ..all() }, vec![4, 5]),
        (Query { pid: Some(7), ..all() }, vec![0, 1, 2]),
        (Query { comm: Some("sys*".into()), ..all() }, vec![5]),
        (Query { path: Some("/etc/*".into()), ..all() }, vec![1]),
        (Query { path: Some("/bin/cat".into()), ..all() }, vec![0]),
        (Query { attribution: Some("host".into()), ..all() }, vec![5, 6, 8]),
        (Query { attribution: Some("pending".into()), ..all() }, vec![9]),
        (Query { limit: Some(3), ..all() }, vec![6, 8, 9]),
        (Query { limit: Some(0), ..all() }, vec![]),
        (Query { limit: Some(100), ..kinds(&["file.open"]) }, vec![1, 4, 8]),
        (Query { limit: Some(1), ..kinds(&["file.open"]) }, vec![8]),
        (
            Query {
                since: at(1),
                ..Query { kinds: strings(&["file.open"]), ..containers(&["web*"]) }
            },
            vec![1],
        ),
    ] {
        assert_eq!(seconds(&place, &query), want, "{query:?}");
    }
}

#[test]
fn events_are_counted_by_any_fields() {
    let place = filled();
    let history = History::open(place.path()).unwrap();
    let count = |query: &Query, by: &[&str]| -> Vec<String> {
        let by: Vec<Group> = by.iter().map(|name| name.parse().unwrap()).collect();
        let rows = history.count(query, &by).unwrap().into_iter().map(|(count, values)| {
            let values = values.into_iter().map(|value| match value {
                Sql::Null => "-".to_owned(),
                Sql::Integer(number) => number.to_string(),
                Sql::Text(text) => text,
                other => panic!("{other:?}"),
            });
            format!("{count} {}", values.collect::<Vec<_>>().join(" "))
        });
        rows.collect()
    };
    let all = Query::default();
    assert_eq!(
        count(&all, &["kind"]),
        ["3 file.open", "3 process.exec", "2 process.exit", "1 network.connect"]
    );
    assert_eq!(count(&all, &["container.name"]), ["4 -", "3 web-1", "2 db"]);
    let files = Query { kinds: strings(&["file"]), ..Query::default() };
    assert_eq!(
        count(&files, &["container.name", "kind"]),
        ["1 - file.open", "1 db file.open", "1 web-1 file.open"]
    );
    assert_eq!(count(&Query { limit: Some(1), ..files }, &["day"]), ["3 2026-11-23"]);
    assert_eq!(count(&all, &["more"]), ["8 -", "1 /etc/passwd"], "a field without a column");
    assert_eq!(count(&all, &["network.peer.port", "host.name"]), ["8 - node-1", "1 443 node-1"]);
    for wrong in ["", "a b", "a.", "a'); DROP TABLE events; --", "\"a"] {
        assert!(wrong.parse::<Group>().unwrap_err().contains("is not a field"), "{wrong}");
    }
}

#[test]
fn empty_answer_is_explained() {
    let place = filled();
    let history = History::open(place.path()).unwrap();
    let why = |query: &Query| history.why_nothing(query).unwrap();
    let containers = why(&Query { containers: strings(&["wbe"]), ..Query::default() });
    assert!(containers.ends_with("it has f00df00df00d, db, web-1"), "{containers}");
    let kinds = why(&Query { kinds: strings(&["opened"]), ..Query::default() });
    assert!(kinds.contains("it has file.open, network.connect, process.exec"), "{kinds}");
    let pid = why(&Query { pid: Some(1), ..Query::default() });
    assert_eq!(pid, "no event in the history matches all options");
    let empty = Place::new();
    drop(empty.bench());
    let history = History::open(empty.path()).unwrap();
    assert_eq!(history.why_nothing(&Query::default()).unwrap(), "the history has no events yet");
}

#[test]
fn queries_use_indexes() {
    let place = filled();
    let connection = place.other();
    let plan = |query: &Query| -> String {
        let conditions = crate::history::Conditions::new(&connection, query).unwrap();
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT e.time, e.id FROM events e WHERE {} \
             AND (e.time, e.id) > (0, 0) ORDER BY e.time, e.id LIMIT 10",
            conditions.sql
        );
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement
            .query_map(rusqlite::params_from_iter(&conditions.values), |row| {
                row.get::<_, String>(3)
            })
            .unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let since = Query { since: Some(Timestamp(START)), ..Query::default() };
    for (query, index) in [
        (Query::default(), "events_by_time"),
        (since.clone(), "events_by_time"),
        (Query { containers: strings(&["web*"]), ..since.clone() }, "events_by_container"),
        (
            Query {
                kinds: strings(&["file", "process"]),
                containers: strings(&["web*"]),
                ..since.clone()
            },
            "events_by_container",
        ),
        (Query { kinds: strings(&["file.open"]), ..since.clone() }, "events_by_kind"),
        (Query { pid: Some(7), ..since }, "events_by_pid"),
    ] {
        let plan = plan(&query);
        assert!(
            plan.contains(&format!("USING INDEX {index}"))
                || plan.contains(&format!("USING COVERING INDEX {index}")),
            "{query:?}: {plan}"
        );
    }
}

#[test]
fn query_creates_no_file_and_needs_no_write_permission() {
    let place = filled();
    let before = place.files();
    assert_eq!(before.len(), 1, "a finished run leaves only the database");
    let bytes = fs::read(place.path()).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(place.stored().len(), 9);
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.files(), before);
    assert_eq!(fs::read(place.path()).unwrap(), bytes);
}

#[test]
fn query_during_writing_sees_committed_events() {
    let place = Place::new();
    let mut bench = place.bench();
    for round in 1..20 {
        bench.handle(batch(vec![opened(1, "/a"); 10], &host())).unwrap();
        tick(&mut bench);
        let before = place.files();
        assert_eq!(place.stored().len(), round * 10);
        assert_eq!(place.files(), before);
    }
    bench.end().unwrap();
    assert_eq!(place.files().len(), 1);
}

#[test]
fn writer_that_begins_during_a_query_is_noticed() {
    let place = filled();
    let history = History::open(place.path()).unwrap();
    let mut bench = place.bench();
    bench.handle(batch(vec![opened(1, "/a"); 10], &host())).unwrap();
    tick(&mut bench);
    let error = history.each::<HistoryError>(&Query::default(), |_| Ok(())).unwrap_err();
    assert!(
        error.to_string().ends_with("began to write it while it was read: run the query again"),
        "{error}"
    );
}

#[test]
fn slow_reader_does_not_block_the_writer() {
    let mut place = Place::new();
    place.options.max_size = whalewatch_core::HumanSize(8 << 20);
    let mut bench = place.bench();
    let some =
        || batch((0..500).map(|pid| opened(pid, "/some/file/of/some/length")).collect(), &host());
    bench.handle(some()).unwrap();
    tick(&mut bench);
    let history = History::open(place.path()).unwrap();
    // While the reader takes each of a few events, far more are written than fit into the log.
    let mut taken = 0;
    let each = history.each::<HistoryError>(&Query { limit: Some(5), ..Query::default() }, |_| {
        taken += 1;
        for _ in 0..10 {
            bench.handle(some()).unwrap();
            tick(&mut bench);
        }
        Ok(())
    });
    each.unwrap();
    assert_eq!(taken, 5);
    assert_eq!(dropped(&bench), 0);
    assert!(place.size() <= 8 << 20);
}

#[test]
fn file_that_cannot_be_queried_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| History::open(path).unwrap_err().to_string();
    let missing = dir.path().join("none.db");
    assert!(error(&missing).contains("there is no such database"));
    assert!(!missing.exists(), "it must not be created");
    assert!(error(dir.path()).contains("this is a folder"));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(error(&file).contains("nothing was ever written to it"));
    fs::write(&file, "text, and more of it than a header has, so that it is looked at".repeat(20))
        .unwrap();
    assert!(
        error(&file).contains("name the database that the sqlite handler writes"),
        "{}",
        error(&file)
    );
    fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    assert!(error(&file).contains("not a history of Whalewatch"));
}
