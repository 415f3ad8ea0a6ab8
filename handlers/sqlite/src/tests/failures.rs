//! A database that is locked, full, broken, foreign or missing.

use std::fs;

use rusqlite::TransactionBehavior;
use whalewatch_core::HumanDuration;

use super::*;
use whalewatch_core::HumanSize;

#[test]
fn events_wait_while_locked_and_are_written_afterwards() {
    let place = Place::new();
    let mut bench = place.bench();
    let mut other = place.other();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    for _ in 0..5 {
        bench.handle(batch(vec![opened(1, "/a"); 100], &host())).unwrap();
        tick(&mut bench);
    }
    assert_eq!((delivered(&bench), dropped(&bench)), (0, 0));
    drop(lock);
    until_delivered(&mut bench, 500);
    assert_eq!(place.number("SELECT count(*) FROM events"), 500);
    assert!(bench.adds_up());
}

#[test]
fn events_beyond_the_buffer_are_dropped_and_counted() {
    let mut place = Place::new();
    place.options.buffer = HumanSize(1 << 20);
    let mut bench = place.bench();
    let mut other = place.other();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    for _ in 0..40 {
        bench.handle(batch(vec![opened(1, "/a"); 100], &host())).unwrap();
        assert!(bench.handler().waiting_bytes() < (1 << 20) + 4096);
    }
    let lost = dropped(&bench);
    assert!((1..4000).contains(&lost), "{lost}");
    drop(lock);
    until_delivered(&mut bench, 4000 - lost);
    bench.handle(batch(vec![opened(1, "/b")], &host())).unwrap();
    bench.end().unwrap();
    assert!(bench.adds_up());
    assert_eq!(place.number("SELECT count(*) FROM events").unsigned_abs(), 4001 - lost);
}

#[test]
fn end_does_not_wait_for_a_lock_forever() {
    let mut place = Place::new();
    place.options.stop_timeout = HumanDuration(Duration::from_millis(300));
    let mut bench = place.bench();
    let mut other = place.other();
    let _lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    bench.handle(batch(vec![opened(1, "/a"); 10], &host())).unwrap();
    let start = Instant::now();
    bench.end().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!((delivered(&bench), dropped(&bench)), (0, 10));
    assert!(bench.adds_up());
}

#[test]
fn broken_database_is_replaced_once_it_is_moved_away() {
    let place = Place::new();
    let mut bench = place.bench();
    bench.handle(batch(vec![opened(1, "/a"); 2000], &host())).unwrap();
    tick(&mut bench);
    assert_eq!(delivered(&bench), 2000);
    // As a bad disk or another program may do.
    for file in place.files() {
        let length = fs::metadata(&file).unwrap().len();
        fs::write(&file, vec![0x5a; length as usize]).unwrap();
    }
    for _ in 0..10 {
        bench.handle(batch(vec![opened(2, "/b"); 10], &host())).unwrap();
        tick(&mut bench);
    }
    assert!(History::open(place.path()).is_err());
    for file in place.files() {
        fs::rename(&file, format!("{}.bad", file.display())).unwrap();
    }
    until(&mut bench, |bench| bench.handler().waiting_bytes() == 0);
    bench.handle(batch(vec![opened(3, "/c")], &host())).unwrap();
    bench.end().unwrap();
    assert!(bench.adds_up());
    assert!(place.number("SELECT count(*) FROM events WHERE pid = 3") == 1);
    place.assert_whole();
}

#[test]
fn deleted_database_is_created_again() {
    let place = Place::new();
    let mut bench = place.bench();
    bench.handle(batch(vec![opened(1, "/a")], &host())).unwrap();
    tick(&mut bench);
    for file in place.files() {
        fs::remove_file(file).unwrap();
    }
    bench.handle(batch(vec![opened(2, "/b")], &host())).unwrap();
    until_delivered(&mut bench, 2);
    assert_eq!(place.number("SELECT count(*) FROM events WHERE pid = 2"), 1);
    place.assert_whole();
}

#[test]
fn handler_survives_a_missing_table() {
    let place = Place::new();
    let mut bench = place.bench();
    place.other().execute_batch("ALTER TABLE bodies RENAME TO gone").unwrap();
    bench.handle(batch(vec![opened(1, "/a")], &host())).unwrap();
    tick(&mut bench);
    assert_eq!(delivered(&bench), 0);
    place.other().execute_batch("ALTER TABLE gone RENAME TO bodies").unwrap();
    until_delivered(&mut bench, 1);
}

#[test]
fn file_that_is_not_a_history_is_refused_with_a_fix() {
    let place = Place::new();
    fs::write(place.path(), "not a database at all, but long enough to look at".repeat(100))
        .unwrap();
    let refusal = place.refusal();
    assert!(refusal.contains("file is not a database: name another file"), "{refusal}");

    let place = Place::new();
    place.other().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let refusal = place.refusal();
    assert!(refusal.contains("not a history of Whalewatch: name another file"), "{refusal}");
    assert_eq!(place.number("SELECT count(*) FROM sqlite_schema"), 1, "it must stay unchanged");

    let mut place = Place::new();
    place.options.path = place.dir.path().to_owned();
    let refusal = place.refusal();
    assert!(refusal.contains("unable to open database file"), "{refusal}");
    assert!(refusal.ends_with("this user may write to the file and its folder"), "{refusal}");

    let mut place = Place::new();
    fs::write(place.path(), "").unwrap();
    place.options.path = place.path().join("history.db");
    let refusal = place.refusal();
    assert!(refusal.contains("cannot create") && refusal.contains("another path"), "{refusal}");
}

#[test]
fn history_of_a_newer_layout_is_refused() {
    let place = Place::new();
    drop(place.bench());
    place.other().execute_batch("PRAGMA user_version = 2").unwrap();
    let refusal = place.refusal();
    assert!(refusal.contains("layout 2, this version knows 1"), "{refusal}");
    let error = History::open(place.path()).unwrap_err().to_string();
    assert!(error.contains("written by a newer Whalewatch"), "{error}");
}

#[test]
fn start_waits_for_a_locked_history() {
    let place = Place::new();
    let mut other = place.other();
    let lock = other.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    let mut bench = place.bench();
    bench.handle(batch(vec![opened(1, "/a")], &host())).unwrap();
    tick(&mut bench);
    assert_eq!(delivered(&bench), 0);
    drop(lock);
    until_delivered(&mut bench, 1);
}
