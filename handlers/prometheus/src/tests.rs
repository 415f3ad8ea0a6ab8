//! Counting, refusing and expiring, and how the page shows it.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use whalewatch_core::{
    Attribution, Event, Evidence, HandlerHealth, Health, HealthReport, HumanDuration, Mailbox,
    Setup, Status, TrackerHealth, Type,
};
use whalewatch_testing::{Bench, Odd, Ran, TestEvent, TestType, bare, example, named};

use super::*;
use crate::page::Contents;
use crate::testing::{Read, read};

/// An event with arbitrary bytes and an arbitrary number.
#[derive(Clone)]
struct AnyType;

impl TestType for AnyType {
    const NAME: &'static str = "free";
    const KINDS: &'static [&'static str] = &["free"];
    const FIELDS: &'static [(&'static str, Type)] = &[("text", Type::Text), ("number", Type::Int)];
}

type Free = TestEvent<AnyType>;

fn free(text: &[u8], number: i64) -> Free {
    TestEvent::of("free").at(1).with("text", text).with("number", number)
}

fn field(name: &str) -> LabelOption {
    LabelOption::Field(name.into())
}

fn counter(name: &str, labels: &[&str]) -> MetricOptions {
    let labels = labels.iter().copied().map(field).collect();
    MetricOptions { name: name.into(), labels, ..MetricOptions::default() }
}

fn histogram(name: &str, value: &str, buckets: &[f64]) -> MetricOptions {
    MetricOptions {
        name: name.into(),
        kind: Kind::Histogram,
        value: Some(value.into()),
        buckets: buckets.into(),
        ..MetricOptions::default()
    }
}

fn options(metrics: Vec<MetricOptions>) -> PrometheusOptions {
    let listen = "127.0.0.1:0".into();
    PrometheusOptions { listen, metrics, ..PrometheusOptions::default() }
}

fn bench<E: Event>(options: &PrometheusOptions) -> Bench<Prometheus> {
    Bench::new::<E>(options).expect("valid options")
}

fn page(bench: &Bench<Prometheus>) -> Read {
    read(&bench.handler().page().expect("page is written"), Format::Text)
}

fn ran(attributions: &[Attribution]) -> Batch {
    let batch = Batch::new("procs".into(), vec![example(); attributions.len()]);
    batch.with_attributions(attributions.iter().cloned())
}

fn within(name: &str) -> Attribution {
    Attribution::container(named("ab", name, "nginx", Status::Running), Evidence::Cgroup)
}

#[test]
fn events_are_counted_by_kind_container_and_attribution() {
    let mut bench = bench::<Ran>(&options(PrometheusOptions::default().metrics));
    let (web, host) = (within("web"), Attribution::host(Evidence::Cgroup));
    let pending = Attribution::container(Arc::new(bare("cd")), Evidence::Cgroup);
    let batch = ran(&[web.clone(), host, web, Attribution::unknown(), pending]);
    bench.handle(batch).expect("handles");
    let page = page(&bench);
    let count = |labels: &str| {
        page.number("whalewatch_events_total", &format!("{labels},kind=process.exec"))
    };
    assert_eq!(count("attribution_state=resolved,container_name=web"), Some(2.0));
    assert_eq!(count("attribution_state=host"), Some(1.0));
    assert_eq!(count("attribution_state=unknown"), Some(1.0));
    assert_eq!(count("attribution_state=pending"), Some(1.0));
    assert_eq!(page.of("whalewatch_events_total").count(), 4);
}

#[test]
fn every_event_is_passed_on_unchanged() {
    let mut bench = bench::<Ran>(&options(vec![]));
    bench.handle(ran(&[within("a"), within("b")])).expect("handles");
    bench.end().expect("ends");
    let [batch] = &bench.out[..] else { panic!("one batch") };
    let names = batch.iter().map(|e| e.attribution().container.as_ref()?.name.clone());
    assert_eq!(names.collect::<Vec<_>>(), [Some("a".into()), Some("b".into())]);
    assert!(bench.adds_up());
}

