//! The handler against receivers that do as a test says, over both protocols.

mod receiver;
mod records;

use std::time::{Duration, Instant};

use prost::Message as _;
use whalewatch_core::{Batch, HumanDuration};
use whalewatch_kit::testing::{Bench, Ran, example};

use crate::answer::{PartialSuccess, Response};
use crate::options::{Compression, OtlpOptions, Protocol};
use crate::{Message, Otlp};
use receiver::{Reaction, Receiver};

const LONG: Duration = Duration::from_secs(30);

/// For a receiver on this machine, with pauses that are short.
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

/// Brings so many events and the end; gives (delivered, dropped).
fn all(options: &OtlpOptions, count: usize) -> (u64, u64) {
    let mut bench = bench(options);
    bench.handle(events(count)).expect("no failure");
    bench.end().expect("no failure");
    assert!(bench.adds_up());
    (bench.count(|c| &c.output), bench.count(|c| &c.dropped))
}

fn on_both(test: impl Fn(Protocol)) {
    test(Protocol::Grpc);
    test(Protocol::Http);
}

#[test]
fn all_that_is_accepted_is_delivered() {
    on_both(|protocol| {
        for compression in [Compression::None, Compression::Gzip] {
            let receiver = Receiver::start(protocol, |_| Reaction::Accept);
            let options = OtlpOptions { compression, ..options(&receiver) };
            assert_eq!(all(&options, 25), (25, 0), "{protocol:?} {compression:?}");
            let sizes: Vec<_> = receiver.requests().iter().map(receiver::records).collect();
            assert_eq!(sizes, [10, 10, 5]);
        }
    });
}

#[test]
fn headers_go_with_each_request() {
    on_both(|protocol| {
        let receiver = Receiver::start(protocol, |_| Reaction::Accept);
        let token = whalewatch_kit::net::Secret::Plain("Bearer t".into());
        let headers = [("Authorization".to_owned(), token)].into();
        assert_eq!(all(&OtlpOptions { headers, ..options(&receiver) }, 1), (1, 0));
        assert_eq!(receiver.header("authorization").as_deref(), Some("Bearer t"));
        let agent = receiver.header("user-agent").unwrap_or_default();
        assert!(agent.starts_with("OTel-OTLP-Exporter-Whalewatch/"), "{agent}");
    });
}

#[test]
fn what_the_receiver_cannot_take_now_is_sent_again_when_it_says() {
    on_both(|protocol| {
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
        assert_eq!(all(&options(&receiver), 5), (5, 0), "{protocol:?}");
        assert!(begin.elapsed() >= pause, "{:?}", begin.elapsed());
        assert_eq!(receiver.requests().len(), 3);
    });
}

#[test]
fn what_is_refused_is_dropped_and_not_sent_again() {
    on_both(|protocol| {
        let mut first = true;
        let receiver = Receiver::start(protocol, move |_| {
            if std::mem::take(&mut first) { Reaction::Refuse } else { Reaction::Accept }
        });
        assert_eq!(all(&options(&receiver), 15), (5, 10), "{protocol:?}");
        assert_eq!(receiver.requests().len(), 2);
    });
}

#[test]
fn what_is_refused_of_a_request_is_dropped_and_the_rest_delivered() {
    on_both(|protocol| {
        for (rejected, want) in [(3, (7, 3)), (0, (10, 0)), (99, (0, 10)), (-1, (10, 0))] {
            let receiver = Receiver::start(protocol, move |_| {
                let error_message = "too old".to_owned();
                let partial = PartialSuccess { rejected_log_records: rejected, error_message };
                Reaction::Partly(Response { partial_success: Some(partial) }.encode_to_vec())
            });
            assert_eq!(all(&options(&receiver), 10), want, "{protocol:?} {rejected}");
        }
    });
}

#[test]
fn a_receiver_that_hangs_is_asked_again_over_another_connection() {
    on_both(|protocol| {
        let mut first = true;
        let receiver = Receiver::start(protocol, move |_| {
            if std::mem::take(&mut first) { Reaction::Hang } else { Reaction::Accept }
        });
        let timeout = HumanDuration(Duration::from_millis(200));
        assert_eq!(all(&OtlpOptions { timeout, ..options(&receiver) }, 5), (5, 0), "{protocol:?}");
    });
}

#[test]
fn what_is_not_taken_in_time_is_given_up_and_the_next_goes_on() {
    on_both(|protocol| {
        let receiver = Receiver::start(protocol, |_| Reaction::Later(None));
        let give_up = HumanDuration(Duration::from_millis(50));
        assert_eq!(all(&OtlpOptions { give_up, ..options(&receiver) }, 20), (0, 20));
    });
}

#[test]
fn without_a_receiver_the_end_comes_in_time() {
    on_both(|protocol| {
        let receiver = Receiver::start(protocol, |_| Reaction::Accept);
        let options = OtlpOptions {
            stop_timeout: HumanDuration(Duration::from_millis(100)),
            ..options(&receiver)
        };
        drop(receiver);
        let begin = Instant::now();
        assert_eq!(all(&options, 30), (0, 30), "{protocol:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    });
}

#[test]
fn what_finds_no_room_is_dropped_and_counted_and_the_chain_goes_on() {
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
fn a_few_events_wait_for_more_but_not_longer_than_the_interval() {
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
    // A timer of a request that went out full in the meantime sends nothing.
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
fn large_events_go_in_requests_that_receivers_take() {
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
