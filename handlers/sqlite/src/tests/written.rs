//! What is written, and when events count as delivered.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use proptest::prelude::*;
use whalewatch_core::{Container, HumanDuration, Status};
use whalewatch_testing::{Bench, bare, named};

use super::*;

#[test]
fn event_counts_as_delivered_when_committed_not_before() {
    let place = Place::new();
    let mut bench = place.bench();
    bench.handle(batch(vec![opened(7, "/a"), opened(7, "/b")], &host())).unwrap();
    bench.flush().unwrap();
    assert_eq!((delivered(&bench), place.number("SELECT count(*) FROM events")), (0, 0));
    tick(&mut bench);
    assert_eq!((delivered(&bench), place.number("SELECT count(*) FROM events")), (2, 2));
    bench.handle(batch(vec![opened(7, "/c")], &host())).unwrap();
    bench.end().unwrap();
    assert_eq!((delivered(&bench), place.number("SELECT count(*) FROM events")), (3, 3));
    assert!(bench.adds_up());
}

#[test]
fn without_an_interval_each_flush_commits() {
    let mut place = Place::new();
    place.options.commit_every = HumanDuration(Duration::ZERO);
    let mut bench = place.bench();
    bench.handle(batch(vec![opened(7, "/a")], &host())).unwrap();
    assert_eq!(delivered(&bench), 0);
    bench.flush().unwrap();
    assert_eq!(delivered(&bench), 1);
}

#[test]
fn full_chunk_is_committed_at_once() {
    let place = Place::new();
    let mut bench = place.bench();
    let events: Vec<Did> = (0..5000).map(|pid| opened(pid, "/a")).collect();
    bench.handle(batch(events, &host())).unwrap();
    let first = delivered(&bench);
    assert!((2048..5000).contains(&first), "{first}");
    bench.end().unwrap();
    assert_eq!(delivered(&bench), 5000);
}

#[test]
fn lines_are_read_back_exactly() {
    let place = Place::new();
    let mut bench = place.bench();
    let web = named(&"e0d4".repeat(16), "web", "nginx:1", Status::Running);
    let odd = opened(9, "/a \"b\"\n\u{1b}[2J\u{202e}");
    let (first, second) = (batch(vec![odd], &inside(&web)), batch(vec![opened(1, "/x")], &host()));
    let want = [lines(&first), lines(&second)].concat();
    bench.handle(first).unwrap();
    bench.handle(second).unwrap();
    bench.end().unwrap();
    assert_eq!(place.stored(), want);
    place.assert_whole();
}

#[test]
fn view_history_has_all_columns() {
    let place = Place::new();
    let mut bench = place.bench();
    let web = named(&"e0d4".repeat(16), "web", "nginx:1", Status::Running);
    let event = opened(9, "/etc/passwd")
        .at(1_795_441_580_171_234_567)
        .with("network.peer.address", "10.0.0.1")
        .with("network.peer.port", 443);
    bench.handle(batch(vec![event], &inside(&web))).unwrap();
    tick(&mut bench);
    let row: String = place
        .other()
        .query_row(
            "SELECT concat_ws('|', time, time_ns, kind, host, container, container_id, image,
                attribution, pid, parent_pid, start_time, comm, uid, executable, path, to_path,
                peer_address, peer_port, exit_code, error)
             FROM history",
            (),
            |row| row.get(0),
        )
        .unwrap();
    let id = "e0d4".repeat(16);
    let want = format!(
        "2026-11-23T13:46:20.171234567Z|1795441580171234567|file.open|node-1|web|{id}|nginx:1|\
         resolved|9|1|9|cat|0|/etc/passwd|10.0.0.1|443"
    );
    assert_eq!(row, want);
}

