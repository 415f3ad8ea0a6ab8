//! Tests of the results, the times when they are emitted, and the counts of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use whalewatch_core::{Attribution, Evidence, HumanDuration, Status};
use whalewatch_kit::{Condition, Json};
use whalewatch_testing::{Bench, Did, bare, named};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn options(by: &[&str], compute: &[(&str, &str)]) -> AggregateOptions {
    let compute = compute.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    AggregateOptions {
        by: by.iter().map(ToString::to_string).collect(),
        window: HumanDuration(Duration::from_secs(10)),
        late: HumanDuration(Duration::from_secs(2)),
        compute: compute.collect(),
        ..AggregateOptions::default()
    }
}

fn bench(options: &AggregateOptions) -> Bench<Aggregate> {
    Bench::new::<Did>(options).expect("valid options")
}

fn handle(bench: &mut Bench<Aggregate>, events: &[(u64, &str, i64)]) {
    let events = events.iter().map(|(time, what, amount)| Did::new(*time, what, *amount)).collect();
    bench.handle(Batch::new("t".into(), events)).expect("no failure");
}

/// Returns a field of each result, as text.
fn column(bench: &Bench<Aggregate>, name: &str) -> Vec<String> {
    let results = bench.out.iter().filter(|batch| batch.typed::<Did>().is_none());
    let of = |batch: &Batch| {
        let field = Selected::new(&batch.schema(), name);
        let show = |event| match Selected::value(field, event, "") {
            Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Value::Texts(texts) => {
                texts.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
            }
            Value::Uint(number) => number.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Time(time) => (time.as_nanos() / SECOND).to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null => "-".to_owned(),
        };
        batch.iter().map(show).collect::<Vec<_>>()
    };
    results.flat_map(of).collect()
}

#[test]
fn each_group_of_a_window_has_a_result() {
    let compute = [
        ("all", "count()"),
        ("sum", "sum(did.amount)"),
        ("min", "min(did.amount)"),
        ("max", "max(did.amount)"),
        ("kinds", "distinct(did.amount)"),
        ("top", "top(did.amount, 2)"),
    ];
    let mut bench = bench(&options(&["did.what"], &compute));
    let first = [(100, "a", 5), (101, "b", 1), (104, "a", -2), (109, "a", 5), (111, "a", 9)];
    handle(&mut bench, &first.map(|(time, what, amount)| (time * SECOND, what, amount)));
    assert!(bench.out.is_empty(), "the window is still open for late events");
    handle(&mut bench, &[(112 * SECOND, "b", 0)]);
    for (name, want) in [
        ("aggregate.start", ["100", "100"]),
        ("aggregate.end", ["110", "110"]),
        ("aggregate.key.did.what", ["a", "b"]),
        ("aggregate.events", ["3", "1"]),
        ("aggregate.value.all", ["3", "1"]),
        ("aggregate.value.sum", ["8", "1"]),
        ("aggregate.value.min", ["-2", "1"]),
        ("aggregate.value.max", ["5", "1"]),
        ("aggregate.value.kinds", ["2", "1"]),
        ("aggregate.value.top.values", ["5 -2", "1"]),
        ("aggregate.value.top.counts", ["2 1", "1"]),
        ("aggregate.value.top.highest", ["2", "1"]),
        ("aggregate.late", ["0", "0"]),
        ("aggregate.rest", ["-", "-"]),
        ("aggregate.estimated", ["-", "-"]),
        ("time", ["110", "110"]),
    ] {
        assert_eq!(column(&bench, name), want, "{name}");
    }
    bench.end().expect("no failure");
    assert_eq!(column(&bench, "aggregate.start"), ["100", "100", "110", "110"]);
    assert!(bench.adds_up());
    assert_eq!(bench.count(|c| &c.filtered), 6, "no event is passed on");
    assert_eq!(bench.count(|c| &c.added), 4);
}

