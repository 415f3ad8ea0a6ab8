//! The steps of `cargo xtask test`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use whalewatch_tests::dockerd::Dockerd;
use whalewatch_tests::{environment, sweep};

use crate::machine::{self, Mounts};
use crate::run::{Show, run, run_with};
use crate::{documents, examples, kernels, paths, prose, servers, tools};

/// Name of the image that the tests' containers are made from.
pub(crate) const IMAGE: &str = "whalewatch-test:1";

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    /// What it is called by.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// Whether stable Rust is all that it needs.
    pub(crate) unit: bool,
    /// Steps that must have been before it.
    pub(crate) after: &'static [&'static str],
    /// Does it.
    pub(crate) run: fn(&mut Context) -> Result<()>,
}

/// All of them, in their order: first what fails fast, last what takes long.
pub(crate) const STEPS: &[Step] = &[
    step("format", "rustfmt finds nothing to change", &[], format).unit(),
    step("prose", "wording and width of lines", &[], |_| prose::check_all()).unit(),
    step("clippy", "no lint warns", &[], clippy).unit(),
    step("rustdoc", "the API's pages build without a warning", &[], rustdoc).unit(),
    step("unit", "unit, integration and documentation tests", &[], unit).unit(),
    step(
        "packages",
        "install what is missing of the system's packages, fetch servers for the tests",
        &[],
        packages,
    ),
    step("spelling", "codespell finds no mistake", &["packages"], spelling),
    step("tools", "build what is missing of bpf-linker and cargo-deny", &["packages"], tools),
    step("mounts", "mount what is missing of the kernel's file systems", &[], mounts),
    step("deny", "licences, bans and sources of all dependencies", &["tools"], deny),
    step("ebpf", "the kernel side's objects fit their sources", &["tools"], ebpf),
    step("release", "build the program as users get it", &[], release),
    step("kernel", "the kernel side runs in this kernel", &["mounts"], kernel),
    step("reference", "the generated pages are what the program says", &["release"], reference),
    step("examples", "every example runs", &["mounts", "release"], run_examples),
    step("kernels", "other kernels, in emulated machines", &["packages", "release"], run_kernels),
    step("readme", "commands in the documents run", &["packages", "mounts", "release"], readme),
    step("e2e", "end to end: this kernel, a real dockerd", &["packages", "mounts", "release"], e2e),
    step(
        "accuracy",
        "the right container is named, case by case",
        &["packages", "mounts", "release"],
        accuracy,
    ),
];

const fn step(
    name: &'static str,
    about: &'static str,
    after: &'static [&'static str],
    run: fn(&mut Context) -> Result<()>,
) -> Step {
    Step { name, about, unit: false, after, run }
}

impl Step {
    const fn unit(mut self) -> Self {
        self.unit = true;
        self
    }
}

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tests {
    /// Counts what a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …` tells.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split([';', '.']).filter_map(|part| part.trim().split_once(' '));
        for (number, word) in counts {
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// What the steps share. When it goes, what they started and mounted goes too.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the running step's output goes.
    pub(crate) log: PathBuf,
    tests: Tests,
    mounts: Mounts,
    dockerd: Option<Dockerd>,
    scratch: PathBuf,
    /// Held while the scratch folder is ours.
    lock: Option<File>,
}

impl Context {
    /// For steps that need nothing of the machine.
    pub(crate) fn of_units() -> Self {
        Self {
            log: paths::target().join("xtask.log"),
            tests: Tests::default(),
            mounts: Mounts::default(),
            dockerd: None,
            // Short names: Unix sockets lie below, and their paths have 107 bytes at most.
            scratch: paths::target().join("e2e"),
            lock: None,
        }
    }

    /// For all steps. What an earlier run left when it was cut short is cleared first.
    pub(crate) fn of_machine() -> Result<Self> {
        let mut context = Self::of_units();
        fs::create_dir_all(paths::target())?;
        let lock = File::create(paths::target().join("e2e.lock"))?;
        // Two at once would clear each other's daemons.
        lock.try_lock().context("another `cargo xtask test` is at work in this folder")?;
        context.lock = Some(lock);
        clear(&context.scratch)?;
        fs::create_dir_all(&context.scratch)?;
        Ok(context)
    }

    /// Takes down what was set up, and tells how many tests there were.
    pub(crate) fn finish(self) -> Tests {
        self.tests
    }

    /// Runs a command whose output matters only if it fails.
    pub(crate) fn quiet(&self, command: &mut Command) -> Result<()> {
        run(command, &self.log, Show::OnFailure)
    }

    /// Runs a command that runs tests, and counts them.
    fn tests(&mut self, command: &mut Command) -> Result<()> {
        let mut tests = self.tests;
        let result = run_with(command, &self.log, Show::Always, &mut |line, _| tests.count(line));
        self.tests = tests;
        result
    }

    /// Where tests may write.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A dockerd with the tests' image, started when it is first asked for.
    pub(crate) fn docker_socket(&mut self) -> Result<PathBuf> {
        if let Some(daemon) = &self.dockerd {
            return Ok(daemon.socket());
        }
        let daemon = Dockerd::start(&self.scratch.join("d"))?;
        let tar = machine::image_tar(&self.scratch)?;
        daemon.import(&tar, IMAGE)?;
        let socket = daemon.socket();
        self.dockerd = Some(daemon);
        Ok(socket)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.dockerd = None;
        if self.lock.is_none() {
            return;
        }
        if let Err(error) = clear(&self.scratch) {
            eprintln!("cannot clear {}: {error:#}", self.scratch.display());
        }
    }
}

/// Removes the scratch folder with all daemons that tests may have left running in it.
fn clear(scratch: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(scratch) else { return Ok(()) };
    for dir in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        sweep::sweep(&dir)?;
    }
    sweep::sweep(scratch)
}

