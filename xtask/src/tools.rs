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

/// The linker's version. Another version may make other objects.
pub(crate) const LINKER_VERSION: &str = "0.10.3";

/// The linker of the kernel side. Most of its time is in LLVM, which it loads from the compiler.
const BPF_LINKER: Tool = Tool { name: "bpf-linker", version: LINKER_VERSION, options: &[] };

/// The check of dependencies. Its default features add a TLS stack and git, which only advisories
/// need.
const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", options: &["--no-default-features"] };

/// Returns the folder of the tools.
pub(crate) fn dir() -> PathBuf {
    paths::target().join("tools")
}

/// Builds the tools that are missing.
pub(crate) fn install(context: &Context<'_>) -> Result<()> {
    for tool in [BPF_LINKER, CARGO_DENY] {
        if is_installed(&tool) {
            continue;
        }
        context.output.line(&format!("   {} {}", tool.name, tool.version));
        context.quiet(&mut build(&tool))?;
    }
    Ok(())
}

/// Returns the command that builds the linker.
pub(crate) fn build_linker() -> Command {
    build(&BPF_LINKER)
}

/// Returns the command that builds a tool. It does not optimise: that would take twice as long and
/// save seconds. All tools share a build folder, because they have dependencies in common.
fn build(tool: &Tool) -> Command {
    let mut command = cargo(&["install", "--quiet", "--locked", "--debug"]);
    command.args(["--version", tool.version, tool.name]).args(tool.options);
    command.arg("--root").arg(dir()).arg("--target-dir").arg(dir().join("build"));
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    command
}

fn is_installed(tool: &Tool) -> bool {
    let version = Command::new(dir().join("bin").join(tool.name)).arg("--version").output();
    version.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains(tool.version))
}

/// Checks the dependencies' licences, bans and sources.
///
/// Advisories are left out. Their database is on the net and changes by itself: a commit that
/// passes today could fail tomorrow, and a machine without that net could check nothing.
/// Maintainers run `cargo deny check advisories` on their own schedule.
pub(crate) fn deny(context: &Context<'_>) -> Result<()> {
    // The check covers dependencies for other systems, too, so all of them must be there.
    context.quiet(&mut cargo(&["fetch", "--locked"]))?;
    let mut command = Command::new(dir().join("bin/cargo-deny"));
    command.current_dir(paths::root());
    context.quiet(command.args(["--offline", "--locked", "check", "licenses", "bans", "sources"]))
}
