//! Retention, and the size of the files on disk.

use rusqlite::TransactionBehavior;
use whalewatch_core::{HumanDuration, Status};
use whalewatch_testing::named;

use super::*;
use whalewatch_core::HumanSize;

const HOUR: u64 = 3_600_000_000_000;

fn aged(hours: u64, pid: u32) -> Did {
    let event = opened(pid, "/var/lib/some/file/of/middling/length");
    let time = event.time().as_nanos() - hours * HOUR;
    event.at(time)
}

#[test]
fn events_older_than_keep_are_deleted() {
    let mut place = Place::new();
    place.options.keep = HumanDuration(Duration::from_hours(2));
    let mut bench = place.bench();
    bench.handle(batch(vec![aged(3, 1); 3000], &host())).unwrap();
    bench.handle(batch(vec![aged(1, 2); 3000], &host())).unwrap();
    tick(&mut bench);
    until(&mut bench, |_| place.number("SELECT count(*) FROM events WHERE pid = 1") == 0);
    assert_eq!(place.number("SELECT count(*) FROM events"), 3000);
    assert_eq!(delivered(&bench), 6000);
    place.assert_whole();
}

#[test]
fn without_limits_nothing_is_deleted() {
    let mut place = Place::new();
    (place.options.keep, place.options.max_size) = (HumanDuration(Duration::ZERO), HumanSize(0));
    let mut bench = place.bench();
    bench.handle(batch(vec![aged(100_000, 1); 3000], &host())).unwrap();
    bench.end().unwrap();
    assert_eq!(place.number("SELECT count(*) FROM events"), 3000);
}

#[test]
fn space_of_deleted_events_is_returned() {
    let mut place = Place::new();
    place.options.keep = HumanDuration(Duration::ZERO);
    let mut bench = place.bench();
    for _ in 0..20 {
        bench.handle(batch(vec![aged(3, 1); 1000], &host())).unwrap();
    }
    bench.end().unwrap();
    let full = place.size();
    place.options.keep = HumanDuration(Duration::from_hours(2));
    let mut bench = place.bench();
    let pages = "SELECT count(*) FROM events";
    until(&mut bench, |_| place.number(pages) == 0);
    until(&mut bench, |_| place.number("PRAGMA page_count") < 600);
    bench.end().unwrap();
    assert!(place.size() < full / 4, "{} of {full}", place.size());
    place.assert_whole();
}

/// Writes far more than fits and checks the size of the files after each step. Returns the last
/// pid.
fn overfill(place: &Place, bench: &mut Bench<Sqlite>, rounds: u32) {
    let containers: Vec<_> =
        (0..50).map(|i| named(&format!("id{i}"), &format!("c{i}"), "i", Status::Running)).collect();
    for round in 0..rounds {
        let events = batch((0..200).map(|i| aged(0, round * 200 + i)).collect(), &host());
        let turns = containers.iter().map(inside).cycle();
        bench.handle(events.with_attributions(turns)).unwrap();
        if round % 4 == 0 {
            tick(bench);
        }
        assert!(place.size() <= place.options.max_size.0, "{} bytes", place.size());
    }
}

#[test]
fn files_stay_within_max_size_and_newest_events_stay() {
    let mut place = Place::new();
    place.options.max_size = HumanSize(8 << 20);
    let mut bench = place.bench();
    overfill(&place, &mut bench, 300);
    bench.end().unwrap();
    assert!(place.size() <= 8 << 20);
    assert_eq!((delivered(&bench), dropped(&bench)), (60_000, 0));
    let kept = place.number("SELECT count(*) FROM events");
    assert!((4_000..59_000).contains(&kept), "{kept}");
    assert_eq!(place.number("SELECT max(pid) FROM events"), 59_999);
    assert_eq!(
        place.number("SELECT min(pid) FROM events"),
        60_000 - kept,
        "the oldest are deleted"
    );
    assert!(place.size() > 5 << 20, "space is unused: {}", place.size());
    place.assert_whole();
}

