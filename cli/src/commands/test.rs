//! `whalewatch test`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use whalewatch_engine::plan::PlannedTest;
use whalewatch_engine::{Plan, Registry, Replay};
use whalewatch_kit::Json;

use crate::commands::load;
use crate::say::say;

/// Run the tests in a configuration file: recorded events in, expected events out
#[derive(Args)]
pub(crate) struct Test {
    /// Configuration file
    file: PathBuf,
    /// Run only tests whose names contain this text
    #[arg(value_name = "NAME")]
    only: Option<String>,
}

/// Largest number of output events that a failure shows.
const MAX_SHOWN: usize = 10;

impl Test {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let plan = match load(registry, &self.file) {
            Ok(plan) => plan,
            Err(code) => return Ok(code),
        };
        let chosen = |name: &str| self.only.as_ref().is_none_or(|only| name.contains(&**only));
        let tests: Vec<_> = plan.tests().iter().filter(|test| chosen(&test.name)).collect();
        if tests.is_empty() {
            match &self.only {
                Some(only) if !plan.tests().is_empty() => say(format_args!(
                    "error: no test has a name that contains {only:?}: check the name"
                )),
                _ => say("error: no test to run: add [[tests]] with name, recording and expect"),
            }
            return Ok(ExitCode::from(crate::BAD_USAGE));
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let (mut out, mut failed) = (io::stdout().lock(), 0);
        for test in &tests {
            match run_one(registry, &plan, test, folder) {
                Ok(()) => writeln!(out, "test {} ... ok", test.name)?,
                Err(why) => {
                    failed += 1;
                    writeln!(out, "test {} ... FAILED\n{why}", test.name)?;
                }
            }
        }
        writeln!(out, "{} passed, {failed} failed", tests.len() - failed)?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn run_one(
    registry: &Registry,
    plan: &Plan,
    test: &PlannedTest,
    folder: &Path,
) -> Result<(), String> {
    // Expectations are written from JSON lines, so the events are compared in that form.
    let mut json = Json::new("test");
    let mut output: Vec<Value> = Vec::new();
    let mut line = Vec::new();
    let mut take = |chain: &str, batch: &whalewatch_core::Batch| {
        if test.chain.as_ref().is_some_and(|only| only != chain) {
            return;
        }
        let plan = json.plan(batch);
        for event in batch.iter() {
            line.clear();
            json.event(&mut line, plan, event);
            output.extend(serde_json::from_slice::<Value>(&line).ok());
        }
    };
    let path = folder.join(&test.recording);
    Replay::new(registry, plan, &path).collect(&mut take).map_err(|error| format!("  {error}"))?;
    compare(test, &output)
}

/// Compares a test's output with its expectations. Each expectation must match an event, in order;
/// with `only`, there must be no other event.
fn compare(test: &PlannedTest, output: &[Value]) -> Result<(), String> {
    let mut rest = output.iter();
    let mut unexpected = Vec::new();
    for (number, expected) in (1..).zip(&test.expect) {
        let mut passed = Vec::new();
        loop {
            match rest.next() {
                Some(event) if matches(event, expected) => break,
                Some(event) => passed.push(event),
                None => {
                    let expected = Value::Object(expected.clone().into_iter().collect());
                    let mut why = format!("  no event matches expectation {number}: {expected}");
                    let title = if number == 1 {
                        "events in the output"
                    } else {
                        "events after the previous match"
                    };
                    show(&mut why, title, &passed);
                    return Err(why);
                }
            }
        }
        unexpected.extend(passed);
    }
    unexpected.extend(rest);
    if test.only && !unexpected.is_empty() {
        let mut why = String::from("  the output has events that are not expected");
        show(&mut why, "unexpected events", &unexpected);
        return Err(why);
    }
    Ok(())
}

/// Appends a title, the number of events, and the first of them.
fn show(text: &mut String, title: &str, events: &[&Value]) {
    write!(text, "\n  {title}: {}", events.len()).ok(); // Writing to a string cannot fail.
    for event in events.iter().take(MAX_SHOWN) {
        write!(text, "\n    {event}").ok();
    }
    if events.len() > MAX_SHOWN {
        text.push_str("\n    …");
    }
}

/// Whether an event has every expected field. Fields are named by dotted names, or nested as in the
/// output.
fn matches(event: &Value, expected: &std::collections::BTreeMap<String, Value>) -> bool {
    expected.iter().all(|(name, value)| {
        let found = event.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null);
        contains(found, value)
    })
}

fn contains(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected
            .iter()
            .all(|(name, value)| contains(found.get(name).unwrap_or(&Value::Null), value)),
        (Value::Number(found), Value::Number(expected)) => {
            found.as_i128() == expected.as_i128() && found.as_f64() == expected.as_f64()
        }
        _ => found == expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn test(expect: &Value, only: bool) -> PlannedTest {
        let expect = serde_json::from_value(expect.clone()).unwrap();
        PlannedTest { name: "t".into(), recording: "r".into(), chain: None, expect, only }
    }

    #[test]
    fn expectations_match_in_order() {
        let output = [
            json!({"kind": "a", "process": {"pid": 1}, "container": null}),
            json!({"kind": "b", "process": {"pid": 2, "comm": "x"}}),
            json!({"kind": "a", "process": {"pid": 3}}),
        ];
        let check = |expect: Value, only| compare(&test(&expect, only), &output);
        assert_eq!(check(json!([{"kind": "a"}, {"process.pid": 3}]), false), Ok(()));
        assert_eq!(check(json!([{"kind": "b", "process": {"comm": "x"}}]), false), Ok(()));
        assert_eq!(check(json!([{"kind": "a"}, {"kind": "b"}, {"kind": "a"}]), true), Ok(()));
        assert_eq!(check(json!([]), false), Ok(()));
        let order = check(json!([{"kind": "b"}, {"process.pid": 1}]), false).unwrap_err();
        assert!(order.contains("no event matches expectation 2: {\"process.pid\":1}"), "{order}");
        assert!(order.contains("after the previous match: 1\n    {\"kind\":\"a\""), "{order}");
        let more = check(json!([{"kind": "a"}]), true).unwrap_err();
        assert!(more.contains("unexpected events: 2"), "{more}");
    }
}
