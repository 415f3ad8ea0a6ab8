//! Tests of the handler with scripted receivers, over both protocols.

mod receiver;
mod records;

use std::time::{Duration, Instant};

use prost::Message as _;
use whalewatch_core::{Batch, HumanDuration};
use whalewatch_testing::{Bench, Ran, example};

use crate::answer::{PartialSuccess, Response};
use crate::options::{Compression, OtlpOptions, Protocol};
use crate::{Message, Otlp};
use receiver::{Reaction, Receiver};

const LONG: Duration = Duration::from_secs(30);

/// Returns options for `receiver`, with short pauses.
fn options(receiver: &Receiver) -> OtlpOptions {
    OtlpOptions {
        protocol: receiver.protocol,
        endpoint: Some(receiver.endpoint()),
        batch: 10,
        max_queued: 100,
        retry_pause: HumanDuration(Duration::from_millis(5)),
        retry_pause_max: HumanDuration(Duration::from_millis(20)),
        stop_timeout: HumanDuration(LONG),
        ..OtlpOptions::default()
    }
}

fn bench(options: &OtlpOptions) -> Bench<Otlp> {
    Bench::new::<Ran>(options).expect("good options")
}

fn events(count: usize) -> Batch {
    Batch::new("procs".into(), vec![example(); count])
}

/// Handles `count` events and ends the handler. Returns how many were delivered and dropped.
fn run(options: &OtlpOptions, count: usize) -> (u64, u64) {
    let mut bench = bench(options);
    bench.handle(events(count)).expect("no failure");
    bench.end().expect("no failure");
    assert!(bench.adds_up());
    (bench.count(|c| &c.output), bench.count(|c| &c.dropped))
}

/// Runs a test over gRPC and over HTTP.
fn over_both(test: impl Fn(Protocol)) {
    test(Protocol::Grpc);
    test(Protocol::Http);
}

#[test]
fn accepted_events_are_delivered() {
    over_both(|protocol| {
        for compression in [Compression::None, Compression::Gzip] {
            let receiver = Receiver::start(protocol, |_| Reaction::Accept);
            let options = OtlpOptions { compression, ..options(&receiver) };
            assert_eq!(run(&options, 25), (25, 0), "{protocol:?} {compression:?}");
            let sizes: Vec<_> = receiver.requests().iter().map(receiver::records).collect();
            assert_eq!(sizes, [10, 10, 5]);
        }
    });
}

#[test]
fn headers_are_sent_with_each_request() {
    over_both(|protocol| {
        let receiver = Receiver::start(protocol, |_| Reaction::Accept);
        let token = whalewatch_net::Secret::Plain("Bearer t".into());
        let headers = [("Authorization".to_owned(), token)].into();
        assert_eq!(run(&OtlpOptions { headers, ..options(&receiver) }, 1), (1, 0));
        assert_eq!(receiver.header("authorization").as_deref(), Some("Bearer t"));
        let agent = receiver.header("user-agent").unwrap_or_default();
        assert!(agent.starts_with("OTel-OTLP-Exporter-Whalewatch/"), "{agent}");
    });
}

#[test]
fn a_busy_receiver_is_retried_after_the_pause_it_requests() {
    over_both(|protocol| {
        let pause = Duration::from_secs(1);
        let mut turn = 0;
        let receiver = Receiver::start(protocol, move |_| {
            turn += 1;
            match turn {
                1 => Reaction::Later(None),
                2 => Reaction::Later(Some(pause)),
                _ => Reaction::Accept,
            }
        });
        let begin = Instant::now();
        assert_eq!(run(&options(&receiver), 5), (5, 0), "{protocol:?}");
        assert!(begin.elapsed() >= pause, "{:?}", begin.elapsed());
        assert_eq!(receiver.requests().len(), 3);
    });
}

#[test]
fn refused_events_are_dropped_and_not_sent_again() {
    over_both(|protocol| {
        let mut first = true;
        let receiver = Receiver::start(protocol, move |_| {
            if std::mem::take(&mut first) { Reaction::Refuse } else { Reaction::Accept }
        });
        assert_eq!(run(&options(&receiver), 15), (5, 10), "{protocol:?}");
        assert_eq!(receiver.requests().len(), 2);
    });
}

