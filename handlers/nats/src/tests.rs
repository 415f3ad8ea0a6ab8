//! Tests of the log, and of the handler without a server.

use std::net::TcpListener;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use whalewatch_core::{Batch, HumanDuration};
use whalewatch_testing::{Bench, Ran, example};

use crate::log::{Log, Next};
use crate::record;
use crate::{Nats, NatsOptions, SpoolOptions, WhenFull, spool};

fn number(record: &record::Record) -> u64 {
    let id = str::from_utf8(&record.id).expect("text");
    id.rsplit('-').next().expect("a number").parse().expect("a number")
}

fn read_all(log: &mut Log) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(next) = log.read() {
        match next {
            Next::Record(_, record) => found.push(number(&record)),
            Next::Damage(from, to) => panic!("damage from {from} to {to}"),
        }
    }
    found
}

fn list(numbers: Range<u64>) -> Vec<u64> {
    numbers.collect()
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Read(u8),
    Settle(u8),
    Rewind,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..20_u8).prop_map(Step::Append),
        3 => (1..40_u8).prop_map(Step::Read),
        2 => (1..40_u8).prop_map(Step::Settle),
        1 => Just(Step::Rewind),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Records are read in order, and unsettled ones again after a rewind, for any sequence of
    /// steps and any size of the memory.
    #[test]
    fn log_keeps_the_order_between_memory_and_spool(memory in 0..20_000_usize, steps in steps()) {
        let dir = tempfile::tempdir().expect("a folder");
        let opened = spool::open(dir.path(), 1 << 30).expect("a spool");
        let mut log = Log::new(memory, Some(opened.spool), opened.settled, WhenFull::DropNewest);
        let (mut appended, mut read, mut settled) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Append(count) => {
                    let mut bytes = Vec::new();
                    for _ in 0..count {
                        bytes.extend(record::example(appended, 300));
                        appended += 1;
                    }
                    let result = log.append(Bytes::from(bytes), u64::from(count));
                    prop_assert_eq!(result.refused, 0);
                }
                Step::Read(count) => for _ in 0..count {
                    match log.read() {
                        Some(Next::Record(place, record)) => {
                            prop_assert_eq!((place, number(&record)), (read, read));
                            read += 1;
                        }
                        other => {
                            prop_assert_eq!(other, None);
                            prop_assert_eq!(read, appended);
                            break;
                        }
                    }
                },
                Step::Settle(count) => {
                    settled = (settled + u64::from(count)).min(read);
                    log.settle(settled);
                }
                Step::Rewind => {
                    prop_assert_eq!(log.rewind(), None);
                    read = settled;
                }
            }
            let places = (log.settled(), log.next_place(), log.end());
            prop_assert_eq!(places, (settled, read, appended));
        }
        prop_assert_eq!(read_all(&mut log), list(read..appended));
    }
}

/// Appends 3 MiB of records to a log with a spool of 1 MiB, and reads the first ten meanwhile.
/// Returns the other records, and how many were refused and given up.
fn overfilled(when_full: WhenFull) -> (Vec<u64>, u64, u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let opened = spool::open(dir.path(), 1 << 20).expect("a spool");
    let mut log = Log::new(1 << 20, Some(opened.spool), opened.settled, when_full);
    let (mut refused, mut given_up) = (0, 0);
    for number in 0..3000 {
        let appended = log.append(Bytes::from(record::example(number, 1000)), 1);
        assert!(appended.error.is_none());
        refused += appended.refused;
        given_up += appended.given_up.map_or(0, |(from, to)| to - from);
        if number == 100 {
            for _ in 0..10 {
                log.read().expect("a record");
            }
        }
    }
    (read_all(&mut log), refused, given_up)
}

#[test]
fn a_full_spool_drops_and_counts_by_when_full() {
    let (left, refused, given_up) = overfilled(WhenFull::DropNewest);
    assert_eq!(left, list(10..3000 - refused));
    assert_eq!(given_up, 0);
    let (left, refused, given_up) = overfilled(WhenFull::DropOldest);
    assert_eq!(left, list(10 + given_up..3000));
    assert_eq!(refused, 0);
}

/// Returns an address where no server listens.
fn unreachable_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("nats://{}", listener.local_addr().expect("an address"))
}

fn options() -> NatsOptions {
    NatsOptions {
        servers: vec![unreachable_address()],
        stop_timeout: HumanDuration(Duration::from_millis(200)),
        ..NatsOptions::default()
    }
}

fn spooled(dir: &tempfile::TempDir) -> NatsOptions {
    let spool = serde_json::from_str::<SpoolOptions>("{\"dir\":\"x\"}").expect("options");
    NatsOptions {
        spool: Some(SpoolOptions { dir: dir.path().join("spool"), ..spool }),
        ..options()
    }
}

