//! Tests of which events pass, which are suppressed, and what is reported.

use std::collections::BTreeMap;

use proptest::prelude::*;
use whalewatch_core::{Attribution, Evidence, HumanDuration, Status, Value};
use whalewatch_testing::{Bench, Did, bare, named};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn options(by: &[&str], events: u64, per: Duration) -> ThrottleOptions {
    ThrottleOptions {
        by: by.iter().map(ToString::to_string).collect(),
        events,
        per: HumanDuration(per),
        ..ThrottleOptions::default()
    }
}

fn bench(options: &ThrottleOptions) -> Bench<Throttle> {
    Bench::new::<Did>(options).expect("valid options")
}

fn batch(events: Vec<Did>) -> Batch {
    Batch::new("t".into(), events)
}

/// The key and the count of a report.
type Report = (Vec<Option<String>>, u64);

/// Returns the output: the events that passed, and the reports.
fn out(bench: &Bench<Throttle>) -> (Vec<Did>, Vec<Report>) {
    let (mut events, mut reports) = (Vec::new(), Vec::new());
    for batch in &bench.out {
        if let Some(typed) = batch.typed::<Did>() {
            events.extend(typed.map(|(event, _)| event.clone()));
            continue;
        }
        let schema = batch.schema();
        let keys = schema.fields.iter().filter(|(info, _)| info.name.starts_with("throttle.key."));
        let keys: Vec<_> = keys.map(|(_, accessor)| *accessor).collect();
        let (_, count) = schema.find("throttle.count").expect("a field");
        for event in batch.iter() {
            let text = |value| match value {
                Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            };
            let key = keys.iter().map(|key| text(event.value(*key))).collect();
            let Value::Uint(count) = event.value(count) else { panic!("a count is a number") };
            reports.push((key, count));
        }
    }
    (events, reports)
}

fn key(text: &str) -> Vec<Option<String>> {
    vec![Some(text.to_owned())]
}

fn filtered(bench: &Bench<Throttle>) -> u64 {
    bench.count(|counters| &counters.filtered)
}

#[test]
fn each_key_has_a_separate_allowance() {
    let mut bench = bench(&options(&["did.what"], 2, Duration::from_secs(1)));
    let events = ["a", "a", "b", "a", "a", "b"].map(|what| Did::new(SECOND, what, 0));
    bench.handle(batch(events.to_vec())).expect("no failure");
    let (passed, reports) = out(&bench);
    assert_eq!(passed.iter().filter(|event| event.what.as_deref() == Some("a")).count(), 2);
    assert_eq!(passed.iter().filter(|event| event.what.as_deref() == Some("b")).count(), 2);
    assert_eq!((filtered(&bench), reports), (2, vec![]), "the excess is not over yet");
    bench.end().expect("no failure");
    assert_eq!(out(&bench).1, [(key("a"), 2)]);
    assert!(bench.adds_up());
}

#[test]
fn report_comes_when_later_events_show_that_the_excess_is_over() {
    let mut bench = bench(&options(&["did.what"], 1, Duration::from_millis(100)));
    let mut at = |millis: u64, what: &str| {
        bench.handle(batch(vec![Did::new(millis * 1_000_000, what, 0)])).expect("no failure");
        out(&bench).1
    };
    at(10_000, "a");
    at(10_010, "a");
    assert_eq!(at(10_020, "a"), []);
    assert_eq!(at(10_900, "b"), [], "the quiet time is a second");
    assert_eq!(at(11_300, "b"), [(key("a"), 2)]);
    assert_eq!(at(15_000, "b").len(), 1);
}

#[test]
fn lasting_excess_is_reported_at_each_interval() {
    let mut bench = bench(&options(&["did.what"], 1, Duration::from_secs(1)));
    for tenth in 0..250 {
        bench.handle(batch(vec![Did::new(tenth * SECOND / 10, "a", 0)])).expect("no failure");
    }
    bench.end().expect("no failure");
    let (passed, reports) = out(&bench);
    let counts: Vec<_> = reports.iter().map(|(_, count)| *count).collect();
    assert_eq!(passed.len(), 25);
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts[..2].iter().all(|count| (85..=95).contains(count)), "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 225);
}

#[test]
fn timer_reports_when_no_event_arrives() {
    let mut bench = bench(&options(&["did.what"], 1, Duration::from_secs(1)));
    bench.handle(batch(vec![Did::new(SECOND, "a", 0); 5])).expect("no failure");
    bench.advance(Duration::from_millis(900)).expect("no failure");
    assert_eq!(out(&bench).1, []);
    bench.advance(Duration::from_millis(600)).expect("no failure");
    assert_eq!(out(&bench).1, [(key("a"), 4)]);
    bench.advance(Duration::from_hours(1)).expect("no failure");
    bench.end().expect("no failure");
    assert_eq!(out(&bench).1.len(), 1, "there is only one report");
    assert!(bench.adds_up());
}

#[test]
fn report_is_attributed_to_the_container_of_its_key() {
    let attributions = [
        Attribution::container(named("ab", "web", "i", Status::Running), Evidence::Cgroup),
        Attribution::host(Evidence::Cgroup),
        Attribution::unknown(),
        Attribution::container(bare("cd").into(), Evidence::Cgroup),
    ];
    for (by, shown) in [("container.name", true), ("kind", false)] {
        let mut bench = bench(&options(&[by], 1, Duration::from_secs(1)));
        for _ in 0..3 {
            let batch = batch(vec![Did::new(SECOND, "a", 0); attributions.len()]);
            bench
                .handle(batch.with_attributions(attributions.iter().cloned()))
                .expect("no failure");
        }
        bench.end().expect("no failure");
        let reports = bench.out.iter().filter(|batch| batch.typed::<Did>().is_none());
        let got: Vec<_> =
            reports.flat_map(Batch::iter).map(|event| event.attribution().clone()).collect();
        if shown {
            assert_eq!(got, attributions, "two events of each were suppressed");
        } else {
            assert_eq!(got, [Attribution::default()]);
        }
    }
}

