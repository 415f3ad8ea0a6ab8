//! Running the end-to-end tests.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, ensure};
use serde_json::Value;

use crate::paths;
use crate::run::{self, Output, locked};
use crate::steps::{Context, E2E, cargo};

/// The modules that run alone. Their tests flood the machine, judge rates, or judge the events of
/// all containers or of all processes of a name, which other modules cause too.
///
/// The tests of all other modules judge only events that no other module causes: those of
/// containers and processes that they started, or mounts, signals and OOM kills.
const ALONE: [&str; 11] = [
    "files",
    "nats",
    "otlp",
    "podman",
    "recording",
    "reload",
    "scope",
    "sqlite",
    "stopping",
    "syscalls",
    "throttle",
];

/// The modules that take longest. They start first.
const LONGEST: [&str; 3] = ["third_party", "containers", "rules"];

/// How many other modules run at once. They wait for containers and timers half of the time.
const LANES: usize = 2;

/// How many of the slowest tests are named.
const SLOWEST: usize = 12;

/// Runs all of them. The tests have been built. All modules run, so that one failure does not hide
/// another.
pub(crate) fn run_all(context: &Context<'_>) -> Result<()> {
    let tests = Tests { context, program: program(context)?, times: Mutex::default() };
    let (alone, mut others): (Vec<String>, Vec<String>) =
        modules()?.into_iter().partition(|module| ALONE.contains(&&**module));
    // Stable: all others stay in their order.
    others.sort_by_key(|module| !LONGEST.contains(&&**module));
    let begin = Instant::now();
    let mut failures = tests.run_lanes(others, LANES);
    context.output.line(&format!("   side by side: {:.1} s", begin.elapsed().as_secs_f64()));
    let begin = Instant::now();
    failures.extend(tests.run_lanes(alone, 1));
    run::go_on()?;
    context.output.line(&format!("   alone: {:.1} s", begin.elapsed().as_secs_f64()));
    for (name, time) in slowest(&locked(&tests.times)) {
        context.output.line(&format!("   {:6.1} s  {name}", time.as_secs_f64()));
    }
    let failures: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    ensure!(failures.is_empty(), "end-to-end tests failed: {}", failures.join("; "));
    Ok(())
}

/// Returns the modules of the tests.
fn modules() -> Result<Vec<String>> {
    let main = fs::read_to_string(folder().join("e2e/main.rs"))?;
    let modules = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    Ok(modules.map(str::to_owned).collect())
}

/// Returns the folder of the tests' crate, in which cargo runs them.
fn folder() -> PathBuf {
    paths::root().join("tests")
}

/// Returns the path of the tests' program.
fn program(context: &Context<'_>) -> Result<PathBuf> {
    let mut command = cargo(&["test", "--locked", "--no-run", "--message-format=json"]);
    let mut program = None;
    context
        .lines(command.args(E2E), &mut |line| program = program.take().or_else(|| built(line)))?;
    program.context("cargo names no program of the end-to-end tests")
}

/// Returns the program that a message of cargo names, if it is that of the end-to-end tests.
fn built(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?;
    (name == "e2e").then(|| message["executable"].as_str().map(PathBuf::from))?
}

struct Tests<'a> {
    context: &'a Context<'a>,
    program: PathBuf,
    /// How long each test took.
    times: Mutex<Vec<(String, Duration)>>,
}

impl Tests<'_> {
    /// Runs modules, as many at once as there are lanes. Returns what failed.
    fn run_lanes(&self, modules: Vec<String>, lanes: usize) -> Vec<Error> {
        let waiting = Mutex::new(VecDeque::from(modules));
        let failures = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(|| {
                    while let Some(module) = next(&waiting) {
                        if let Err(error) = self.run(&module) {
                            locked(&failures).push(error.context(module));
                        }
                    }
                });
            }
        });
        failures.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a module's tests, one after another.
    fn run(&self, module: &str) -> Result<()> {
        let log = paths::target().join("xtask/logs/e2e").join(module).with_extension("log");
        let output = Output::held(&log)?;
        let mut command = Command::new(&self.program);
        command.current_dir(folder()).args(["--show-output", "--test-threads=1"]);
        command.arg(format!("{module}::"));
        let mut times = Times::default();
        let result =
            self.context.tests_to(self.context.prepare(&mut command)?, &output, &mut |line| {
                times.add(line);
            });
        output.release();
        locked(&self.times).extend(times.tests);
        result
    }
}

/// Takes the next module, if no interrupt came.
fn next(waiting: &Mutex<VecDeque<String>>) -> Option<String> {
    run::go_on().ok()?;
    locked(waiting).pop_front()
}

/// How long tests took that ran one after another: the time between two results.
#[derive(Default)]
struct Times {
    last: Option<Instant>,
    tests: Vec<(String, Duration)>,
}

impl Times {
    /// Reads a line such as `test aggregate::counts ... ok`.
    fn add(&mut self, line: &str) {
        if line.starts_with("running ") {
            self.last = Some(Instant::now());
        }
        let name = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
        if let (Some((name, _)), Some(last)) = (name, self.last) {
            self.tests.push((name.to_owned(), last.elapsed()));
            self.last = Some(Instant::now());
        }
    }
}

/// Returns the slowest tests, the slowest first.
fn slowest(tests: &[(String, Duration)]) -> Vec<&(String, Duration)> {
    let mut tests: Vec<_> = tests.iter().collect();
    tests.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    tests.truncate(SLOWEST);
    tests
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn modules_that_are_named_exist() {
        let modules = modules().unwrap();
        for module in ALONE.iter().chain(&LONGEST) {
            assert!(modules.iter().any(|known| known == module), "{module}");
        }
    }

    #[test]
    fn the_program_is_in_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"e2e"},"executable":"/e"}"#;
        assert_eq!(built(message).as_deref(), Some(Path::new("/e")));
        assert_eq!(built(&message.replace("\"e2e\"", "\"workload\"")), None);
        assert_eq!(built("   Compiling whalewatch-tests v0.1.0"), None);
    }

    #[test]
    fn only_results_are_timed() {
        let mut times = Times::default();
        for line in ["running 2 tests", "test a::b ... ok", "a line", "test c::d ... FAILED"] {
            times.add(line);
        }
        let names: Vec<_> = times.tests.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a::b", "c::d"]);
    }
}
