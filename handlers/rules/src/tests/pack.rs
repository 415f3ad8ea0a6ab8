//! The built-in rules: events that each must match, events that it must not match, and ordinary
//! activity that must cause no alerts.

use std::collections::BTreeSet;

use serde::Deserialize;
use whalewatch_core::{Event, Schema, TrackerSpec};
use whalewatch_trackers::Trackers;

use super::event::{AnyEvent, Line, host_mnt};
use super::*;
use crate::select::{pack, select};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

/// Events, and the rules that must match them.
#[derive(Deserialize)]
struct Case {
    about: String,
    #[serde(default)]
    alerts: Vec<String>,
    /// Rules that match a similar case, but must not match this one.
    #[serde(default)]
    not: Vec<String>,
    events: Vec<Line>,
    /// How often the last event comes, each time with a different number for `%` in its texts.
    #[serde(default = "once")]
    times: u32,
}

fn once() -> u32 {
    1
}

/// Processes that run on every host.
const HOST: &str = r#"
    { kind = "process.existing", pid = 1, ppid = 0, comm = "systemd" }
    { kind = "process.existing", pid = 20, ppid = 1, comm = "dockerd" }
    { kind = "process.existing", pid = 30, ppid = 1, comm = "containerd-shim" }
"#;

fn cases() -> Vec<Case> {
    let texts = [
        include_str!("cases/processes.toml"),
        include_str!("cases/files.toml"),
        include_str!("cases/network.toml"),
        include_str!("cases/escapes.toml"),
        include_str!("cases/ordinary.toml"),
    ];
    let host = host_mnt().to_string();
    let read = |text: &str| {
        let text = text.replace("HOST_MNT", &host);
        toml::from_str::<Cases>(&text).unwrap_or_else(|error| panic!("{error}")).cases
    };
    texts.into_iter().flat_map(read).collect()
}

impl Case {
    fn lines(&self) -> Vec<Line> {
        let mut all = lines(HOST);
        let (last, others) = self.events.split_last().expect("events");
        all.extend(others.iter().cloned());
        all.extend((0..self.times).map(|i| last.clone().numbered(i)));
        all
    }
}

#[test]
fn each_case_gives_exactly_its_alerts_with_the_whole_pack() {
    let mut wrong = Vec::new();
    for case in cases() {
        let found = run(&RulesOptions::default(), &case.lines());
        let mut found: Vec<&str> = found.iter().map(|(alert, _)| &*alert.facts.rule).collect();
        found.sort_unstable();
        let mut wanted: Vec<&str> = case.alerts.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        if found != wanted {
            wrong.push(format!("{}: {found:?}, not {wanted:?}", case.about));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_has_positive_and_negative_cases() {
    let names: BTreeSet<String> = pack().map(|written| written.rule.name).collect();
    assert!(names.len() >= 15, "{names:?}");
    let cases = cases();
    let shown: BTreeSet<String> = cases.iter().flat_map(|case| case.alerts.clone()).collect();
    let not: BTreeSet<String> = cases.iter().flat_map(|case| case.not.clone()).collect();
    assert_eq!(
        names.difference(&shown).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "rules without a positive case"
    );
    assert_eq!(
        names.difference(&not).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "rules without a negative case"
    );
    for case in &cases {
        let both = case.not.iter().filter(|name| case.alerts.contains(name)).count();
        let unknown = case.not.iter().filter(|name| !names.contains(*name)).count();
        assert_eq!((both, unknown), (0, 0), "{}", case.about);
    }
}

/// The schemas of all trackers.
struct Schemas(Vec<Schema>);

impl Trackers for Schemas {
    fn take<T: TrackerSpec>(&mut self, _: &'static str) {
        self.0.push(Schema::of::<T::Event>());
    }
}

fn schemas() -> Vec<Schema> {
    let mut schemas = Schemas(Vec::new());
    whalewatch_trackers::each(&mut schemas);
    schemas.0
}

#[test]
fn every_rule_can_match_events_of_the_trackers() {
    let selection = select(&RulesOptions::default(), None, &schemas());
    assert_eq!(selection.problems, []);
    assert_eq!(selection.idle, Vec::<String>::new());
    assert_eq!(selection.rules.len(), pack().count());
    for rule in pack().map(|written| written.rule) {
        assert!(!rule.description.is_empty() && !rule.tags.is_empty(), "{}", rule.name);
    }
}

#[test]
fn events_of_cases_have_the_fields_of_the_trackers() {
    let schemas = schemas();
    for kind in AnyEvent::KINDS {
        assert!(schemas.iter().any(|schema| schema.kinds.contains(kind)), "{kind}");
    }
    for field in AnyEvent::FIELDS {
        let (name, ty) = (field.info.name, field.info.ty);
        let found = schemas.iter().any(|s| s.find(name).is_some_and(|(info, _)| info.ty == ty));
        assert!(found, "{name} {ty:?}");
    }
}

#[test]
fn rules_about_events_that_do_not_come_in_are_idle() {
    let process: Vec<Schema> = schemas().into_iter().filter(|s| s.name == "process").collect();
    let selection = select(&RulesOptions::default(), None, &process);
    assert_eq!(selection.problems, []);
    assert!(selection.rules.iter().any(|rule| rule.name == "shell-from-server"));
    assert!(selection.idle.iter().any(|name| name == "write-below-etc"), "{:?}", selection.idle);
    assert!(selection.idle.iter().any(|name| name == "reverse-shell"), "{:?}", selection.idle);
}

#[test]
fn documentation_lists_every_rule() {
    let page = include_str!("../../../../docs/handlers/rules.md");
    for rule in pack().map(|written| written.rule) {
        let row = format!("| `{}` | {} |", rule.name, rule.severity.as_str());
        assert!(page.contains(&row), "docs/handlers/rules.md has no row {row}");
    }
}