#[test]
fn conditions_values_and_label_names_are_applied() {
    let mut big = counter("big_total", &[]);
    big.when = Some("number >= 10".into());
    let mut sum = counter("sum_seconds_total", &[]);
    (sum.value, sum.scale) = (Some("number".into()), 1e-3);
    let mut renamed = counter("by_text_total", &["host.name"]);
    renamed.labels.push(LabelOption::Renamed([("what".into(), "text".into())].into()));
    let mut whole = counter("sum_total", &[]);
    whole.value = Some("number".into());
    let mut bench = bench::<Free>(&options(vec![big, sum, renamed, whole]));
    let events = [3, 10, 4000, -1].map(|number| free(b"t", number));
    bench.handle(Batch::new("t".into(), events.into())).expect("handles");
    let page = page(&bench);
    assert_eq!(page.number("big_total", ""), Some(2.0));
    assert_eq!(page.number("sum_seconds_total", ""), Some(4.013));
    assert_eq!(page.number("sum_total", ""), Some(4013.0));
    assert_eq!(page.number("by_text_total", "host_name=node-1,what=t"), Some(4.0));
    let refused = |labels| page.number("whalewatch_prometheus_refused_events_total", labels);
    assert_eq!(refused("metric=sum_total,reason=negative_value"), Some(1.0));
    assert_eq!(refused("metric=big_total,reason=negative_value"), Some(0.0));
}

#[test]
fn histogram_puts_each_value_into_the_right_bucket() {
    let mut metric = histogram("spread_seconds", "number", &[0.001, 0.002, 1.0]);
    metric.scale = 1e-3;
    metric.labels.push(field("kind"));
    let mut bench = bench::<Free>(&options(vec![metric]));
    let events = [0, 1, 2, 2, 3, 1000, 1001, 5000, -7].map(|number| free(b"", number));
    bench.handle(Batch::new("t".into(), events.into())).expect("handles");
    for format in [Format::Text, Format::OpenMetrics] {
        let written = bench.handler().metrics.write(format).expect("page is written");
        let page = read(&written, format);
        let buckets = page.of("spread_seconds_bucket");
        // One format writes "1", the other "1.0".
        let buckets = buckets
            .map(|(labels, count)| (labels["le"].parse().expect("bound is a number"), count));
        let want = [(0.001, 2.0), (0.002, 4.0), (1.0, 6.0), (f64::INFINITY, 8.0)];
        assert_eq!(buckets.collect::<Vec<(f64, f64)>>(), want);
        assert_eq!(page.number("spread_seconds_count", "kind=free"), Some(8.0));
        assert_eq!(page.number("spread_seconds_sum", "kind=free"), Some(7.009));
    }
}

#[test]
fn events_of_a_type_without_the_value_are_not_counted() {
    let mut bench = bench::<Free>(&options(vec![
        histogram("spread", "number", &[1.0]),
        counter("all_total", &["text"]),
    ]));
    bench.handle(Batch::new("t".into(), vec![Odd])).expect("handles");
    let page = page(&bench);
    assert_eq!(page.of("spread_count").count(), 0);
    assert_eq!(page.number("all_total", ""), Some(1.0), "a missing label counts as empty");
}

#[test]
fn refused_events_are_counted_and_known_series_continue() {
    let mut small = counter("small_total", &["container.name"]);
    small.max_series = Some(2);
    let mut options = options(vec![
        small,
        histogram("spread", "process.pid", &[1.0, 2.0]),
        counter("rest_total", &["container.name"]),
    ]);
    options.max_series = 10;
    let mut bench = bench::<Ran>(&options);
    for _ in 0..2 {
        bench.handle(ran(&["a", "b", "c", "d", "e"].map(within))).expect("handles");
    }
    let page = page(&bench);
    let small = |name| page.number("small_total", &format!("container_name={name}"));
    assert_eq!(["a", "b", "c"].map(small), [Some(2.0), Some(2.0), None]);
    // The histogram has two buckets, +Inf, sum and count: five series. Three are left.
    assert_eq!(page.of("rest_total").count(), 3);
    let refused = |metric| {
        let labels = format!("metric={metric},reason=max_series");
        page.number("whalewatch_prometheus_refused_events_total", &labels)
    };
    assert_eq!(refused("small_total"), Some(6.0));
    assert_eq!(refused("rest_total"), Some(4.0));
    assert_eq!(refused("spread"), Some(0.0));
    let series = |metric| page.number("whalewatch_prometheus_series", &format!("metric={metric}"));
    assert_eq!(["small_total", "spread", "rest_total"].map(series), [2.0, 5.0, 3.0].map(Some));
    assert!(bench.adds_up(), "events that a metric refuses are still passed on");
}