/// Cargo, in the repository's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root()).args(args);
    command
}

/// Cargo, for the crate of a third party's that stands outside the workspace. What is built already
/// serves it, too.
fn cargo_outside(args: &[&str]) -> Command {
    let mut command = cargo(args);
    command.current_dir(paths::root().join("examples/geo-handler"));
    command.env("CARGO_TARGET_DIR", paths::target());
    command
}

/// What is said where a crate outside the workspace does not build any more.
const OUTSIDE: &str =
    "examples/geo-handler: if its Cargo.lock is out of date, run `cargo check` in it";

fn format(context: &mut Context) -> Result<()> {
    context.quiet(&mut cargo(&["fmt", "--all", "--check"]))?;
    context.quiet(&mut cargo_outside(&["fmt", "--check"]))
}

fn clippy(context: &mut Context) -> Result<()> {
    let mut command = cargo(&["clippy", "--locked", "--all-targets"]);
    command.args(["--features", "whalewatch-tests/e2e,whalewatch-trackers/kernel-tests"]);
    command.args(["--", "-D", "warnings"]);
    context.quiet(&mut command)?;
    let mut command =
        cargo_outside(&["clippy", "--locked", "--all-targets", "--", "-D", "warnings"]);
    context.quiet(&mut command).context(OUTSIDE)
}

fn rustdoc(context: &mut Context) -> Result<()> {
    let mut command = cargo(&["doc", "--locked", "--no-deps"]);
    context.quiet(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn unit(context: &mut Context) -> Result<()> {
    context.tests(&mut cargo(&["test", "--locked"]))?;
    context.tests(&mut cargo_outside(&["test", "--locked"])).context(OUTSIDE)
}

fn packages(context: &mut Context) -> Result<()> {
    machine::install_packages(context)?;
    servers::install(context)
}

fn spelling(context: &mut Context) -> Result<()> {
    context.quiet(&mut prose::spelling()?)
}

fn tools(context: &mut Context) -> Result<()> {
    tools::install(context)
}

fn mounts(context: &mut Context) -> Result<()> {
    context.mounts.mount_missing()
}

fn deny(context: &mut Context) -> Result<()> {
    tools::deny(context)
}

fn ebpf(context: &mut Context) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    context.quiet(command.args(["ebpf", "--check"]).current_dir(paths::root()))
}

fn release(context: &mut Context) -> Result<()> {
    context.quiet(&mut cargo(&["build", "--locked", "--release", "--package", "whalewatch"]))
}

fn kernel(context: &mut Context) -> Result<()> {
    let mut command = cargo(&["test", "--locked", "--package", "whalewatch-trackers"]);
    command.args(["--features", "kernel-tests", "--test", "kernel"]);
    // One at a time: each watches the whole machine.
    context.tests(command.args(["--", "--test-threads=1"]))
}

fn reference(_: &mut Context) -> Result<()> {
    crate::docs::main(&["--check".to_owned()])
}

fn run_examples(context: &mut Context) -> Result<()> {
    examples::run_all(context)
}

fn run_kernels(context: &mut Context) -> Result<()> {
    let count = kernels::run_all(&context.log, "")?;
    context.tests.passed += count.passed;
    context.tests.failed += count.failed;
    ensure!(count.failed == 0, "checks on other kernels failed");
    Ok(())
}

fn readme(context: &mut Context) -> Result<()> {
    documents::run_all(context)
}

fn e2e(context: &mut Context) -> Result<()> {
    let socket = context.docker_socket()?;
    let mut command = cargo(&["test", "--locked", "--package", "whalewatch-tests"]);
    command.args(["--features", "e2e", "--tests", "--no-fail-fast"]);
    // One at a time: each watches the whole machine, and some count what it does.
    command.args(["--", "--test-threads=1", "--show-output"]);
    command.env(environment::PROGRAM, paths::program());
    command.env(environment::DOCKER_SOCKET, socket);
    command.env(environment::IMAGE, IMAGE);
    command.env(environment::IMAGE_TAR, machine::image_tar(&context.scratch)?);
    command.env(environment::SERVERS, servers::dir());
    command.env(environment::SCRATCH, context.scratch.join("t"));
    context.tests(&mut command).context("an end-to-end test failed")
}

fn accuracy(context: &mut Context) -> Result<()> {
    crate::accuracy::measure(context, &[]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let mut tests = Tests::default();
        tests.count("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tests.count("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured");
        tests.count("running 5 tests");
        assert_eq!(tests, Tests { passed: 5, failed: 1, ignored: 1 });
    }
}
