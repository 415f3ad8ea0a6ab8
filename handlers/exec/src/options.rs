//! Options of the `exec` handler.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem};

/// Shortest pause before a program is started again.
const SHORTEST: Duration = Duration::from_millis(10);
/// The longest that anything can be waited for.
const LONGEST: Duration = Duration::from_hours(24);

/// Options of the `exec` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOptions {
    /// The program and its arguments, as a list: no shell looks at them. A name without a slash is
    /// looked for in `PATH`.
    pub command: Vec<String>,
    /// Variables that are set in its environment, beside those that Whalewatch has.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The folder that it runs in; Whalewatch's own if left out.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// What becomes of what it prints: `pass` passes it on to Whalewatch's own standard output, in
    /// whole lines, `discard` throws it away. What it says on standard error goes to Whalewatch's
    /// diagnostics, as warnings, in any case.
    #[serde(default)]
    pub stdout: ProgramOutput,
    /// How long after its end it is started again; at least `10ms`. Doubled each time up to
    /// `restart_at_most`, until it has run for that long.
    #[serde(default = "one_second")]
    pub restart_after: HumanDuration,
    /// The longest pause before it is started again; at most `24h`, as all durations here.
    #[serde(default = "half_a_minute")]
    pub restart_at_most: HumanDuration,
    /// How long events wait for a program that reads nothing, or is not back yet, during which
    /// nothing more is taken in. After that, events are dropped and counted until it reads again.
    #[serde(default = "ten_seconds")]
    pub wait_at_most: HumanDuration,
    /// How long it may take at the end to read the rest, see the end of its input, and end. Then it
    /// is sent SIGTERM, and SIGKILL two seconds later.
    #[serde(default = "five_seconds")]
    pub end_within: HumanDuration,
}

/// What becomes of what the program prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProgramOutput {
    /// It goes to Whalewatch's own standard output.
    #[default]
    Pass,
    /// It goes nowhere.
    Discard,
}

fn one_second() -> HumanDuration {
    HumanDuration(Duration::from_secs(1))
}

fn five_seconds() -> HumanDuration {
    HumanDuration(Duration::from_secs(5))
}

fn ten_seconds() -> HumanDuration {
    HumanDuration(Duration::from_secs(10))
}

fn half_a_minute() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}

impl ExecOptions {
    /// Lines to this program, and the defaults for all else.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            directory: None,
            stdout: ProgramOutput::Pass,
            restart_after: one_second(),
            restart_at_most: half_a_minute(),
            wait_at_most: ten_seconds(),
            end_within: five_seconds(),
        }
    }

    /// What is wrong with them.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.command.first().is_none_or(String::is_empty) {
            let hint = "write for example [\"python3\", \"count.py\"]";
            problems.push(Problem::new("command", "it names no program").hint(hint));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            problems.push(
                Problem::new("command", "an argument cannot have a NUL byte").hint("take it out"),
            );
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let message = format!("{name:?} cannot be a variable, or cannot have that value");
                let hint = "a name is not empty and has no \"=\"; neither has a NUL byte";
                problems.push(Problem::new("env", message).hint(hint));
            }
        }
        for (key, duration, least) in [
            ("restart_after", self.restart_after, SHORTEST),
            ("restart_at_most", self.restart_at_most, Duration::ZERO),
            ("wait_at_most", self.wait_at_most, Duration::ZERO),
            ("end_within", self.end_within, Duration::ZERO),
        ] {
            problems.extend(Problem::check_range(key, duration.0, least..=LONGEST));
        }
        if self.restart_at_most < self.restart_after {
            let (most, after) = (self.restart_at_most, self.restart_after);
            let message = format!("{most} is shorter than restart_after, which is {after}");
            let hint = "make it at least as long";
            problems.push(Problem::new("restart_at_most", message).hint(hint));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_has_to_be_there() {
        let parse = serde_json::from_str::<ExecOptions>;
        assert_eq!(parse(r#"{"command":["a","b"]}"#).unwrap(), ExecOptions::new(["a", "b"]));
        assert!(parse("{}").unwrap_err().to_string().contains("command"));
        assert!(parse(r#"{"command":["a"],"comand":1}"#).is_err());
        assert_eq!(ExecOptions::new(["a"]).check(), []);
    }

    #[test]
    fn every_mistake_is_told_with_how_to_mend_it() {
        let wrong = ExecOptions {
            command: vec![String::new(), "\0".to_owned()],
            env: BTreeMap::from([("A=B".to_owned(), String::new())]),
            restart_after: HumanDuration(Duration::from_millis(1)),
            restart_at_most: HumanDuration(Duration::ZERO),
            ..ExecOptions::new([""])
        };
        let problems = wrong.check();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["command", "command", "env", "restart_after", "restart_at_most"]);
        assert!(problems.iter().all(|problem| problem.hint.is_some()));
        assert_eq!(ExecOptions::new([""; 0]).check().len(), 1);
        let forever = HumanDuration(Duration::MAX);
        let patient = ExecOptions {
            restart_after: forever,
            restart_at_most: forever,
            wait_at_most: forever,
            end_within: forever,
            ..ExecOptions::new(["a"])
        };
        assert_eq!(patient.check().len(), 4);
    }
}
