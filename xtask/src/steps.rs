//! The steps of `cargo xtask test`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use whalewatch_tests::dockerd::Dockerd;
use whalewatch_tests::{cargo, environment, sweep};

use crate::machine::{self, Mounts};
use crate::run::{Output, Show, locked, run, run_with};
use crate::{documents, e2e, examples, format, kernels, paths, prose, servers, tools};

/// Name of the image that the tests' containers are made from.
pub(crate) const IMAGE: &str = "whalewatch-test:1";

/// A step of `cargo xtask test`.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What passes when it passes, or what it does.
    pub(crate) about: &'static str,
    /// Whether stable Rust is all that it needs.
    pub(crate) unit: bool,
    /// Whether no other step may run meanwhile, except one in the background: it watches the whole
    /// machine and judges what it sees, or measures time.
    pub(crate) alone: bool,
    /// Whether its commands run only on processors that would be idle. It may run beside any step.
    pub(crate) background: bool,
    /// What no two steps may use at once.
    pub(crate) places: &'static [Place],
    /// The steps that must have passed before.
    pub(crate) after: &'static [&'static str],
    pub(crate) run: fn(&Context<'_>) -> Result<()>,
}

/// What only one step at a time can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Cargo's target folder: a second cargo would wait for its lock.
    Target,
    /// The system's package manager.
    Packages,
}

/// All steps, in their order: first those that fail fast, last those that take long. Steps run side
/// by side as `schedule.rs` says. Those in the background run beside the ones that wait for
/// containers and leave processors idle.
pub(crate) const STEPS: &[Step] = &[
    step("format", "rustfmt changes no source file", format_files).unit(),
    step("prose", "comments, texts and documents keep to the glossary", check_prose).unit(),
    step("packages", "missing system packages and test servers are installed", packages)
        .at(&[Place::Packages]),
    step("program", "the program and the unit tests build", program).at(&[Place::Target]),
    step("spelling", "codespell finds no mistake", spelling).after(&["packages"]),
    step("tools", "bpf-linker and cargo-deny are built where they are missing", tools)
        .after(&["packages"]),
    step("mounts", "missing kernel file systems are mounted", mounts),
    step("deny", "licences, bans and sources of all dependencies", deny).after(&["tools"]),
    step("ebpf", "the kernel objects fit their sources", ebpf).after(&["tools"]),
    step("kernels", "other kernels, in emulated machines", run_kernels)
        .at(&[Place::Packages])
        .after(&["packages", "program"]),
    step("unit", "unit, integration and documentation tests", unit).unit().at(&[Place::Target]),
    step("reference", "the generated pages are up to date", reference).after(&["program"]),
    step("harness", "the end-to-end tests build", harness).at(&[Place::Target]),
    step("examples", "every example runs", run_examples).after(&["mounts", "program"]),
    step("readme", "the commands in the documents run", readme)
        .at(&[Place::Target])
        .after(&["packages", "mounts", "program"]),
    step("kernel", "the kernel side runs in this kernel", kernel)
        .alone()
        .at(&[Place::Target])
        .after(&["mounts", "harness"]),
    step("accuracy", "the right container is named, case by case", accuracy)
        .alone()
        .after(&["packages", "mounts", "program", "harness"]),
    step("clippy", "no lint warns", clippy).unit().background().at(&[Place::Target]),
    step("rustdoc", "the API's pages build without a warning", rustdoc)
        .unit()
        .background()
        .at(&[Place::Target]),
    step("e2e", "end to end: this kernel, real container runtimes", run_e2e)
        .alone()
        .at(&[Place::Target])
        .after(&["packages", "mounts", "program", "harness"]),
];

const fn step(
    name: &'static str,
    about: &'static str,
    run: fn(&Context<'_>) -> Result<()>,
) -> Step {
    Step { name, about, unit: false, alone: false, background: false, places: &[], after: &[], run }
}

impl Step {
    const fn unit(mut self) -> Self {
        self.unit = true;
        self
    }

    const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    const fn background(mut self) -> Self {
        self.background = true;
        self
    }

    const fn at(mut self, places: &'static [Place]) -> Self {
        self.places = places;
        self
    }

    const fn after(mut self, after: &'static [&'static str]) -> Self {
        self.after = after;
        self
    }
}

