//! Tests of the handler against receivers with scripted answers.

use std::time::{Duration, Instant};

use whalewatch_core::{Batch, HumanDuration};
use whalewatch_net::Secret;
use whalewatch_testing::{Answer, Bench, Ran, Server, example};

use crate::{Webhook, WebhookOptions};

const LONG: Duration = Duration::from_secs(30);

/// Returns options with short pauses and without a rate limit.
fn options(url: &str) -> WebhookOptions {
    WebhookOptions {
        retry_pause: HumanDuration(Duration::from_millis(5)),
        retry_pause_max: HumanDuration(Duration::from_millis(20)),
        stop_timeout: HumanDuration(LONG),
        max_per_second: 0,
        ..WebhookOptions::to(url)
    }
}

fn bench(options: &WebhookOptions) -> Bench<Webhook> {
    Bench::new::<Ran>(options).expect("valid options")
}

fn events(count: u32) -> Batch {
    let event = |pid| {
        let mut event = example();
        event.process.pid = pid;
        event
    };
    Batch::new("procs".into(), (1..=count).map(event).collect())
}

/// Handles `count` events and ends; returns the numbers of delivered and dropped events.
fn all(options: &WebhookOptions, count: u32) -> (u64, u64) {
    let mut bench = bench(options);
    bench.handle(events(count)).expect("no failure");
    bench.end().expect("no failure");
    assert!(bench.adds_up());
    (bench.count(|c| &c.output), bench.count(|c| &c.dropped))
}

/// Starts a receiver that gives these answers in turn, and then repeats the last one.
fn server(answers: Vec<Answer>) -> Server {
    let mut turn = 0;
    Server::start(move |_| {
        turn += 1;
        answers[turn.min(answers.len()) - 1].clone()
    })
}

#[test]
fn each_event_is_sent_in_order() {
    let mut server = server(vec![Answer::status(204)]);
    let authorization = ("Authorization".to_owned(), Secret::Plain("Bearer t".into()));
    let options = WebhookOptions {
        body: Some(r#"{{"pid":{process.pid}}}"#.into()),
        headers: [authorization].into(),
        ..options(&server.url("/hook?a=b"))
    };
    assert_eq!(all(&options, 5), (5, 0));
    let got = server.received();
    let bodies: Vec<_> = got.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    assert_eq!(bodies, (1..=5).map(|i| format!("{{\"pid\":{i}}}")).collect::<Vec<_>>());
    for request in got {
        assert_eq!((&*request.method, &*request.path), ("POST", "/hook?a=b"));
        assert_eq!(request.header("authorization"), Some("Bearer t"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(request.header("user-agent").is_some_and(|agent| agent.starts_with("whalewatch/")));
    }
}

#[test]
fn temporary_failures_are_retried_and_given_up_after_the_last_try() {
    let mut passes = server(vec![
        Answer::status(500),
        Answer::Close,
        Answer::status(429),
        Answer::status(408),
        Answer::status(200),
    ]);
    assert_eq!(all(&options(&passes.url("/")), 1), (1, 0));
    assert_eq!(passes.received().len(), 5);
    let mut stays = server(vec![Answer::status(503)]);
    assert_eq!(all(&WebhookOptions { tries: 3, ..options(&stays.url("/")) }, 2), (0, 2));
    assert_eq!(stays.received().len(), 6);
}

#[test]
fn rejected_requests_are_not_retried() {
    for status in [400, 401, 404, 301] {
        let mut server = server(vec![Answer::status(status), Answer::status(200)]);
        assert_eq!(all(&options(&server.url("/")), 2), (1, 1), "{status}");
        assert_eq!(server.received().len(), 2);
    }
}

#[test]
fn retry_after_of_the_receiver_is_respected() {
    let later = Answer::Reply {
        status: 503,
        headers: vec![("Retry-After", "1".to_owned())],
        body: Vec::new(),
    };
    let server = server(vec![later, Answer::status(200)]);
    let begin = Instant::now();
    assert_eq!(all(&options(&server.url("/")), 1), (1, 0));
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[test]
fn hanging_request_is_retried_after_the_timeout() {
    let server = server(vec![Answer::Hang, Answer::status(200)]);
    let timeout = HumanDuration(Duration::from_millis(100));
    assert_eq!(all(&WebhookOptions { timeout, ..options(&server.url("/")) }, 2), (2, 0));
}

#[test]
fn requests_are_limited_to_max_per_second() {
    let server = server(vec![Answer::status(200)]);
    let begin = Instant::now();
    assert_eq!(
        all(&WebhookOptions { max_per_second: 50, ..options(&server.url("/")) }, 11),
        (11, 0)
    );
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
}

#[test]
fn full_queue_drops_events_without_blocking_the_chain() {
    let server = server(vec![Answer::Hang]);
    let stop_timeout = HumanDuration(Duration::ZERO);
    let options = WebhookOptions { max_queued: 10, stop_timeout, ..options(&server.url("/")) };
    let mut bench = bench(&options);
    let begin = Instant::now();
    for _ in 0..100 {
        bench.handle(events(10)).expect("no failure");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(bench.count(|c| &c.dropped), 990);
    bench.end().expect("no failure");
    assert_eq!((bench.count(|c| &c.output), bench.count(|c| &c.dropped)), (0, 1000));
    assert!(bench.adds_up());
}

#[test]
fn answers_are_counted_when_they_arrive() {
    let server = server(vec![Answer::status(200)]);
    let mut bench = bench(&options(&server.url("/")));
    bench.handle(events(1)).expect("no failure");
    assert!(bench.receive(LONG).expect("no failure"), "an answer");
    assert_eq!(bench.count(|c| &c.output), 1);
}

#[test]
fn missing_secret_is_an_error_at_the_start() {
    let json = r#"{"url":"http://x","headers":{"a":{"env":"WHALEWATCH_NO_SUCH_VARIABLE"}}}"#;
    let options: WebhookOptions = serde_json::from_str(json).expect("options");
    let problems = Bench::<Webhook>::new::<Ran>(&options).err().expect("a problem");
    assert!(problems[0].message.contains("WHALEWATCH_NO_SUCH_VARIABLE"), "{problems:?}");
}