fn batch(count: usize) -> Batch {
    Batch::new("procs".into(), vec![example(); count])
}

#[test]
fn the_spool_keeps_events_for_the_next_run_without_a_server() {
    let dir = tempfile::tempdir().expect("a folder");
    for runs in 1..=3 {
        let mut bench = Bench::<Nats>::new::<Ran>(&spooled(&dir)).expect("a handler");
        for _ in 0..10 {
            bench.handle(batch(100)).expect("no failure");
        }
        bench.end().expect("no failure");
        assert_eq!(bench.count(|c| &c.output), 1000);
        assert!(bench.adds_up());
        drop(bench);
        let opened = spool::open(&dir.path().join("spool"), 1 << 30).expect("a spool");
        let mut log = Log::new(0, Some(opened.spool), opened.settled, WhenFull::DropOldest);
        let mut ids = Vec::new();
        while let Some(Next::Record(_, record)) = log.read() {
            ids.push(record.id);
        }
        assert_eq!(ids.len(), 1000 * runs);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1000 * runs, "ids are unique");
    }
}

#[test]
fn events_are_dropped_and_counted_without_server_and_spool() {
    let mut bench = Bench::<Nats>::new::<Ran>(&options()).expect("a handler");
    bench.handle(batch(1000)).expect("no failure");
    bench.end().expect("no failure");
    assert_eq!(bench.count(|c| &c.dropped), 1000);
    assert!(bench.adds_up());
}

#[test]
fn an_unreachable_server_blocks_the_chain_for_a_bounded_time() {
    let options = NatsOptions { buffer: whalewatch_core::HumanSize(1 << 20), ..options() };
    let mut bench = Bench::<Nats>::new::<Ran>(&options).expect("a handler");
    let begin = Instant::now();
    for _ in 0..100 {
        bench.handle(batch(1000)).expect("no failure");
    }
    assert!(begin.elapsed() < crate::PATIENCE + Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(
        bench.count(|c| &c.dropped) > 90_000,
        "more events fit into memory than the buffer allows"
    );
    bench.end().expect("no failure");
    assert_eq!(bench.count(|c| &c.dropped), 100_000);
    assert!(bench.adds_up());
}

#[test]
fn build_reports_what_cannot_be_used() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = Bench::<Nats>::new::<Ran>(&spooled(&dir)).expect("a handler");
    let refusal = |options: &NatsOptions| match Bench::<Nats>::new::<Ran>(options) {
        Ok(_) => panic!("the handler was built"),
        Err(problems) => problems[0].message.clone(),
    };
    assert!(refusal(&spooled(&dir)).contains("in use"), "{}", refusal(&spooled(&dir)));
    drop(first);
    Bench::<Nats>::new::<Ran>(&spooled(&dir)).expect("a handler: the spool is free again");
    let missing: NatsOptions =
        serde_json::from_str(r#"{"auth":{"token_file":"/nonexistent/token"}}"#).expect("options");
    assert!(refusal(&missing).contains("/nonexistent/token"));
    let unknown: NatsOptions = serde_json::from_str(r#"{"subject":"a.{kid}"}"#).expect("options");
    assert!(refusal(&unknown).contains("kid"));
}

#[test]
fn records_have_the_subject_id_and_json_of_their_event() {
    let template =
        whalewatch_kit::Template::parse("subject", "w.{host.name}.{container.name|-}.{kind}");
    let template = template.expect("a template");
    let mut encoder = crate::encode::Encoder::new(template, "node.1".into(), 0xabc);
    let mut taken = Vec::new();
    let give = |bytes: Bytes, count| {
        taken.push((bytes, count));
        Ok::<(), ()>(())
    };
    encoder.encode(&batch(500), give).expect("no failure");
    assert_eq!(taken.iter().map(|(_, count)| count).sum::<u64>(), 500);
    assert!(taken.len() > 1 && taken.iter().all(|(bytes, _)| bytes.len() < 70_000));
    let mut expected = 1;
    for (bytes, count) in &taken {
        assert_eq!(record::scan(bytes), (*count, bytes.len()));
        let mut at = 0;
        while let Some((record, next)) = record::take(bytes, at) {
            assert_eq!(record.id, format!("node%2E1-abc-{expected}"));
            assert_eq!(&record.subject[..], b"w.node%2E1.-.process.exec");
            let json: serde_json::Value = serde_json::from_slice(&record.payload).expect("JSON");
            assert_eq!(json["host"]["name"], "node.1");
            assert!(record.payload.ends_with(b"}"));
            (at, expected) = (next, expected + 1);
        }
    }
    assert_eq!(expected, 501);
}