/// The default profile. Tests always build with it; `--profile` chooses another one for the
/// program.
pub(crate) const DEV: &str = "dev";

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tests {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
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

/// The setup that steps share. Dropping it removes what the steps started and mounted.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The profile of the program under test.
    profile: String,
    tests: Mutex<Tests>,
    mounts: Mutex<Mounts>,
    dockerd: Mutex<Option<Dockerd>>,
    scratch: PathBuf,
    /// Held while the scratch folder is in use.
    lock: Option<File>,
}

impl Setup {
    /// For steps that need nothing of the machine.
    pub(crate) fn of_units() -> Self {
        Self {
            profile: DEV.to_owned(),
            tests: Mutex::default(),
            mounts: Mutex::default(),
            dockerd: Mutex::default(),
            // A short name: Unix sockets are below, and their paths have at most 107 bytes.
            scratch: paths::target().join("e2e"),
            lock: None,
        }
    }

    /// For all steps, with the program of a profile. Clears first what an earlier, interrupted run
    /// left.
    pub(crate) fn of_machine(profile: &str) -> Result<Self> {
        let mut setup = Self::of_units();
        profile.clone_into(&mut setup.profile);
        fs::create_dir_all(paths::target())?;
        let lock = File::create(paths::target().join("e2e.lock"))?;
        // Two runs at once would clear each other's daemons.
        lock.try_lock().context("another `cargo xtask test` runs in this folder")?;
        setup.lock = Some(lock);
        clear(&setup.scratch)?;
        fs::create_dir_all(&setup.scratch)?;
        Ok(setup)
    }

    /// Removes what the steps started and mounted, and returns how many tests there were.
    pub(crate) fn finish(self) -> Tests {
        *locked(&self.tests)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        *locked(&self.dockerd) = None;
        if self.lock.is_none() {
            return;
        }
        if let Err(error) = clear(&self.scratch) {
            eprintln!("cannot clear {}: {error:#}", self.scratch.display());
        }
    }
}

/// What a running step has: its output and the setup that all share.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) output: Output,
    background: bool,
    setup: &'a Setup,
}

impl<'a> Context<'a> {
    /// For the step of that name. It prints at once if `live`, and when it has ended if not.
    pub(crate) fn new(step: &str, setup: &'a Setup, live: bool) -> Result<Self> {
        let log = paths::target().join("xtask/logs").join(step).with_extension("log");
        let output = if live { Output::live(&log)? } else { Output::held(&log)? };
        let background = STEPS.iter().any(|other| other.name == step && other.background);
        Ok(Self { output, background, setup })
    }

    /// Runs a command whose output matters only if it fails.
    pub(crate) fn quiet(&self, command: &mut Command) -> Result<()> {
        if self.background {
            return run(&mut nice(command), &self.output, Show::OnFailure);
        }
        run(command, &self.output, Show::OnFailure)
    }

    /// Runs a command, and calls `on_line` with each line of its output.
    pub(crate) fn lines(&self, command: &mut Command, on_line: &mut dyn FnMut(&str)) -> Result<()> {
        run_with(command, &self.output, Show::OnFailure, &mut |line, _| on_line(line))
    }

    /// Runs a command that runs tests, and counts them.
    pub(crate) fn tests(&self, command: &mut Command) -> Result<()> {
        self.tests_to(command, &self.output, &mut |_| {})
    }

    /// Runs a command that runs tests, with its output elsewhere than the step's; counts the tests,
    /// and calls `on_line` with each line.
    pub(crate) fn tests_to(
        &self,
        command: &mut Command,
        output: &Output,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        run_with(command, output, Show::Always, &mut |line, _| {
            locked(&self.setup.tests).count(line);
            on_line(line);
        })
    }

    /// The folder that tests may write to.
    pub(crate) fn scratch(&self) -> &Path {
        &self.setup.scratch
    }

