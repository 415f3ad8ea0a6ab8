//! `cargo xtask kernels`: runs the program on other kernels, each in an emulated machine, so that
//! neither virtualisation nor root is needed.

mod checks;
mod fails;
mod guest;
mod packages;
mod report;
mod workload;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::run::{self, Output};
use crate::steps::{self, Context, Setup};
use crate::{machine, paths};

const HELP: &str = "\
cargo xtask kernels [--only WORD]

  --only   Only kernels whose release contains WORD

`cargo xtask test` runs less of it: on a kernel for real-time, only what watching depends on.

Boots Debian's kernels under qemu, runs the program there, and prints a line for each kernel and
check. Consoles and reports are in target/kernels.
";

/// A boot: the kernel's options, and the checks that the guest runs.
struct Boot {
    /// The name of its files.
    name: &'static str,
    /// Options on the kernel's command line.
    options: &'static str,
}

/// A lockdown lasts until the next boot, so each needs a separate boot.
const BOOTS: [Boot; 3] = [
    Boot { name: "everything", options: "checks=watching,lacking" },
    Boot { name: "lockdown", options: "checks=lockdown lsm=lockdown lockdown=confidentiality" },
    Boot { name: "integrity", options: "checks=integrity lsm=lockdown lockdown=integrity" },
];

/// On a kernel for real-time, which takes three times as long in an emulated machine.
const REAL_TIME: [Boot; 1] = [Boot { name: "watching", options: "checks=watching" }];

/// How much runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every boot of every kernel.
    Full,
    /// What every change has to pass.
    EveryChange,
}

impl Extent {
    fn boots(self, release: &str) -> &'static [Boot] {
        if self == Self::EveryChange && release.contains("-rt-") { &REAL_TIME } else { &BOOTS }
    }
}

/// Numbers of checks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

pub(crate) fn main(args: &[String]) -> Result<()> {
    let only = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => "",
        ["--only", word] => word,
        ["--help" | "-h"] => {
            print!("{HELP}");
            return Ok(());
        }
        _ => bail!("unknown options\n\n{HELP}"),
    };
    run::end_children_on_interrupt()?;
    let output = Output::live(&dir().join("xtask.log"))?;
    steps::program(&Context::new("program", &Setup::of_units(), true)?)?;
    let count = run_all(&output, only, Extent::Full)?;
    println!("{} passed, {} failed", count.passed, count.failed);
    ensure!(count.failed == 0, "checks failed: the guests' output is in {}", dir().display());
    Ok(())
}

/// Returns the folder of initrds, kernels, consoles and reports.
fn dir() -> PathBuf {
    paths::target().join("kernels")
}

/// Runs every check on every kernel whose release contains `only`. The program must be built.
pub(crate) fn run_all(output: &Output, only: &str, extent: Extent) -> Result<Count> {
    let mut count = Count::default();
    if std::env::consts::ARCH != "x86_64" {
        output.line("   skipped: there are kernels for x86-64 only");
        return Ok(count);
    }
    let dir = dir();
    fs::create_dir_all(&dir)?;
    let initrd = guest::make_initrd(&dir, output)?;
    let kernels = packages::fetch(&dir, output)?;
    for kernel in kernels.iter().filter(|kernel| kernel.release.contains(only)) {
        for boot in extent.boots(&kernel.release) {
            let name = format!("{}.{}", kernel.release, boot.name);
            let report = guest::boot(&dir.join(name), &kernel.image, &initrd, boot.options, output)
                .with_context(|| format!("{} with {}", kernel.release, boot.options))?;
            for (check, result) in checks::all(boot.name, &kernel.release, &report) {
                match result {
                    Ok(()) => count.passed += 1,
                    Err(_) => count.failed += 1,
                }
                let verdict =
                    result.map_or_else(|error| format!("FAILED: {error:#}"), |()| "ok".into());
                output.line(&format!("   {:30} {check:55} {verdict}", kernel.release));
            }
        }
    }
    ensure!(count.passed + count.failed > 0, "no kernel's release contains {only:?}");
    Ok(count)
}

/// Lists the names of all trackers.
fn trackers() -> Result<Vec<String>> {
    let done = Command::new(paths::program()).args(["list", "--format", "json"]).output()?;
    let list: Value = serde_json::from_slice(&done.stdout).context("`whalewatch list`")?;
    let trackers = list["trackers"].as_array().context("no trackers in the list")?;
    Ok(trackers.iter().filter_map(|t| Some(t["name"].as_str()?.to_owned())).collect())
}

/// Finds the static busybox for the guest.
fn busybox() -> Result<PathBuf> {
    machine::busybox().context("busybox-static is not installed")
}
