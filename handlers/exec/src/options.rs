//! Options of the `exec` handler.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem};

/// The shortest pause before a restart.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// The longest duration of all options.
const MAX_DURATION: Duration = Duration::from_hours(24);

/// Options of the `exec` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecOptions {
    /// The program and its arguments, as a list; no shell interprets them. A name without a slash
    /// is searched for in `PATH`.
    pub command: Vec<String>,
    /// Environment variables for the program, in addition to those of Whalewatch.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The program's working folder. Default: that of Whalewatch.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Where the program's standard output goes: `pass` copies it to Whalewatch's standard output,
    /// in whole lines; `discard` discards it. Its standard error always becomes warnings in
    /// Whalewatch's log.
    #[serde(default)]
    pub stdout: ProgramOutput,
    /// The pause between the end of the program and its restart: 10ms to 24h. It doubles each time
    /// up to `restart_at_most`, and starts over once the program has run for that long.
    #[serde(default = "one_second")]
    pub restart_after: HumanDuration,
    /// The longest pause before a restart: at most 24h, and not less than `restart_after`.
    #[serde(default = "half_a_minute")]
    pub restart_at_most: HumanDuration,
    /// How long the handler waits for a program that reads nothing or has not restarted yet, and
    /// accepts no further events: 0s to 24h. After that, events are dropped and counted until the
    /// program reads again.
    #[serde(default = "ten_seconds")]
    pub wait_at_most: HumanDuration,
    /// How long the program may take at the end to read the waiting lines and exit: 0s to 24h.
    /// After that it gets SIGTERM, and two seconds later SIGKILL.
    #[serde(default = "five_seconds")]
    pub end_within: HumanDuration,
}

/// Where the program's standard output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProgramOutput {
    /// To Whalewatch's standard output.
    #[default]
    Pass,
    /// Nowhere.
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
    /// Creates options that start this program, with defaults for everything else.
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

    /// Returns all mistakes in the options.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.command.first().is_none_or(String::is_empty) {
            let hint = "write for example [\"python3\", \"count.py\"]";
            problems.push(Problem::new("command", "no program is named").hint(hint));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            let message = "an argument contains a NUL byte";
            problems.push(Problem::new("command", message).hint("remove it"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                let message = format!("{name:?} is not a valid environment variable");
                let hint = "the name must not be empty or contain \"=\"; neither the name nor the \
                            value may contain a NUL byte";
                problems.push(Problem::new("env", message).hint(hint));
            }
        }
        for (key, duration, min) in [
            ("restart_after", self.restart_after, MIN_PAUSE),
            ("restart_at_most", self.restart_at_most, Duration::ZERO),
            ("wait_at_most", self.wait_at_most, Duration::ZERO),
            ("end_within", self.end_within, Duration::ZERO),
        ] {
            problems.extend(Problem::check_range(key, duration.0, min..=MAX_DURATION));
        }
        if self.restart_at_most < self.restart_after {
            let (max, after) = (self.restart_at_most, self.restart_after);
            let message = format!("{max} is shorter than restart_after, {after}");
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
    fn only_the_command_is_required() {
        let parse = serde_json::from_str::<ExecOptions>;
        assert_eq!(parse(r#"{"command":["a","b"]}"#).unwrap(), ExecOptions::new(["a", "b"]));
        assert!(parse("{}").unwrap_err().to_string().contains("command"));
        assert!(parse(r#"{"command":["a"],"comand":1}"#).is_err());
        assert_eq!(ExecOptions::new(["a"]).check(), []);
    }

    #[test]
    fn every_mistake_is_reported_with_a_hint() {
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
        let too_long = ExecOptions {
            restart_after: forever,
            restart_at_most: forever,
            wait_at_most: forever,
            end_within: forever,
            ..ExecOptions::new(["a"])
        };
        assert_eq!(too_long.check().len(), 4);
    }
}
