//! Tools that are built once, from their published sources, into `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::paths;
use crate::steps::{Context, cargo};

/// A tool.
struct Tool {
    name: &'static str,
    version: &'static str,
    options: &'static [&'static str],
}

const TOOLS: [Tool; 2] = [
    Tool { name: "bpf-linker", version: "0.10.3", options: &[] },
    // Without optimisation it builds in a third of the time and still checks in seconds. Its default
    // features add a TLS stack and git, which only advisories need.
    Tool { name: "cargo-deny", version: "0.20.2", options: &["--debug", "--no-default-features"] },
];

/// Returns the folder of the tools.
pub(crate) fn dir() -> PathBuf {
    paths::target().join("tools")
}

/// Builds the tools that are missing.
pub(crate) fn install(context: &Context<'_>) -> Result<()> {
    for tool in TOOLS {
        if is_installed(&tool) {
            continue;
        }
        context.output.line(&format!("   {} {}", tool.name, tool.version));
        let mut command = cargo(&["install", "--locked", "--version", tool.version, tool.name]);
        command.args(tool.options).arg("--root").arg(dir());
        context.quiet(&mut command)?;
    }
    Ok(())
}

fn is_installed(tool: &Tool) -> bool {
    let version = Command::new(dir().join("bin").join(tool.name)).arg("--version").output();
    version.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains(tool.version))
}

/// Checks the dependencies' licences, bans and sources.
///
/// Advisories are left out. Their database is on the net and changes by itself: a commit that passes
/// today could fail tomorrow, and a machine without that net could check nothing. Maintainers run
/// `cargo deny check advisories` on their own schedule.
pub(crate) fn deny(context: &Context<'_>) -> Result<()> {
    // The check covers dependencies for other systems, too, so all of them must be there.
    context.quiet(&mut cargo(&["fetch", "--locked"]))?;
    let mut command = Command::new(dir().join("bin/cargo-deny"));
    command.current_dir(paths::root());
    context.quiet(command.args(["--offline", "--locked", "check", "licenses", "bans", "sources"]))
}
