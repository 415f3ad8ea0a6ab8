//! Counts, sequences and first times follow the times of the events.

use proptest::prelude::*;

use super::*;

const COUNT: &str = r#"
    cooldown = "0s"
    [[rules]]
    name = "many"
    description = "the last was {file.path}"
    when = "kind == 'file.open' && has(error.code)"
    count = 3
    within = "1s"
    by = ["process"]
"#;

#[test]
fn count_within_a_time_alerts_with_the_newest_events() {
    let events = |gaps: [u64; 5]| {
        let event = |after: u64| {
            format!(
                r#"{{ kind = "file.open", pid = 5, "file.path" = "/{after}", "error.code" = 2, after = {after} }}"#
            )
        };
        lines(&gaps.map(event).join("\n"))
    };
    for (gaps, want) in [
        ([0, 400, 400, 400, 400], vec![3]),
        ([0, 400, 601, 400, 400], vec![3]),
        ([0, 600, 600, 600, 600], vec![]),
        ([0, 500, 500, 1500, 1], vec![3]),
    ] {
        let found = run(&only(COUNT), &events(gaps));
        let counts: Vec<_> = found.iter().map(|(alert, _)| alert.count).collect();
        assert_eq!(counts, want, "{gaps:?}");
    }
    let found = run(&only(COUNT), &events([0, 400, 401, 5000, 1]));
    let (alert, _) = &found[0];
    assert_eq!(alert.since.until(alert.time).as_millis(), 801);
    assert_eq!(list(&alert.events.pids), ["5", "5", "5"]);
    assert_eq!(list(&alert.events.lines).len(), 3);
    assert_eq!(&*alert.description, b"the last was /401");
}

#[test]
fn each_process_is_counted_separately() {
    let events = r#"
        { kind = "file.open", pid = 5, "error.code" = 2 }
        { kind = "file.open", pid = 6, "error.code" = 2 }
        { kind = "file.open", pid = 5, "error.code" = 2 }
        { kind = "file.open", pid = 6, "error.code" = 2 }
        { kind = "file.open", pid = 7, "error.code" = 2 }
    "#;
    assert_eq!(alerted(&only(COUNT), events), Vec::<String>::new());
}

#[test]
fn alert_of_many_events_has_eight_of_them() {
    let options = only(&COUNT.replace("count = 3", "count = 20"));
    let event = |i: u32| {
        format!(r#"{{ kind = "file.open", pid = 5, "file.path" = "/{i}", "error.code" = 2 }}"#)
    };
    let text: Vec<String> = (0..20).map(event).collect();
    let found = run(&options, &lines(&text.join("\n")));
    let (alert, _) = &found[0];
    assert_eq!(alert.count, 20);
    let lines = list(&alert.events.lines);
    let paths: Vec<_> = lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line["file"]["path"].as_str().expect("a path").to_owned())
        .collect();
    assert_eq!(paths, (12..20).map(|i| format!("/{i}")).collect::<Vec<_>>());
}

const SEQUENCE: &str = r#"
    cooldown = "0s"
    [[rules]]
    name = "drop"
    description = "{write.process.pid} wrote {write.file.path} with mode {mark.file.mode}, run as {process.pid}"
    within = "5s"
    by = ["container"]
    [[rules.steps]]
    name = "write"
    when = "kind == 'file.open' && file.access == 'write'"
    [[rules.steps]]
    name = "mark"
    when = "kind == 'file.permission' && file.path == write.file.path"
    [[rules.steps]]
    when = "kind == 'process.exec' && process.executable.path == mark.file.path && process.pid != write.process.pid"
"#;

const WRITE: &str =
    r#"{ kind = "file.open", pid = 5, "file.path" = "/a", "file.access" = "write" }"#;
const MARK: &str =
    r#"{ kind = "file.permission", pid = 5, "file.path" = "/a", "file.mode" = "0755" }"#;
const RUN: &str = r#"{ kind = "process.exec", pid = 6, "process.executable.path" = "/a" }"#;