#[test]
fn results_are_written_as_json_and_can_be_filtered() {
    let options = options(&["container.name"], &[("n", "count()"), ("top", "top(did.what, 1)")]);
    let when =
        "aggregate.value.n > 1u && '/etc/passwd' in aggregate.value.top.values && !aggregate.rest";
    let condition = Condition::parse("when", when).expect("a valid condition");
    let added = Aggregate::DECLARATION.added(&options);
    assert_eq!(condition.check(&added), []);

    let mut bench = bench(&options);
    let batch = Batch::new("t".into(), vec![Did::new(SECOND, "/etc/passwd", 1); 2]);
    let web = Attribution::container(named("ab", "web", "i", Status::Running), Evidence::Cgroup);
    bench.handle(batch.with_attributions([web.clone(), web])).expect("no failure");
    bench.end().expect("no failure");
    let test = condition.compile(&added[0], None).expect("the condition fits the schema");
    assert!(test.holds(bench.out[0].iter().next().expect("a result")));

    let (mut json, mut out) = (Json::new("node-1"), Vec::new());
    json.batch(&mut out, &bench.out[0]);
    let want = concat!(
        r#"{"time":"1970-01-01T00:00:10.000000000Z","kind":"aggregate.window","host":{"name":"node-1"},"#,
        r#""aggregate":{"start":"1970-01-01T00:00:00.000000000Z","end":"1970-01-01T00:00:10.000000000Z","#,
        r#""events":2,"late":0,"key":{"container":{"name":"web"}},"#,
        r#""value":{"n":2,"top":{"values":["/etc/passwd"],"counts":["2"],"highest":2}}},"#,
        r#""container":{"id":"ab","name":"web","image":{"name":"i"},"runtime":"docker","status":"running"},"#,
        r#""attribution":{"state":"resolved","evidence":"cgroup"}}"#,
        "\n"
    );
    assert_eq!(String::from_utf8_lossy(&out), want);
}

#[test]
fn late_events_are_counted_in_the_next_result_of_their_group() {
    let mut bench = bench(&options(&["did.what"], &[("sum", "sum(did.amount)")]));
    handle(&mut bench, &[(109 * SECOND, "a", 1), (111 * SECOND, "a", 1), (108 * SECOND, "a", 1)]);
    handle(&mut bench, &[(115 * SECOND, "a", 1), (109 * SECOND, "a", 9), (95 * SECOND, "c", 9)]);
    bench.end().expect("no failure");
    assert_eq!(column(&bench, "aggregate.start"), ["100", "110", "110"]);
    assert_eq!(column(&bench, "aggregate.key.did.what"), ["a", "a", "c"]);
    assert_eq!(column(&bench, "aggregate.events"), ["2", "2", "0"]);
    assert_eq!(column(&bench, "aggregate.value.sum"), ["2", "2", "0"]);
    assert_eq!(column(&bench, "aggregate.late"), ["0", "1", "1"]);
}

#[test]
fn timer_closes_a_window_when_no_event_arrives() {
    let mut bench = bench(&options(&[], &[]));
    handle(&mut bench, &[(105 * SECOND, "a", 1)]);
    bench.advance(Duration::from_secs(6)).expect("no failure");
    assert!(bench.out.is_empty());
    bench.advance(Duration::from_secs(3)).expect("no failure");
    assert_eq!(column(&bench, "aggregate.events"), ["1"]);
    handle(&mut bench, &[(109 * SECOND, "a", 1), (110 * SECOND, "a", 1)]);
    bench.advance(Duration::from_hours(1)).expect("no failure");
    assert_eq!(column(&bench, "aggregate.start"), ["100", "110"]);
    assert_eq!(column(&bench, "aggregate.late"), ["0", "1"]);
    bench.end().expect("no failure");
    assert_eq!(column(&bench, "aggregate.start").len(), 2);
    assert!(bench.adds_up());
}

