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

/// Run the tests that stand in a configuration file: recorded events in, expected events out
#[derive(Args)]
pub(crate) struct Test {
    /// The configuration
    file: PathBuf,
    /// Run only the tests whose names contain this
    #[arg(value_name = "NAME")]
    only: Option<String>,
}

/// Events of the output that a failure shows at most.
const SHOWN: usize = 10;

impl Test {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let plan = match load(registry, &self.file) {
            Ok(plan) => plan,
            Err(code) => return Ok(code),
        };
        let chosen = |name: &str| self.only.as_ref().is_none_or(|only| name.contains(&**only));
        let tests: Vec<_> = plan.tests().iter().filter(|test| chosen(&test.name)).collect();
        if tests.is_empty() {
            say("error: there is no such test: add [[tests]] with name, recording and expect");
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
    // Lines are what people know the events by, and what they write their expectations from.
    let mut json = Json::new("test");
    let mut came: Vec<Value> = Vec::new();
    let mut line = Vec::new();
    let mut take = |chain: &str, batch: &whalewatch_core::Batch| {
        if test.chain.as_ref().is_some_and(|only| only != chain) {
            return;
        }
        let plan = json.plan(batch);
        for event in batch.iter() {
            line.clear();
            json.event(&mut line, plan, event);
            came.extend(serde_json::from_slice::<Value>(&line).ok());
        }
    };
    let path = folder.join(&test.recording);
    Replay::new(registry, plan, &path).collect(&mut take).map_err(|error| format!("  {error}"))?;
    compare(test, &came)
}

/// Each expectation has to be met by an event, in their order; with `only`, no other event may have
/// come.
fn compare(test: &PlannedTest, came: &[Value]) -> Result<(), String> {
    let mut rest = came.iter();
    let mut unexpected = Vec::new();
    for (number, expected) in (1..).zip(&test.expect) {
        let mut passed = Vec::new();
        loop {
            match rest.next() {
                Some(event) if meets(event, expected) => break,
                Some(event) => passed.push(event),
                None => {
                    let expected = Value::Object(expected.clone().into_iter().collect());
                    let mut why = format!("  expectation {number} was met by no event: {expected}");
                    show(&mut why, "events that came after the one before", &passed);
                    return Err(why);
                }
            }
        }
        unexpected.extend(passed);
    }
    unexpected.extend(rest);
    if test.only && !unexpected.is_empty() {
        let mut why = String::from("  events came that nobody expected");
        show(&mut why, "they are", &unexpected);
        return Err(why);
    }
    Ok(())
}

fn show(text: &mut String, what: &str, events: &[&Value]) {
    write!(text, "\n  {what}: {}", events.len()).ok(); // Writing to a string cannot fail.
    for event in events.iter().take(SHOWN) {
        write!(text, "\n    {event}").ok();
    }
    if events.len() > SHOWN {
        text.push_str("\n    …");
    }
}

/// Whether an event has all that is expected, by dotted names or nested as it is printed.
fn meets(event: &Value, expected: &std::collections::BTreeMap<String, Value>) -> bool {
    expected.iter().all(|(name, value)| {
        let found = event.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null);
        has(found, value)
    })
}

fn has(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| has(found.get(name).unwrap_or(&Value::Null), value))
        }
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
    fn expectations_are_met_in_their_order() {
        let came = [
            json!({"kind": "a", "process": {"pid": 1}, "container": null}),
            json!({"kind": "b", "process": {"pid": 2, "comm": "x"}}),
            json!({"kind": "a", "process": {"pid": 3}}),
        ];
        let check = |expect: Value, only| compare(&test(&expect, only), &came);
        assert_eq!(check(json!([{"kind": "a"}, {"process.pid": 3}]), false), Ok(()));
        assert_eq!(check(json!([{"kind": "b", "process": {"comm": "x"}}]), false), Ok(()));
        assert_eq!(check(json!([{"kind": "a"}, {"kind": "b"}, {"kind": "a"}]), true), Ok(()));
        assert_eq!(check(json!([]), false), Ok(()));
        let order = check(json!([{"kind": "b"}, {"process.pid": 1}]), false).unwrap_err();
        assert!(
            order.contains("expectation 2 was met by no event: {\"process.pid\":1}"),
            "{order}"
        );
        assert!(order.contains("came after the one before: 1\n    {\"kind\":\"a\""), "{order}");
        let more = check(json!([{"kind": "a"}]), true).unwrap_err();
        assert!(more.contains("they are: 2"), "{more}");
    }
}
