//! Running the end-to-end tests.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::steps::{Context, E2E, cargo};

/// The modules whose tests run beside each other. All others run one at a time: each test watches
/// the whole machine, and some flood it, count what it does, or measure.
///
/// A module belongs here if its tests make few events, and judge only events of containers and
/// processes that they started, which have names and arguments that no other test uses.
const SIDE_BY_SIDE: [&str; 4] = ["command_line", "exec", "prometheus", "webhook"];

/// How many of these run at once. They wait for containers and timers most of the time.
const THREADS: usize = 3;

/// How many of the slowest tests are named.
const SLOWEST: usize = 12;

/// Runs all of them. The tests have been built.
pub(crate) fn run_all(context: &Context<'_>) -> Result<()> {
    let paths = SIDE_BY_SIDE.map(|module| format!("{module}::"));
    let one_by_one = paths.iter().flat_map(|path| ["--skip", path]).collect::<Vec<_>>();
    let side_by_side = paths.iter().map(String::as_str).collect::<Vec<_>>();
    // Both parts run, so that one failure does not hide another.
    let first = run(context, THREADS, &side_by_side);
    let second = run(context, 1, &one_by_one);
    first.and(second).context("an end-to-end test failed")
}

fn run(context: &Context<'_>, threads: usize, filter: &[&str]) -> Result<()> {
    let mut command = cargo(&["test", "--locked"]);
    command.args(E2E).args(["--", "--show-output"]);
    command.arg(format!("--test-threads={threads}")).args(filter);
    let mut times = Times::default();
    let result = context.tests_with(context.prepare(&mut command)?, &mut |line| times.add(line));
    if threads == 1 {
        times.slowest().for_each(|(name, time)| {
            context.output.line(&format!("   {:6.1} s  {name}", time.as_secs_f64()));
        });
    }
    result
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

    fn slowest(mut self) -> impl Iterator<Item = (String, Duration)> {
        self.tests.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        self.tests.into_iter().take(SLOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn modules_that_run_side_by_side_exist() {
        let main = std::fs::read_to_string(paths::root().join("tests/e2e/main.rs")).unwrap();
        for module in SIDE_BY_SIDE {
            assert!(main.contains(&format!("\nmod {module};\n")), "{module}");
        }
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