#[test]
fn groups_beyond_max_groups_are_combined() {
    let options = AggregateOptions { max_groups: 2, ..options(&["did.what"], &[("n", "count()")]) };
    let mut bench = bench(&options);
    handle(&mut bench, &["a", "b", "c", "d", "a", "c"].map(|what| (100 * SECOND, what, 1)));
    handle(&mut bench, &[(110 * SECOND, "e", 1)]);
    bench.end().expect("no failure");
    assert_eq!(column(&bench, "aggregate.key.did.what"), ["a", "b", "-", "-"]);
    assert_eq!(column(&bench, "aggregate.rest"), ["-", "-", "true", "true"]);
    assert_eq!(
        column(&bench, "aggregate.value.n"),
        ["2", "1", "3", "1"],
        "both windows share the limit"
    );
    handle(&mut bench, &[(u64::MAX, "a", 1)]);
    bench.end().expect("no failure");
    assert!(bench.adds_up());
}

#[test]
fn events_are_passed_on_with_pass() {
    let options = AggregateOptions { pass: true, ..options(&["did.what"], &[]) };
    let mut bench = bench(&options);
    handle(&mut bench, &[(100 * SECOND, "a", 1), (101 * SECOND, "a", 2)]);
    bench.end().expect("no failure");
    assert_eq!(bench.out[0].typed::<Did>().expect("the events themselves").len(), 2);
    assert_eq!(column(&bench, "aggregate.events"), ["2"]);
    assert_eq!((bench.count(|c| &c.output), bench.count(|c| &c.filtered)), (3, 0));
    assert!(bench.adds_up());
}

#[test]
fn results_are_attributed_and_events_without_container_kept_apart() {
    let attributions = [
        Attribution::container(named("ab", "web", "i", Status::Running), Evidence::Cgroup),
        Attribution::host(Evidence::Cgroup),
        Attribution::unknown(),
        Attribution::container(bare("cd").into(), Evidence::Cgroup),
    ];
    let mut bench = bench(&options(&["container.name"], &[]));
    let batch = Batch::new("t".into(), vec![Did::new(SECOND, "a", 1); 8]);
    bench
        .handle(batch.with_attributions(attributions.iter().cycle().cloned()))
        .expect("no failure");
    bench.end().expect("no failure");
    let got: Vec<_> = bench.out[0].iter().map(|event| event.attribution().clone()).collect();
    assert_eq!(got, attributions);
    assert_eq!(column(&bench, "aggregate.events"), ["2"; 4]);
}

#[test]
fn estimated_results_are_named() {
    let compute = [("few", "distinct(did.what)"), ("many", "distinct(did.amount)")];
    let options = AggregateOptions { max_values: 16, ..options(&[], &compute) };
    let mut bench = bench(&options);
    let events: Vec<_> = (0..1_000).map(|n| (SECOND, "a", n)).collect();
    handle(&mut bench, &events);
    bench.end().expect("no failure");
    assert_eq!(column(&bench, "aggregate.estimated"), ["many"]);
    assert_eq!(column(&bench, "aggregate.value.few"), ["1"]);
}

#[test]
fn all_mistakes_are_reported_and_the_schema_is_still_known() {
    let compute = [
        ("a", "smu(did.amount)"),
        ("b", "sum(did.what)"),
        ("c d", "count()"),
        ("e", "top(did.what, 50)"),
    ];
    let wrong = AggregateOptions {
        window: HumanDuration(Duration::from_millis(1)),
        max_groups: 0,
        max_values: 17,
        ..options(&["did.wat"], &compute)
    };
    let problems = Bench::<Aggregate>::new::<Did>(&wrong).err().expect("problems");
    let reported: Vec<_> =
        problems.iter().map(|p| (&*p.key, p.hint.as_deref().unwrap_or(""))).collect();
    assert_eq!(
        reported,
        [
            ("by", "did you mean `did.what`?"),
            ("compute.a", "did you mean `sum`?"),
            (
                "compute.c d",
                "use letters, digits and `_`, beginning with a letter; \
                 true, false, null and in are reserved"
            ),
            ("compute.b", "count(), distinct() and top() take any field"),
            ("compute.e", "raise max_values"),
            ("window", "write for example \"100ms\""),
            ("max_groups", "write for example 1"),
        ]
    );
    let added = Aggregate::DECLARATION.added(&wrong);
    assert!(added[0].find("aggregate.value.a").is_some());

    let late =
        AggregateOptions { late: HumanDuration(Duration::from_hours(1)), ..options(&[], &[]) };
    let problems = Aggregate::check(&late, &[]);
    assert_eq!(problems[0].message, "1h is out of range: expected 0s to 16m 40s");
}

