//! Which events rules match, and which they do not.

mod event;
mod order;
mod pack;
mod problems;
mod windows;

use serde::Deserialize;
use whalewatch_core::{Attribution, Batch, Handler};
use whalewatch_testing::Bench;

use crate::{Alert, Rules, RulesOptions};
use event::{AnyEvent, Line, batches};

/// Parses options.
fn options(text: &str) -> RulesOptions {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Options with custom rules only.
fn only(rules: &str) -> RulesOptions {
    options(&format!("pack = false\n{rules}"))
}

/// Parses events: one inline table a line.
fn lines(text: &str) -> Vec<Line> {
    #[derive(Deserialize)]
    struct Events {
        events: Vec<Line>,
    }
    let rows = text.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with('#'));
    let rows: Vec<&str> = rows.collect();
    let text = format!("events = [\n{}\n]", rows.join(",\n"));
    toml::from_str::<Events>(&text).unwrap_or_else(|error| panic!("{error}: {text}")).events
}

/// Delivers events as a run would: those of the process tracker first to `observe`, then
/// all of them, except existing processes, along a chain.
fn deliver(bench: &mut Bench<Rules>, lines: &[Line]) {
    for (line, batch) in lines.iter().zip(batches(lines)) {
        if line.is_of_process() {
            bench.observe(&batch).expect("handler observes");
        }
        if !line.existed() {
            bench.handle(batch).expect("handler takes it");
        }
    }
}

/// The alerts, in the order of output.
fn alerts(bench: &Bench<Rules>) -> Vec<(Alert, Attribution)> {
    let of = |batch: &Batch| {
        let typed = batch.typed::<Alert>().into_iter().flatten();
        typed.map(|(alert, attribution)| (alert.clone(), attribution.clone())).collect::<Vec<_>>()
    };
    bench.out.iter().flat_map(of).collect()
}

/// Runs events through the rules and returns the alerts.
fn run(options: &RulesOptions, lines: &[Line]) -> Vec<(Alert, Attribution)> {
    let mut bench = Bench::<Rules>::new::<AnyEvent>(options).expect("valid options");
    deliver(&mut bench, lines);
    bench.end().expect("handler ends");
    assert!(bench.adds_up(), "{:?}", bench.counters);
    alerts(&bench)
}

/// Returns the names of the rules that matched, in order.
fn alerted(options: &RulesOptions, text: &str) -> Vec<String> {
    run(options, &lines(text)).iter().map(|(alert, _)| alert.facts.rule.clone()).collect()
}

/// Splits a list of texts.
fn list(bytes: &[u8]) -> Vec<String> {
    let texts = whalewatch_core::Texts(bytes).iter();
    texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

#[test]
fn alert_has_its_event_process_and_container() {
    let options = only(
        r#"
        [[rules]]
        name = "read"
        severity = "high"
        description = "{process.comm} of {parent.comm} in {container.name} on {host.name}: {file.path}"
        tags = ["a", "b"]
        when = "kind == 'file.open' && file.path.startsWith('/etc/') && 'init' in ancestors.comm"
        "#,
    );
    let found = run(
        &options,
        &lines(
            r#"
            { kind = "process.existing", pid = 1, ppid = 0, comm = "init" }
            { kind = "process.fork", pid = 5, ppid = 1, comm = "init", container = "web1" }
            { kind = "process.exec", pid = 5, ppid = 1, comm = "nginx", container = "web1", "process.executable.path" = "/bin/nginx", "process.command_args" = ["nginx", "-g"] }
            { kind = "process.fork", pid = 6, ppid = 5, comm = "nginx", container = "web1" }
            { kind = "file.open", pid = 6, ppid = 5, comm = "nginx", container = "web1", "file.path" = "/etc/pass\u001bwd" }
            { kind = "file.open", pid = 6, ppid = 5, comm = "nginx", container = "web1", "file.path" = "/srv/a" }
            "#,
        ),
    );
    let [(alert, attribution)] = &found[..] else { panic!("one alert: {found:#?}") };
    assert_eq!(
        String::from_utf8_lossy(&alert.description),
        r"nginx of nginx in web1 on node-1: /etc/pass\x1bwd"
    );
    assert_eq!((&*alert.facts.rule, alert.facts.severity.level()), ("read", 4));
    assert_eq!(list(&alert.facts.tags), ["a", "b"]);
    assert_eq!((alert.count, alert.repeats, alert.since), (1, 0, alert.time));
    assert_eq!(alert.process.map(|process| process.pid), Some(6));
    assert_eq!(attribution.container.as_ref().and_then(|c| c.name.as_deref()), Some("web1"));
    assert_eq!(list(&alert.events.kinds), ["file.open"]);
    assert_eq!(list(&alert.events.pids), ["6"]);
    assert_eq!(list(&alert.events.times), ["2026-11-23T13:46:20.050000000Z"]);
    let [line] = &list(&alert.events.lines)[..] else { panic!("one line") };
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["file"]["path"], "/etc/pass\u{1b}wd");
    assert_eq!(line["container"]["name"], "web1");
    // A forked process runs its parent's program.
    assert_eq!(alert.about.path.as_deref(), Some(&b"/bin/nginx"[..]));
    assert_eq!(alert.about.args.as_deref(), Some(&b"nginx\0-g\0"[..]));
    assert_eq!(alert.about.ancestors.as_deref(), Some(&b"nginx\0init\0"[..]));
}