#[test]
fn reader_that_blocks_the_log_cannot_exceed_max_size() {
    let mut place = Place::new();
    (place.options.max_size, place.options.buffer) = (HumanSize(8 << 20), HumanSize(1 << 20));
    let mut bench = place.bench();
    overfill(&place, &mut bench, 60);
    let mut other = place.other();
    let reading = other.transaction_with_behavior(TransactionBehavior::Deferred).unwrap();
    let count: i64 = reading.query_row("SELECT count(*) FROM events", (), |r| r.get(0)).unwrap();
    assert!(count > 0);
    overfill(&place, &mut bench, 200);
    assert!(dropped(&bench) > 0, "events without room are dropped");
    drop(reading);
    until(&mut bench, |bench| bench.handler().waiting_bytes() == 0);
    overfill(&place, &mut bench, 20);
    bench.end().unwrap();
    assert!(bench.adds_up());
    place.assert_whole();
}

#[test]
fn file_shrinks_to_a_smaller_max_size_while_written() {
    let mut place = Place::new();
    place.options.max_size = HumanSize(0);
    let mut bench = place.bench();
    for _ in 0..30 {
        bench.handle(batch((0..1000).map(|pid| aged(1, pid)).collect(), &host())).unwrap();
    }
    bench.end().unwrap();
    assert!(place.size() > 12 << 20, "{}", place.size());
    place.options.max_size = HumanSize(6 << 20);
    let mut bench = place.bench();
    let mut given = 0;
    // Events are accepted meanwhile: the file shrinks although it is written to, until the log has
    // its share again.
    while fs::metadata(place.path()).unwrap().len() > (6 << 20) / 4 * 3 {
        bench.handle(batch(vec![aged(0, 1)], &host())).unwrap();
        given += 1;
        tick(&mut bench);
        assert!(given < 5000, "{}", place.size());
    }
    for _ in 0..20 {
        bench.handle(batch((0..100).map(|pid| aged(0, pid)).collect(), &host())).unwrap();
        given += 100;
        assert!(place.size() <= 6 << 20, "{}", place.size());
    }
    until_delivered(&mut bench, given);
    bench.end().unwrap();
    place.assert_whole();
}

#[test]
fn event_larger_than_the_limit_is_dropped_alone() {
    let mut place = Place::new();
    place.options.max_size = HumanSize(4 << 20);
    let mut bench = place.bench();
    let huge = opened(1, &"x".repeat(5 << 20));
    bench.handle(batch(vec![opened(1, "/a")], &host())).unwrap();
    tick(&mut bench);
    bench.handle(batch(vec![huge], &host())).unwrap();
    tick(&mut bench);
    bench.handle(batch(vec![opened(2, "/b")], &host())).unwrap();
    bench.end().unwrap();
    assert_eq!((delivered(&bench), dropped(&bench)), (2, 1));
    assert_eq!(place.number("SELECT count(*) FROM events WHERE pid = 2"), 1);
}

#[test]
fn containers_without_events_are_deleted() {
    let mut place = Place::new();
    place.options.keep = HumanDuration(Duration::from_hours(2));
    let mut bench = place.bench();
    let old: Vec<_> =
        (0..700).map(|i| named(&format!("old{i}"), "old", "i", Status::Running)).collect();
    let kept = named("kept", "kept", "i", Status::Running);
    let events = batch(vec![aged(3, 1); 14_000], &host());
    bench.handle(events.with_attributions(old.iter().map(inside).cycle())).unwrap();
    bench.handle(batch(vec![aged(1, 2)], &inside(&kept))).unwrap();
    tick(&mut bench);
    // Unused containers are looked for after every thousand deleted events.
    until(&mut bench, |_| place.number("SELECT count(*) FROM events") == 1);
    bench.handle(batch(vec![aged(3, 1); 2_000], &host())).unwrap();
    until(&mut bench, |_| place.number("SELECT count(*) FROM containers") == 1);
    // A deleted container returns with its name.
    bench.handle(batch(vec![aged(0, 3)], &inside(&old[5]))).unwrap();
    bench.end().unwrap();
    assert_eq!(place.number("SELECT count(*) FROM history WHERE container = 'old'"), 1);
    place.assert_whole();
}