/// Generates events whose times increase in steps, with an occasional late event.
fn events() -> impl Strategy<Value = Vec<Did>> {
    let event = (0..400_u64, 0..6_u64, 0..3_usize, -3..4_i64);
    prop::collection::vec(event, 1..150).prop_map(|steps| {
        let mut time = 1_000_000;
        let event = |(forth, back, what, amount): (u64, u64, usize, i64)| {
            time += forth;
            Did::new(
                (time - if back == 0 { 900 } else { 0 }) * 1_000_000,
                ["a", "b", "c"][what],
                amount,
            )
        };
        steps.into_iter().map(event).collect()
    })
}

/// The number of events and of late ones, the sum, and the number of different amounts.
type Row = (u64, u64, i64, u64);

/// Computes the results by start and key, directly from their definition.
fn reference(events: &[Did], window: u64, late: u64) -> BTreeMap<(u64, String), Row> {
    let mut groups: BTreeMap<(u64, String), (Vec<i64>, u64)> = BTreeMap::new();
    let mut latest = 0;
    for event in events {
        latest = latest.max(event.time);
        let start = event.time / window * window;
        let oldest = (latest - late) / window * window;
        let what = event.what.clone().unwrap_or_default();
        let group = groups.entry((start.max(oldest), what)).or_default();
        if start < oldest {
            group.1 += 1;
        } else {
            group.0.push(event.amount.unwrap_or_default());
        }
    }
    let row = |(amounts, late): (Vec<i64>, u64)| {
        let distinct = amounts.iter().collect::<BTreeSet<_>>().len() as u64;
        (amounts.len() as u64, late, amounts.iter().sum(), distinct)
    };
    groups.into_iter().map(|(key, group)| (key, row(group))).collect()
}

proptest! {
    #[test]
    fn results_match_the_reference_for_any_batches(
        events in events(),
        window in 100..3_000_u64,
        late in 0..1_500_u64,
        cut in 1..20_usize,
    ) {
        let compute = [("sum", "sum(did.amount)"), ("kinds", "distinct(did.amount)")];
        let options = AggregateOptions {
            window: HumanDuration(Duration::from_millis(window)),
            late: HumanDuration(Duration::from_millis(late)),
            ..options(&["did.what"], &compute)
        };
        let run = |cut: usize| {
            let mut bench = bench(&options);
            for events in events.chunks(cut) {
                bench.handle(Batch::new("t".into(), events.to_vec())).expect("no failure");
            }
            bench.end().expect("no failure");
            assert!(bench.adds_up());
            let mut rows = Vec::new();
            for batch in &bench.out {
                let schema = batch.schema();
                let field = |name: &str| Selected::new(&schema, &format!("aggregate.{name}"));
                for event in batch.iter() {
                    let uint = |name: &str| match field(name).value(event, "") {
                        Value::Uint(number) => number,
                        other => panic!("{name}: {other:?}"),
                    };
                    let (Value::Time(start), Value::Text(what), Value::Int(sum)) = (
                        field("start").value(event, ""),
                        field("key.did.what").value(event, ""),
                        field("value.sum").value(event, ""),
                    ) else { panic!("wrong types") };
                    let key = (start.as_nanos(), String::from_utf8_lossy(what).into_owned());
                    rows.push((key, (uint("events"), uint("late"), sum, uint("value.kinds"))));
                }
            }
            rows
        };
        let whole = run(events.len());
        let starts: Vec<_> = whole.iter().map(|((start, _), _)| *start).collect();
        prop_assert!(starts.is_sorted(), "windows are in order");
        let (count, rows) = (whole.len(), whole.iter().cloned().collect::<BTreeMap<_, _>>());
        prop_assert_eq!(rows.len(), count, "each group of a window has one result");
        prop_assert_eq!(&rows, &reference(&events, window * 1_000_000, late * 1_000_000));
        prop_assert_eq!(whole, run(cut));
    }
}