#[test]
fn full_metric_is_reported_once_until_it_has_room_again() {
    let mut options = options(vec![counter("few_total", &["container.name"])]);
    options.max_series = 1;
    let mut bench = bench::<Ran>(&options);
    let mut newly_full = |name| {
        bench.handle(ran(&[within(name)])).expect("handles");
        bench.handler().store().metrics[0].is_newly_full().is_some()
    };
    // The handler itself has already taken the report.
    assert_eq!(["a", "b", "c"].map(&mut newly_full), [false; 3]);
    let store = &mut bench.handler().store();
    assert!(store.no_longer_full().is_empty(), "it has refused since the last sweep");
    assert_eq!(store.no_longer_full(), ["few_total"]);
    assert!(store.no_longer_full().is_empty());
}

#[test]
fn series_without_events_expire_and_make_room() {
    let mut options = options(vec![counter("few_total", &["container.name"])]);
    (options.max_series, options.expire) = (2, HumanDuration(Duration::from_secs(40)));
    let mut bench = bench::<Ran>(&options);
    bench.handle(ran(&[within("old"), within("new")])).expect("handles");
    bench.advance(Duration::from_secs(35)).expect("sweeps");
    bench.handle(ran(&[within("new")])).expect("handles");
    assert_eq!(page(&bench).of("few_total").count(), 2, "not yet");
    bench.advance(Duration::from_secs(20)).expect("sweeps");
    bench.handle(ran(&[within("third")])).expect("handles");
    let page = page(&bench);
    assert_eq!(page.number("few_total", "container_name=new"), Some(2.0));
    assert_eq!(page.number("few_total", "container_name=third"), Some(1.0));
    assert_eq!(page.of("few_total").count(), 2);
    assert_eq!(page.number("whalewatch_prometheus_expired_total", "metric=few_total"), Some(1.0));
}