#[test]
fn events_are_passed_on_only_if_configured() {
    let rules = "[[rules]]\nname = 'a'\nwhen = \"process.comm == 'x'\"";
    let events = r#"
        { kind = "file.open", pid = 5, comm = "x" }
        { kind = "file.open", pid = 5, comm = "y" }
    "#;
    for (pass, passed, filtered) in [(true, 2, 0), (false, 0, 2)] {
        let mut bench = Bench::<Rules>::new::<AnyEvent>(&RulesOptions { pass, ..only(rules) })
            .expect("valid options");
        deliver(&mut bench, &lines(events));
        bench.end().expect("handler ends");
        let own = bench.out.iter().filter(|batch| batch.event_name() == "any");
        assert_eq!(own.map(Batch::len).sum::<usize>(), passed);
        assert_eq!(bench.count(|c| &c.filtered), filtered);
        assert_eq!(bench.count(|c| &c.added), 1);
        assert!(bench.adds_up());
    }
}

#[test]
fn rule_is_quiet_during_cooldown_and_counts_repeats() {
    let options = only(
        "cooldown = '1s'\n[[rules]]\nname = 'a'\nwhen = \"process.comm == 'x'\"\nby = ['process']",
    );
    let found = run(
        &options,
        &lines(
            r#"
            { kind = "file.open", pid = 5, comm = "x" }
            { kind = "file.open", pid = 5, comm = "x", after = 900 }
            { kind = "file.open", pid = 6, comm = "x" }
            { kind = "file.open", pid = 5, comm = "x" }
            { kind = "file.open", pid = 5, comm = "x", after = 200 }
            { kind = "file.open", pid = 5, comm = "x", after = 2000 }
            "#,
        ),
    );
    let found: Vec<_> = found.iter().map(|(a, _)| (a.process.map(|p| p.pid), a.repeats)).collect();
    assert_eq!(found, [(Some(5), 0), (Some(6), 0), (Some(5), 2), (Some(5), 0)]);
}

#[test]
fn exceptions_are_applied() {
    let options = options(
        r#"
        pack = false
        [except]
        a = "container.name == 'ci' || parent.comm == 'cron'"
        [[rules]]
        name = "a"
        when = "kind == 'file.open'"
        "#,
    );
    let events = r#"
        { kind = "process.existing", pid = 9, comm = "cron" }
        { kind = "file.open", pid = 5, container = "ci" }
        { kind = "file.open", pid = 6, ppid = 9, container = "web" }
        { kind = "file.open", pid = 7, container = "db" }
    "#;
    let found = run(&options, &lines(events));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.process.map(|process| process.pid), Some(7));
}

#[test]
fn declaration_has_the_process_tracker_and_alerts() {
    assert_eq!(Rules::DECLARATION.properties().observed, ["process"]);
    assert_eq!(Rules::DECLARATION.added(&RulesOptions::default())[0].kinds, ["alert"]);
}