#[test]
fn steps_need_order_and_time_and_can_refer_to_others() {
    let other = WRITE.replace("/a", "/b");
    let late = RUN.replace("pid = 6", "pid = 6, after = 6000");
    let own = RUN.replace("pid = 6", "pid = 5");
    let elsewhere = RUN.replace("pid = 6", "pid = 6, container = 'x'");
    for (events, want) in [
        (vec![WRITE, MARK, RUN], 1),
        (vec![WRITE, MARK, RUN, RUN], 1),
        (vec![WRITE, &other, MARK, &other, RUN], 1),
        (vec![WRITE, WRITE, MARK, MARK, RUN], 1),
        (vec![WRITE, MARK, RUN, WRITE, MARK, RUN], 2),
        (vec![MARK, WRITE, RUN], 0),
        (vec![WRITE, RUN, MARK], 0),
        (vec![&other, MARK, RUN], 0),
        (vec![WRITE, MARK, &late], 0),
        (vec![WRITE, MARK, &own, RUN], 1),
        (vec![WRITE, MARK, &elsewhere], 0),
    ] {
        let found = run(&only(SEQUENCE), &lines(&events.join("\n")));
        assert_eq!(found.len(), want, "{events:#?}");
        for (alert, _) in found {
            assert_eq!(list(&alert.events.kinds), ["file.open", "file.permission", "process.exec"]);
            assert_eq!(alert.count, 3);
            assert_eq!(
                String::from_utf8_lossy(&alert.description),
                "5 wrote /a with mode 0755, run as 6"
            );
        }
    }
}

#[test]
fn one_event_is_never_two_steps() {
    let options = only(
        r#"
        cooldown = "0s"
        [[rules]]
        name = "twice"
        within = "1s"
        steps = [{ when = "kind == 'file.open'" }, { when = "kind == 'file.open'" }]
        "#,
    );
    assert_eq!(alerted(&options, WRITE), Vec::<String>::new());
    assert_eq!(alerted(&options, &[WRITE, WRITE].join("\n")), ["twice"]);
}

#[test]
fn first_times_are_reported_once_and_not_while_learning() {
    let options = only(
        r#"
        [[rules]]
        name = "new"
        when = "kind == 'network.connect'"
        first = true
        learn = "1s"
        by = ["container.image.name", "network.peer.port"]
        "#,
    );
    let connect = |container: &str, port: u16, after: u64| {
        format!(
            r#"{{ kind = "network.connect", pid = 5, container = "{container}", "network.peer.port" = {port}, after = {after} }}"#
        )
    };
    let events = [
        connect("web1", 80, 0),
        connect("web1", 80, 2000),
        connect("web2", 80, 0),
        connect("web1", 443, 0),
        connect("web2", 443, 0),
        connect("db", 80, 0),
    ];
    let found = run(&options, &lines(&events.join("\n")));
    let found: Vec<_> = found
        .iter()
        .map(|(_, attribution)| attribution.container.as_ref().and_then(|c| c.name.clone()))
        .collect();
    assert_eq!(found, [Some("web1".into()), Some("db".into())]);
}

#[test]
fn state_is_bounded() {
    let options = |keys: u32| RulesOptions { max_keys: keys, ..only(COUNT) };
    let flood: Vec<String> = (10..60)
        .map(|pid| format!(r#"{{ kind = "file.open", pid = {pid}, "error.code" = 2, after = 1 }}"#))
        .collect();
    let twice = r#"{ kind = "file.open", pid = 5, "error.code" = 2, after = 1 }"#;
    let text = [&[twice.to_owned(), twice.to_owned()][..], &flood, &[twice.to_owned()]].concat();
    assert_eq!(alerted(&options(100), &text.join("\n")), ["many"]);
    assert_eq!(alerted(&options(50), &text.join("\n")), Vec::<String>::new(), "keys were evicted");
}

#[test]
fn alert_has_times_when_memory_for_events_is_full() {
    let options = RulesOptions { max_evidence_kib: 64, ..only(SEQUENCE) };
    let path = "x".repeat(4000);
    let fill: Vec<String> = (0..40)
        .map(|i| {
            let container = i / 10;
            format!(
                r#"{{ kind = "file.open", pid = 5, container = "c{container}", "file.path" = "/{i}{path}", "file.access" = "write" }}"#
            )
        })
        .collect();
    let text =
        [&fill[..], &[WRITE.to_owned(), MARK.to_owned(), RUN.to_owned()]].concat().join("\n");
    // Nothing fails. Whether the sequence is found depends on the remaining memory.
    for (alert, _) in run(&options, &lines(&text)) {
        assert_eq!(list(&alert.events.kinds).len(), 3);
    }
}

proptest! {
    /// Compares with a count that considers all events each time.
    #[test]
    fn counts_match_a_simple_model(gaps in prop::collection::vec(0_u64..700, 0..40)) {
        let event = |after: &u64| {
            format!(r#"{{ kind = "file.open", pid = 5, "error.code" = 2, after = {after} }}"#)
        };
        let text: Vec<String> = gaps.iter().map(event).collect();
        let found = alerted(&only(COUNT), &text.join("\n")).len();
        let (mut times, mut now, mut want) = (Vec::new(), 0, 0);
        for gap in gaps {
            now += gap;
            times.push(now);
            times.retain(|time| now - time <= 1000);
            if times.len() == 3 {
                want += 1;
                times.clear();
            }
        }
        prop_assert_eq!(found, want);
    }
}