#[test]
fn each_mistake_is_reported_with_its_key_and_a_fix() {
    let mut scaled = counter("a_total", &[]);
    scaled.scale = 2.0;
    let mut nothing = counter("b_total", &[]);
    (nothing.scale, nothing.value) = (0.0, Some("number".into()));
    let mut full = histogram("c", "number", &[1.0]);
    full.max_series = Some(3);
    let many: Vec<f64> = (0..101).map(f64::from).collect();
    let both = LabelOption::Renamed(
        [("a", "text"), ("b", "text")].map(|(a, b)| (a.into(), b.into())).into(),
    );
    let mut bad = histogram("h", "text", &[]);
    bad.value = None;
    for (metric, key, message, hint) in [
        (counter("9_total", &[]), "metrics[0].name", "cannot name a metric", "letter first"),
        (counter("events", &[]), "metrics[0].name", "must end with", "\"events_total\""),
        (counter("whalewatch_handler_x_total", &[]), "metrics[0].name", "reserved", "another"),
        (histogram("x_count", "number", &[1.0]), "metrics[0].name", "\"_count\"", "measures"),
        (scaled, "metrics[0].scale", "without value", "remove scale"),
        (nothing, "metrics[0].scale", "0 is not a valid scale", "above 0"),
        (full, "metrics[0].max_series", "too small for even one", "at least 4"),
        (bad, "metrics[0]", "needs a field", "value ="),
        (histogram("h", "number", &[]), "metrics[0]", "needs buckets", "buckets ="),
        (histogram("h", "number", &[1.0, 1.0]), "metrics[0].buckets", "ascending", "greater"),
        (histogram("h", "number", &[f64::NAN]), "metrics[0].buckets", "ascending", "finite"),
        (histogram("h", "number", &many), "metrics[0].buckets", "101", "at most 100"),
        (histogram("h", "text", &[1.0]), "metrics[0].value", "is a string, not a number", "uint"),
        (histogram("h", "nmber", &[1.0]), "metrics[0].value", "`nmber`", "did you mean `number`?"),
        (counter("t_total", &["time"]), "metrics[0].labels[0]", "its own time", "records"),
        (counter("t_total", &["kind", "tex"]), "metrics[0].labels[1]", "`tex`", "`text`"),
        (counter("t_total", &["kind", "kind"]), "metrics[0].labels[1]", "two labels", "{ other"),
        (counter("t_total", &["9"]), "metrics[0].labels[0]", "\"9\" cannot name a label", "letter"),
        (
            MetricOptions { labels: vec![both], ..counter("t_total", &[]) },
            "metrics[0].labels[0]",
            "pair of braces",
            "{ a =",
        ),
        (
            MetricOptions { when: Some("number ==".into()), ..counter("t_total", &[]) },
            "metrics[0].when",
            "",
            "",
        ),
        (
            MetricOptions { when: Some("number == 'a'".into()), ..counter("t_total", &[]) },
            "metrics[0].when",
            "cannot compare",
            "",
        ),
        (
            MetricOptions { help: Some("a\nb".into()), ..counter("t_total", &[]) },
            "metrics[0].help",
            "newline",
            "one plain line",
        ),
        (
            MetricOptions { buckets: vec![1.0], ..counter("t_total", &[]) },
            "metrics[0].buckets",
            "a counter has no buckets",
            "histogram",
        ),
    ] {
        let problems = Prometheus::check(&options(vec![metric.clone()]), &[Schema::of::<Free>()]);
        let problem = problems.first().unwrap_or_else(|| panic!("{metric:?} is wrong"));
        assert_eq!(problem.key, key, "{problem:?}");
        assert!(problem.message.contains(message), "{problem:?}");
        assert!(problem.hint.as_deref().unwrap_or("").contains(hint), "{problem:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let twice = vec![counter("a_total", &[]), histogram("a", "number", &[1.0])];
    let wrong = PrometheusOptions {
        listen: "localhost:9464".into(),
        max_series: 0,
        expire: HumanDuration(Duration::from_millis(10)),
        metrics: twice,
    };
    let problems = Prometheus::check(&wrong, &[]);
    let keys: Vec<_> = problems.iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, ["listen", "max_series", "expire", "metrics[1].name"]);
    assert!(problems.iter().all(|problem| problem.hint.is_some()));
    let wrong = options(vec![MetricOptions { when: Some("(".into()), ..counter("a", &["nope"]) }]);
    let problems = Prometheus::check(&wrong, &[Schema::of::<Free>()]);
    let keys: Vec<_> = problems.iter().map(|problem| &*problem.key).collect();
    assert_eq!(keys, ["metrics[0].name", "metrics[0].when", "metrics[0].labels[0]"]);
}

#[test]
fn health_is_reported_by_tracker_and_by_handler() {
    let tracker = TrackerHealth {
        name: "procs \"1\"".into(),
        generated: 100,
        delivered: 90,
        lost: 4,
        refused: 5,
        invalid: 1,
        lag: Duration::from_millis(1500),
    };
    let handler = HandlerHealth {
        name: "out".into(),
        input: 90,
        added: 1,
        output: 80,
        filtered: 5,
        dropped: 4,
        errors: 2,
        restarts: 3,
        queued: 7,
        queue_capacity: 64,
        containers: 12,
    };
    let health = HealthReport { trackers: vec![tracker], handlers: vec![handler] };
    for format in [Format::Text, Format::OpenMetrics] {
        let contents = Contents { events: Vec::new(), health: health.clone(), scrapes: 8 };
        let page = read(&page::write(contents, format).expect("page is written"), format);
        for (name, want) in [
            ("events_generated_total", 100.0),
            ("events_delivered_total", 90.0),
            ("events_lost_total", 4.0),
            ("events_refused_total", 5.0),
            ("events_invalid_total", 1.0),
            ("lag_seconds", 1.5),
        ] {
            let name = format!("whalewatch_tracker_{name}");
            assert_eq!(page.number(&name, "tracker=procs \"1\""), Some(want), "{name}");
        }
        for (name, want) in [
            ("events_in_total", 90.0),
            ("events_added_total", 1.0),
            ("events_out_total", 80.0),
            ("events_filtered_total", 5.0),
            ("events_dropped_total", 4.0),
            ("events_errors_total", 2.0),
            ("restarts_total", 3.0),
            ("queue_batches", 7.0),
            ("queue_limit_batches", 64.0),
            ("containers", 12.0),
        ] {
            let name = format!("whalewatch_handler_{name}");
            assert_eq!(page.number(&name, "handler=out"), Some(want), "{name}");
        }
        assert_eq!(page.number("whalewatch_prometheus_scrapes_total", ""), Some(8.0));
        let version = format!("version={}", env!("CARGO_PKG_VERSION"));
        assert_eq!(page.number("whalewatch_build_info", &version), Some(1.0));
        assert!(page.number("process_cpu_seconds_total", "").is_some_and(|used| used > 0.0));
        let memory = page.number("process_resident_memory_bytes", "").expect("memory in use");
        assert!((1e6..1e12).contains(&memory), "{memory}");
    }
}

#[test]
fn each_page_asks_for_a_new_health_report() {
    let reports = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&reports);
    let health = Health::new(move || {
        let lost = counter.fetch_add(1, Relaxed) + 1;
        let tracker = TrackerHealth { name: "procs".into(), lost, ..TrackerHealth::default() };
        HealthReport { trackers: vec![tracker], ..HealthReport::default() }
    });
    let mut setup = Setup::new("metrics", "node-1", Mailbox::new(drop));
    setup.health = health;
    let handler = Prometheus::build(&options(vec![]), &setup).expect("handler is built");
    assert_eq!(reports.load(Relaxed), 0);
    for lost in [1.0, 2.0] {
        let page = read(&handler.page().expect("page is written"), Format::Text);
        let found = page.number("whalewatch_tracker_events_lost_total", "tracker=procs");
        assert_eq!(found, Some(lost));
    }
}

