//! Tests of the meaning of conditions, and of the errors in them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use whalewatch_core::{
    Attribution, ChainId, Container, Event, Evidence, Hosted, OwnedValue, Process, Runtime, Type,
};
use whalewatch_testing::{TestEvent, TestType, process};

use super::*;

#[derive(Clone)]
struct Ran;

impl TestType for Ran {
    const NAME: &'static str = "ran";
    const KINDS: &'static [&'static str] = &["process.exec"];
    const FIELDS: &'static [(&'static str, Type)] = &[
        ("process.command_args", Type::Texts),
        ("process.exit.code", Type::Int),
        ("flag", Type::Bool),
    ];
}

/// An event with a field that [`Ran`] lacks.
#[derive(Clone)]
struct Opened;

impl TestType for Opened {
    const NAME: &'static str = "opened";
    const KINDS: &'static [&'static str] = &["file.open"];
    const FIELDS: &'static [(&'static str, Type)] = &[("file.path", Type::Text)];
}

fn bare() -> TestEvent<Ran> {
    TestEvent::of("process.exec").at(1).by(Process { uid: 33, ..process(7, "true") })
}

fn ran() -> TestEvent<Ran> {
    let args = OwnedValue::texts([&b"/bin/true"[..], b"-v"]);
    bare().with("process.command_args", args).with("flag", true)
}

fn opened() -> TestEvent<Opened> {
    TestEvent::of("file.open").at(1).with("file.path", "/etc/passwd")
}

fn schemas() -> [Schema; 2] {
    [Schema::of::<TestEvent<Ran>>(), Schema::of::<TestEvent<Opened>>()]
}

fn only(when: &str) -> FilterOptions {
    FilterOptions { when: Some(when.to_owned()), ..FilterOptions::default() }
}

fn check(when: &str) -> Vec<Problem> {
    Filter::check(&only(when), &schemas())
}

fn hosted(when: &str) -> Hosted<Filter> {
    Hosted::new(Filter::new(&only(when)).unwrap(), Arc::default())
}

/// Filters a batch of one event; returns how many events pass and how many count as filtered.
fn pass<E: Event>(when: &str, event: E, attribution: &Attribution) -> (usize, u64) {
    let batch = Batch::new("t".into(), vec![event]).with_attributions([attribution.clone()]);
    let mut hosted = hosted(when);
    hosted.handle(ChainId::new(0), batch).unwrap();
    let passed = hosted.outgoing.iter().map(|(_, batch)| batch.len()).sum();
    (passed, hosted.counters().filtered.load(Relaxed))
}

fn web() -> Attribution {
    let bare = Container::bare("ab12", Runtime::Docker);
    Attribution::container(
        Arc::new(Container { name: Some("web-1".into()), ..bare }),
        Evidence::Cgroup,
    )
}

#[test]
fn conditions_select_the_events_that_meet_them() {
    for (when, want) in [
        ("process.user.id == 33", true),
        ("process.user.id == 33u && process.pid < 8", true),
        ("process.pid > -1", true),
        ("process.pid >= 8", false),
        ("process.pid <= process.user.id", true),
        ("18446744073709551615u > process.pid", true),
        ("process.comm == 'true'", true),
        ("process.comm < 'u'", true),
        ("kind in ['process.exit', 'process.exec']", true),
        ("process.user.id in [0, 33]", true),
        ("process.user.id in []", false),
        ("process.pid in [process.user.id, 7]", true),
        ("'-v' in process.command_args", true),
        ("'v' in process.command_args", false),
        ("'a' in ['a', process.comm]", true),
        ("container.name.startsWith('web')", true),
        ("container.name.endsWith('-2')", false),
        ("container.name.contains('eb-')", true),
        ("container.name.contains('')", true),
        ("'web-1-long'.startsWith(container.name)", true),
        ("flag", true),
        ("!flag || flag == false", false),
        ("flag == (process.pid == 7)", true),
        ("flag != (process.pid == 7)", false),
        ("attribution.state == 'resolved'", true),
        ("time == time", true),
        ("true", true),
        ("(false || true) && !false", true),
        ("has(container.name) && has(container)", true),
        ("container != null", true),
    ] {
        assert_eq!(check(when), [], "{when}");
        let (passed, filtered) = pass(when, ran(), &web());
        assert_eq!((passed, filtered), (usize::from(want), u64::from(!want)), "{when}");
    }
}

#[test]
fn field_that_an_event_lacks_is_null() {
    let event = bare();
    for (when, want) in [
        ("process.exit.code == 0", false),
        ("process.exit.code != 0", true),
        ("process.exit.code < 1", false),
        ("process.exit.code >= 1", false),
        ("process.exit.code in [0, 1]", false),
        ("process.exit.code in [null, 1]", true),
        ("!(process.exit.code == 0)", true),
        ("process.exit.code == null", true),
        ("null != process.exit.code", false),
        ("has(process.exit.code)", false),
        ("has(process.exit)", false),
        ("flag", false),
        ("!flag", true),
        ("flag == false", false),
        ("flag != true", true),
        ("'x' in process.command_args", false),
        ("container.name == 'web-1'", false),
        ("container.name != 'web-1'", true),
        ("container.name.startsWith('')", false),
        ("container == null", true),
        ("null == null", true),
        ("'a' != null", true),
        // Only other events have these fields.
        ("file.path == 'x'", false),
        ("file.path != 'x'", true),
        ("file.path.contains('x')", false),
        ("file.path == null", true),
        ("has(file.path)", false),
        ("has(file)", false),
    ] {
        assert_eq!(check(when), [], "{when}");
        let passed = pass(when, event.clone(), &Attribution::host(Evidence::Cgroup)).0;
        assert_eq!(passed, usize::from(want), "{when}");
    }
    assert_eq!(pass("file.path.endsWith('passwd')", opened(), &web()).0, 1);
    assert_eq!(pass("process.pid == 0", opened(), &web()).0, 0, "no process, no pid");
}