    /// The socket of a dockerd that has the tests' image. The first call starts it.
    pub(crate) fn docker_socket(&self) -> Result<PathBuf> {
        let mut dockerd = locked(&self.setup.dockerd);
        if let Some(daemon) = &*dockerd {
            return Ok(daemon.socket());
        }
        let daemon = Dockerd::start(&self.scratch().join("d"))?;
        let tar = machine::image_tar(self.scratch())?;
        daemon.import(&tar, IMAGE)?;
        let socket = daemon.socket();
        *dockerd = Some(daemon);
        Ok(socket)
    }

    /// Sets the variables by which the end-to-end tests and the accuracy harness find their setup.
    pub(crate) fn prepare<'c>(&self, command: &'c mut Command) -> Result<&'c mut Command> {
        let socket = self.docker_socket()?;
        command.env(environment::PROGRAM, paths::program());
        command.env(environment::DOCKER_SOCKET, socket);
        command.env(environment::IMAGE, IMAGE);
        command.env(environment::IMAGE_TAR, machine::image_tar(self.scratch())?);
        command.env(environment::SERVERS, servers::dir());
        Ok(command.env(environment::SCRATCH, self.scratch().join("t")))
    }
}

/// Removes the scratch folder, and ends the daemons that tests may have left running in it.
fn clear(scratch: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(scratch) else { return Ok(()) };
    for dir in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        sweep::sweep(&dir)?;
    }
    sweep::sweep(scratch)
}

/// Cargo, in the repository's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    cargo::cargo(&paths::root(), args)
}

/// Returns the command with the lowest priority: it gets what other processes leave.
fn nice(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        nice.current_dir(dir);
    }
    nice
}

/// This program, as a process whose output goes to the step's.
fn xtask() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(paths::root());
    Ok(command)
}

/// Cargo, for the third-party crate outside the workspace, with the artifacts of the workspace.
fn cargo_outside(args: &[&str]) -> Command {
    let mut command = cargo::cargo(&paths::root().join("examples/geo-handler"), args);
    command.env("CARGO_TARGET_DIR", paths::target());
    command
}

/// What to do when a crate outside the workspace no longer builds.
const OUTSIDE: &str =
    "examples/geo-handler: if its Cargo.lock is out of date, run `cargo check` in it";

/// Turn on the tests that need root. No command selects them by `--package`: cargo would resolve
/// other features of the dependencies and build them again.
pub(crate) const E2E: [&str; 4] = ["--features", "whalewatch-tests/e2e", "--test", "e2e"];
const KERNEL: [&str; 4] = ["--features", "whalewatch-trackers/kernel-tests", "--test", "kernel"];
const ALL_FEATURES: [&str; 2] =
    ["--features", "whalewatch-tests/e2e,whalewatch-trackers/kernel-tests"];

fn format_files(context: &Context<'_>) -> Result<()> {
    format::check(&context.output)
}

fn clippy(context: &Context<'_>) -> Result<()> {
    let mut command = cargo(&["clippy", "--locked", "--all-targets"]);
    context.quiet(command.args(ALL_FEATURES).args(["--", "-D", "warnings"]))?;
    // The features of the first command in the README.
    let mut command = cargo(&["clippy", "--locked", "--no-default-features"]);
    context.quiet(command.args(["--", "-D", "warnings"]))?;
    // By itself, with the features that its own build has.
    let mut command = cargo(&["clippy", "--locked", "--all-targets", "--package", "xtask"]);
    context.quiet(command.args(["--", "-D", "warnings"]))?;
    let mut command =
        cargo_outside(&["clippy", "--locked", "--all-targets", "--", "-D", "warnings"]);
    context.quiet(&mut command).context(OUTSIDE)
}