/// Values that are hard to write, more often than random ones would be.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let pieces =
        ["\\", "\"", "\n", "\\n", "{", "}", ",", "=", "\r", "é", "a", "# EOF\n", "\u{2028}", ""];
    let pieces = prop::sample::select(pieces.map(|piece| piece.as_bytes().to_vec()).to_vec());
    let bytes = prop::collection::vec(any::<u8>(), 0..4);
    prop::collection::vec(prop_oneof![3 => pieces, 1 => bytes], 0..12).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_labels_are_read_back_as_text(
        texts in prop::collection::vec(hostile(), 1..20),
    ) {
        let mut bench = bench::<Free>(&options(vec![counter("by_text_total", &["text", "kind"])]));
        let events = texts.iter().map(|text| free(text, 1)).collect();
        bench.handle(Batch::new("t".into(), events)).expect("handles");
        let mut want: HashMap<String, f64> = HashMap::new();
        for text in &texts {
            let text = String::from_utf8_lossy(text).replace('\0', "\u{fffd}");
            *want.entry(text).or_default() += 1.0;
        }
        for format in [Format::Text, Format::OpenMetrics] {
            let written = bench.handler().metrics.write(format).expect("page is written");
            let page = read(&written, format);
            let got: HashMap<String, f64> = page
                .of("by_text_total")
                .map(|(labels, number)| (labels.get("text").cloned().unwrap_or_default(), number))
                .collect();
            prop_assert_eq!(&got, &want);
        }
    }

    #[test]
    fn counts_match_a_simple_model_with_limit_and_expiry(
        steps in prop::collection::vec(prop::option::weighted(0.8, 0..6_usize), 1..200),
        max in 1..6_u32,
    ) {
        let mut options = options(vec![counter("few_total", &["container.name"])]);
        (options.max_series, options.expire) = (max, HumanDuration(Duration::from_secs(4)));
        let mut bench = bench::<Ran>(&options);
        // By name: the count, and when it last had an event. The first event starts the timer.
        let mut model: HashMap<String, (f64, usize)> = HashMap::from([("c0".into(), (1.0, 0))]);
        bench.handle(ran(&[within("c0")])).expect("handles");
        let (mut now, mut refused) = (0, 0.0);
        for step in steps {
            let Some(container) = step else {
                bench.advance(Duration::from_secs(1)).expect("sweeps");
                now += 1;
                model.retain(|_, (_, touched)| now - *touched <= 4);
                continue;
            };
            let name = format!("c{container}");
            bench.handle(ran(&[within(&name)])).expect("handles");
            if model.len() < max as usize || model.contains_key(&name) {
                let (count, touched) = model.entry(name).or_default();
                (*count, *touched) = (*count + 1.0, now);
            } else {
                refused += 1.0;
            }
        }
        let page = page(&bench);
        let got: HashMap<String, f64> = page
            .of("few_total")
            .map(|(labels, number)| (labels["container_name"].clone(), number))
            .collect();
        let want: HashMap<String, f64> = model.into_iter().map(|(n, (c, _))| (n, c)).collect();
        prop_assert_eq!(got, want);
        let labels = "metric=few_total,reason=max_series";
        let counted = page.number("whalewatch_prometheus_refused_events_total", labels);
        prop_assert_eq!(counted, Some(refused));
    }
}