#[test]
fn keys_beyond_max_keys_share_one_allowance_until_there_is_room() {
    let options =
        ThrottleOptions { max_keys: 2, ..options(&["did.what"], 1, Duration::from_secs(1)) };
    let mut bench = bench(&options);
    let events = ["a", "b", "c", "d", "d", "a"].map(|what| Did::new(SECOND, what, 0));
    bench.handle(batch(events.to_vec())).expect("no failure");
    let passed: Vec<_> = out(&bench).0.into_iter().filter_map(|event| event.what).collect();
    assert_eq!(passed, ["a", "b", "c"], "d shares the allowance of c");
    assert_eq!(bench.handler().table.len(), 2);

    let later = ["c", "d"].map(|what| Did::new(5 * SECOND, what, 0));
    bench.handle(batch(later.to_vec())).expect("no failure");
    assert_eq!(out(&bench).0.len(), 5, "a and b have full buckets again and are forgotten");
    bench.end().expect("no failure");
    assert_eq!(out(&bench).1, [(vec![None], 2), (key("a"), 1)]);
    assert!(bench.adds_up());
}

#[test]
fn reports_can_be_filtered_by_their_fields() {
    let added = Throttle::DECLARATION.added(&options(
        &["container.name", "kind"],
        1,
        Duration::from_secs(1),
    ));
    let when = "throttle.count > 10u && throttle.until > throttle.since \
                && throttle.key.container.name.startsWith('web')";
    let condition = whalewatch_kit::Condition::parse("when", when).expect("a valid condition");
    assert_eq!(condition.check(&added), []);
}

#[test]
fn every_mistake_is_reported() {
    let wrong = ThrottleOptions {
        by: vec!["did.wat".into(), "kind".into(), "kind".into()],
        events: 0,
        per: HumanDuration(Duration::ZERO),
        burst: Some(0),
        report: HumanDuration(Duration::from_millis(1)),
        max_keys: 0,
    };
    let problems = Bench::<Throttle>::new::<Did>(&wrong).err().expect("problems");
    let reported: Vec<_> =
        problems.iter().map(|p| (&*p.key, p.hint.as_deref().unwrap_or(""))).collect();
    assert_eq!(
        reported,
        [
            ("by", "did you mean `did.what`?"),
            ("by", "remove one of them"),
            ("events", "write for example 1"),
            ("per", "write for example \"1ms\""),
            ("burst", "write for example 1"),
            ("report", "write for example \"1s\""),
            ("max_keys", "write for example 1"),
        ]
    );
}

/// Computes which events pass, directly from the definition: an event is suppressed if, since some
/// earlier event that passed, more events would pass than `burst` plus the refill.
fn reference(events: &[Did], rate: u64, per: u64, burst: u64) -> Vec<bool> {
    let mut passed: BTreeMap<Option<&str>, Vec<u64>> = BTreeMap::new();
    let mut latest: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    let mut passes = Vec::new();
    for event in events {
        let what = event.what.as_deref();
        let time = latest.entry(what).or_default();
        *time = event.time.max(*time);
        let before = passed.entry(what).or_default();
        let fits = before.iter().rev().zip(2_u128..).all(|(first, count)| {
            let back = u128::from(*time - first) * u128::from(rate);
            count * u128::from(per) <= u128::from(burst) * u128::from(per) + back
        });
        if fits {
            before.push(*time);
        }
        passes.push(fits);
    }
    passes
}

fn events() -> impl Strategy<Value = Vec<Did>> {
    // Times increase in small steps, with an occasional late event.
    let event = (0..40_u64, 0..10_u64, 0..3_usize);
    prop::collection::vec(event, 1..120).prop_map(|steps| {
        let mut time = SECOND;
        let event = |(at, (forth, back, what)): (usize, (u64, u64, usize))| {
            time += forth * 10_000_000;
            let late = if back == 0 { 200_000_000 } else { 0 };
            Did::new(time - late, ["a", "b", "c"][what], at as i64)
        };
        steps.into_iter().enumerate().map(event).collect()
    })
}

proptest! {
    #[test]
    fn passing_events_match_the_reference_for_any_batches(
        events in events(),
        rate in 1..8_u64,
        millis in 1..2_000_u64,
        burst in 1..6_u64,
        cut in 1..20_usize,
    ) {
        let per = Duration::from_millis(millis);
        let options = ThrottleOptions {
            burst: Some(burst),
            report: HumanDuration(Duration::from_secs(1)),
            ..options(&["did.what"], rate, per)
        };
        let run = |cut: usize| {
            let mut bench = bench(&options);
            for events in events.chunks(cut) {
                bench.handle(batch(events.to_vec())).expect("no failure");
            }
            bench.end().expect("no failure");
            assert!(bench.adds_up());
            let reported: u64 = out(&bench).1.iter().map(|(_, count)| count).sum();
            assert_eq!(reported, filtered(&bench), "every suppressed event is reported");
            out(&bench)
        };
        let want = reference(&events, rate, millis * 1_000_000, burst);
        let want = events.iter().zip(want).filter(|(_, passes)| *passes);
        let want: Vec<_> = want.map(|(event, _)| event.clone()).collect();
        let whole = run(events.len());
        prop_assert_eq!(&whole.0, &want);
        prop_assert_eq!(whole, run(cut));
    }
}