#[test]
fn rejected_records_are_dropped_and_the_others_delivered() {
    over_both(|protocol| {
        for (rejected, want) in [(3, (7, 3)), (0, (10, 0)), (99, (0, 10)), (-1, (10, 0))] {
            let receiver = Receiver::start(protocol, move |_| {
                let error_message = "too old".to_owned();
                let partial = PartialSuccess { rejected_log_records: rejected, error_message };
                Reaction::Partly(Response { partial_success: Some(partial) }.encode_to_vec())
            });
            assert_eq!(run(&options(&receiver), 10), want, "{protocol:?} {rejected}");
        }
    });
}

#[test]
fn a_hanging_receiver_is_retried_over_a_new_connection() {
    over_both(|protocol| {
        let mut first = true;
        let receiver = Receiver::start(protocol, move |_| {
            if std::mem::take(&mut first) { Reaction::Hang } else { Reaction::Accept }
        });
        let timeout = HumanDuration(Duration::from_millis(200));
        assert_eq!(run(&OtlpOptions { timeout, ..options(&receiver) }, 5), (5, 0), "{protocol:?}");
    });
}

#[test]
fn a_request_is_given_up_in_time_and_the_next_is_tried() {
    over_both(|protocol| {
        let receiver = Receiver::start(protocol, |_| Reaction::Later(None));
        let give_up = HumanDuration(Duration::from_millis(50));
        assert_eq!(run(&OtlpOptions { give_up, ..options(&receiver) }, 20), (0, 20));
    });
}

#[test]
fn the_handler_ends_in_time_without_a_receiver() {
    over_both(|protocol| {
        let receiver = Receiver::start(protocol, |_| Reaction::Accept);
        let options = OtlpOptions {
            stop_timeout: HumanDuration(Duration::from_millis(100)),
            ..options(&receiver)
        };
        drop(receiver);
        let begin = Instant::now();
        assert_eq!(run(&options, 30), (0, 30), "{protocol:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    });
}

#[test]
fn events_are_dropped_and_counted_when_the_queue_is_full() {
    let receiver = Receiver::start(Protocol::Grpc, |_| Reaction::Hang);
    let stop_timeout = HumanDuration(Duration::ZERO);
    let mut bench = bench(&OtlpOptions { max_queued: 20, stop_timeout, ..options(&receiver) });
    bench.handle(events(45)).expect("no failure");
    assert_eq!(bench.count(|c| &c.dropped), 20);
    bench.end().expect("no failure");
    assert_eq!((bench.count(|c| &c.output), bench.count(|c| &c.dropped)), (0, 45));
    assert!(bench.adds_up());
}

#[test]
fn a_few_events_are_sent_after_the_interval() {
    let receiver = Receiver::start(Protocol::Grpc, |_| Reaction::Accept);
    let options = options(&receiver);
    let mut bench = bench(&options);
    bench.handle(events(3)).expect("no failure");
    bench.flush().expect("no failure");
    bench.advance(options.interval.0 / 2).expect("no failure");
    bench.handle(events(2)).expect("no failure");
    assert_eq!(receiver.requests().len(), 0);
    bench.advance(options.interval.0 / 2).expect("no failure");
    assert!(bench.receive(LONG).expect("no failure"), "an answer");
    assert_eq!(bench.count(|c| &c.output), 5);
    // The timer of a request that was sent before, because it was full, sends nothing.
    bench.handle(events(1)).expect("no failure");
    bench.handle(events(9)).expect("no failure");
    assert!(bench.receive(LONG).expect("no failure"), "an answer");
    bench.handle(events(1)).expect("no failure");
    bench.message(Message::Due(1)).expect("no failure");
    bench.end().expect("no failure");
    let sizes: Vec<_> = receiver.requests().iter().map(receiver::records).collect();
    assert_eq!(sizes, [5, 10, 1]);
    assert!(bench.adds_up());
}

#[test]
fn large_events_are_sent_in_requests_below_4_mib() {
    let receiver = Receiver::start(Protocol::Http, |_| Reaction::Accept);
    let args = Some([vec![b'x'; 100_000], vec![0]].concat());
    let batch = Batch::new("procs".into(), vec![Ran { args, ..example() }; 50]);
    let mut bench = bench(&OtlpOptions { batch: 1000, max_queued: 1000, ..options(&receiver) });
    bench.handle(batch).expect("no failure");
    bench.end().expect("no failure");
    assert_eq!(bench.count(|c| &c.output), 50);
    let sizes: Vec<_> = receiver.requests().iter().map(prost::Message::encoded_len).collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size < 4 * 1024 * 1024), "{sizes:?}");
}