#[test]
fn mistakes_are_reported_with_place_and_hint() {
    for (when, at, message, hint) in [
        ("process.uid == 0", 0, "no incoming event has a field `process.uid`", "`process.user.id`"),
        ("true && pid == 1", 8, "no incoming event has a field `pid`", "`process.pid`"),
        ("process.parent_pd == 1", 0, "`process.parent_pd`", "did you mean `process.parent_pid`?"),
        ("kind == exec", 8, "no incoming event has a field `exec`", "write 'exec'"),
        (
            "process.pid == '7'",
            0,
            "`==` cannot compare `process.pid` (a number) with a string",
            "write 7 without quotes",
        ),
        ("process.comm == 7", 0, "`process.comm` (a string) with a number", "write '7' in quotes"),
        ("flag == 1", 0, "`flag` (a bool) with a number", "true or false"),
        ("flag < true", 0, "`<` cannot compare", ""),
        ("process.pid < null", 0, "with null", ""),
        ("container == 'web'", 0, "`container` (a group of fields)", "only be compared with null"),
        ("process.comm == ['a']", 0, "with a list", "in [a, b]"),
        ("process.command_args == 'a'", 0, "(a list) with a string", "element in list"),
        ("process.pid in ['7', 'a']", 0, "(a number) with a string", "write 7 without quotes"),
        ("process.pid in process.command_args", 0, "cannot contain `process.pid` (a number)", ""),
        ("'a' in process.comm", 7, "`in` needs a list on its right", "string.contains(part)"),
        ("process.pid", 0, "`process.pid` (a number) is not a condition", "compare it"),
        ("!process.comm", 1, "`process.comm` (a string) is not a condition", "compare it"),
        ("'a'", 0, "a string is not a condition", ""),
        ("null", 0, "null is not a condition", ""),
        ("process.comm.startWith('a')", 13, "no method `startWith`", "did you mean `startsWith`?"),
        ("process.comm.like('a')", 13, "no method `like`", "startsWith, endsWith"),
        ("process.comm.contains()", 13, "`contains` takes one string", ""),
        ("process.comm.contains(7)", 22, "`contains` takes one string, not a number", ""),
        ("process.pid.contains('7')", 12, "not of `process.pid` (a number)", ""),
        ("process.command_args.contains('a')", 21, "a list", "element in list"),
        ("has(nothing.at.all)", 4, "no incoming event has a field `nothing.at.all`", ""),
        ("a = 1", 2, "unexpected `=`", "write `==`"),
    ] {
        let problems = check(when);
        let problem = problems.first().unwrap_or_else(|| panic!("{when} has a problem"));
        assert_eq!((&*problem.key, problem.offset), ("when", Some(at)), "{when}: {problem:?}");
        assert!(problem.message.contains(message), "{when}: {problem:?}");
        assert!(!problem.message.ends_with(','), "{when}: {problem:?}");
        assert!(problem.hint.as_deref().unwrap_or("").contains(hint), "{when}: {problem:?}");
    }
}

#[test]
fn all_mistakes_are_reported_once() {
    let problems = check("process.uid == 0 || process.pid == 'a' && kind || nope in [nope2]");
    let at: Vec<_> = problems.iter().map(|problem| problem.offset.unwrap()).collect();
    assert_eq!(at, [0, 20, 42, 50, 59], "{problems:?}");
}

#[test]
fn type_is_checked_for_the_events_that_have_the_field() {
    assert_eq!(check("file.path == 1").len(), 1, "only one of the events has the field");
}

#[test]
fn events_that_pass_keep_their_order() {
    let events = (0..10).map(|pid| bare().by(process(pid, "true")));
    let mut filter = hosted("process.pid in [9, 2, 4]");
    filter.handle(ChainId::new(3), Batch::new("t".into(), events.collect())).unwrap();
    let (chain, batch) = &filter.outgoing[0];
    let pids: Vec<_> = batch.iter().map(|event| event.process().unwrap().pid).collect();
    assert_eq!((*chain, pids), (ChainId::new(3), vec![2, 4, 9]));
    assert_eq!(filter.counters().filtered.load(Relaxed), 7);
}

#[test]
fn events_of_an_unchecked_type_are_an_error() {
    let mut filter = hosted("flag == 1");
    let batch = Batch::new("t".into(), vec![ran()]);
    let error = filter.handle(ChainId::new(0), batch).unwrap_err();
    assert!(error.to_string().contains("does not fit ran events: `==` cannot compare"), "{error}");
    assert!(filter.outgoing.is_empty());
}

proptest! {
    #[test]
    fn any_condition_that_passes_the_check_can_be_run(
        parts in prop::collection::vec(prop::sample::select(vec![
            "process.pid", "process.comm", "flag", "file.path", "container",
            "process.command_args", "time", "==", "!=", "<", "in", "&&", "||", "!", "(", ")", "[",
            "]", ",", "'x'", "7", "null", "true", ".contains(", "has(",
        ]), 0..12),
    ) {
        let when = parts.join(" ");
        if check(&when).is_empty() {
            let (passed, filtered) = pass(&when, ran(), &web());
            prop_assert_eq!(passed as u64 + filtered, 1);
            pass(&when, opened(), &Attribution::unknown());
        }
    }
}