#[test]
fn late_container_name_applies_to_all_its_events() {
    let place = Place::new();
    let mut bench = place.bench();
    let id = "ab12".repeat(16);
    let unnamed = Arc::new(bare(&id));
    let web = named(&id, "web", "nginx:1", Status::Running);
    for container in [&unnamed, &web, &unnamed] {
        bench.handle(batch(vec![opened(9, "/a")], &inside(container))).unwrap();
        tick(&mut bench);
    }
    let names = "SELECT count(*) FROM history WHERE container = 'web' AND image = 'nginx:1'";
    assert_eq!(place.number(names), 3, "a snapshot without a name must not remove it");
    assert_eq!(place.number("SELECT count(*) FROM containers"), 1);
    assert!(place.stored()[0].contains(r#""name":null"#), "the JSON must stay unchanged");
    let renamed = named(&id, "web-2", "nginx:1", Status::Running);
    bench.handle(batch(vec![opened(9, "/a")], &inside(&renamed))).unwrap();
    tick(&mut bench);
    assert_eq!(place.number("SELECT count(*) FROM history WHERE container = 'web-2'"), 4);
}

#[test]
fn more_containers_than_cached_keep_their_events() {
    let place = Place::new();
    let mut bench = place.bench();
    let containers: Vec<Arc<Container>> = (0..5000)
        .map(|i| named(&format!("id{i}"), &format!("name{i}"), "i", Status::Running))
        .collect();
    for round in 0..2 {
        let events = batch(vec![opened(round, "/a"); containers.len()], &host());
        bench.handle(events.with_attributions(containers.iter().map(inside))).unwrap();
    }
    bench.end().unwrap();
    let sql = "SELECT count(*) FROM history WHERE json LIKE '%\"name\":\"' || container || '\"%'";
    assert_eq!(place.number(sql), 10_000);
    assert_eq!(place.number("SELECT count(*) FROM containers"), 5000);
    place.assert_whole();
}

#[test]
fn file_and_folders_are_created_for_the_owner_only() {
    let mut place = Place::new();
    place.options.path = place.dir.path().join("a/b/history.db");
    let _bench = place.bench();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.path()), 0o600);
    assert_eq!(mode(&place.dir.path().join("a/b")), 0o700);
}

#[test]
fn second_program_can_write_to_the_same_history() {
    let place = Place::new();
    let (mut one, mut two) = (place.bench(), place.bench());
    let web = named("ab", "web", "i", Status::Running);
    for bench in [&mut one, &mut two] {
        for _ in 0..20 {
            bench.handle(batch(vec![opened(1, "/a")], &inside(&web))).unwrap();
            tick(bench);
        }
        bench.end().unwrap();
    }
    assert_eq!(place.number("SELECT count(*) FROM history WHERE container = 'web'"), 40);
    place.assert_whole();
}

#[test]
fn committed_events_survive_a_kill() {
    let place = Place::new();
    let mut bench = place.bench();
    for round in 0..50 {
        bench.handle(batch(vec![opened(round, "/a"); 100], &host())).unwrap();
        tick(&mut bench);
    }
    // A kill leaves the files as they are on disk while the handler runs.
    let killed = Place::new();
    for file in place.files() {
        fs::copy(&file, killed.dir.path().join(file.file_name().unwrap())).unwrap();
    }
    killed.assert_whole();
    assert_eq!(killed.number("SELECT count(*) FROM events"), 5000);
    drop(bench);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_batches_and_texts_are_read_back_in_order(
        batches in prop::collection::vec(prop::collection::vec(".{0,40}", 0..20), 1..12),
        commits in prop::collection::vec(any::<bool>(), 12),
    ) {
        let place = Place::new();
        let mut bench = place.bench();
        let (mut want, mut time) = (Vec::new(), 1_795_441_580_000_000_000);
        for (paths, commit) in batches.iter().zip(commits) {
            let events = paths.iter().map(|path| {
                time += 1;
                opened(3, path).at(time)
            });
            let events = batch(events.collect(), &host());
            want.extend(lines(&events));
            bench.handle(events).unwrap();
            if commit {
                tick(&mut bench);
            }
        }
        bench.end().unwrap();
        prop_assert!(bench.adds_up());
        let keep_all = want.clone();
        prop_assert_eq!(place.stored(), keep_all);
    }
}

/// Waiting events take no more memory than `buffer`; see also `failures`.
#[test]
fn no_memory_is_used_once_events_are_written() {
    let place = Place::new();
    let mut bench: Bench<Sqlite> = place.bench();
    bench.handle(batch(vec![opened(1, "/a"); 3000], &host())).unwrap();
    tick(&mut bench);
    assert_eq!(bench.handler().waiting_bytes(), 0);
}