fn rustdoc(context: &Context<'_>) -> Result<()> {
    for packages in [&[][..], &["--package", "xtask"]] {
        let mut command = cargo(&["doc", "--locked", "--no-deps"]);
        context.quiet(command.args(packages).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(())
}

fn unit(context: &Context<'_>) -> Result<()> {
    context.tests(&mut cargo(&["test", "--locked"]))?;
    context.tests(&mut cargo(&["test", "--locked", "--package", "xtask"]))?;
    context.tests(&mut cargo_outside(&["test", "--locked"])).context(OUTSIDE)
}

fn packages(context: &Context<'_>) -> Result<()> {
    machine::install_packages(context)?;
    servers::install(context)
}

fn check_prose(context: &Context<'_>) -> Result<()> {
    context.quiet(xtask()?.arg("prose"))
}

fn spelling(context: &Context<'_>) -> Result<()> {
    context.quiet(&mut prose::spelling()?)
}

fn tools(context: &Context<'_>) -> Result<()> {
    tools::install(context)
}

fn mounts(context: &Context<'_>) -> Result<()> {
    locked(&context.setup.mounts).mount_missing()
}

fn deny(context: &Context<'_>) -> Result<()> {
    tools::deny(context)
}

fn ebpf(context: &Context<'_>) -> Result<()> {
    context.quiet(xtask()?.args(["ebpf", "--check"]))
}

/// Builds the program together with the unit tests, so that their dependencies build once, and
/// keeps a link to it: a command in a document later builds one with other features in its place.
pub(crate) fn program(context: &Context<'_>) -> Result<()> {
    context.quiet(&mut cargo(&["test", "--locked", "--no-run"]))?;
    let mut folder = "debug";
    if context.setup.profile != DEV {
        folder = &context.setup.profile;
        let build = ["build", "--locked", "--package", "whalewatch", "--profile", folder];
        context.quiet(&mut cargo(&build))?;
    }
    let program = paths::program();
    fs::create_dir_all(program.parent().context("the program is in a folder")?)?;
    if program.exists() {
        fs::remove_file(&program)?;
    }
    fs::hard_link(paths::target().join(folder).join("whalewatch"), &program)
        .with_context(|| format!("cannot make {}", program.display()))
}

/// Builds all tests that need root, with the workload and the accuracy harness.
pub(crate) fn harness(context: &Context<'_>) -> Result<()> {
    for tests in [E2E, KERNEL] {
        context.quiet(cargo(&["test", "--locked", "--no-run"]).args(tests))?;
    }
    Ok(())
}

fn kernel(context: &Context<'_>) -> Result<()> {
    let mut command = cargo(&["test", "--locked"]);
    // One at a time: each watches the whole machine.
    context.tests(command.args(KERNEL).args(["--", "--test-threads=1"]))
}

fn reference(_: &Context<'_>) -> Result<()> {
    crate::docs::check(&mut Command::new(paths::program()))
}

fn run_examples(context: &Context<'_>) -> Result<()> {
    examples::run_all(context)
}

fn run_kernels(context: &Context<'_>) -> Result<()> {
    let count = kernels::run_all(&context.output, "", kernels::Extent::EveryChange)?;
    let mut tests = locked(&context.setup.tests);
    tests.passed += count.passed;
    tests.failed += count.failed;
    ensure!(count.failed == 0, "checks on other kernels failed");
    Ok(())
}

fn readme(context: &Context<'_>) -> Result<()> {
    documents::run_all(context)
}

fn run_e2e(context: &Context<'_>) -> Result<()> {
    e2e::run_all(context)
}

fn accuracy(context: &Context<'_>) -> Result<()> {
    crate::accuracy::measure(context, &[]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nice_command_is_the_same_command() {
        let mut command = Command::new("cargo");
        command.arg("doc").env("A", "1").env_remove("B").current_dir("/");
        let nice = nice(&command);
        let words: Vec<_> = nice.get_args().collect();
        assert_eq!(words, ["-n", "19", "cargo", "doc"]);
        assert_eq!(nice.get_envs().collect::<Vec<_>>(), command.get_envs().collect::<Vec<_>>());
        assert_eq!(nice.get_current_dir(), Some(Path::new("/")));
    }

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let mut tests = Tests::default();
        tests.count(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.00s",
        );
        tests.count("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured");
        tests.count("running 5 tests");
        assert_eq!(tests, Tests { passed: 5, failed: 1, ignored: 1 });
    }
}
