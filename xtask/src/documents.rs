//! Runs the commands in the documents.
//!
//! In README.md, CONTRIBUTING.md, `docs/`, `docs/handlers/` and `examples/`, a code block that
//! begins with
//!
//! * ` ```sh ` runs unchanged in the repository's root and must succeed;
//! * ` ```sh until-interrupted ` runs until it prints `watching: …`, gets an interrupt, and must
//!   then succeed;
//! * ` ```sh in-FOLDER ` runs in that folder below the target folder, which is empty when a page
//!   first names it. `$WHALEWATCH` is the repository's root, and crates in the folder use the
//!   workspace's build artifacts;
//! * ` ```console ` and everything else does not run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, kill_process_group};
use whalewatch_tests::cargo;

use crate::paths;
use crate::run::{Show, run_with};
use crate::steps::Context;

/// A block of commands.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// The line it begins in, counted from 1.
    line: usize,
    /// Whether it runs until it is interrupted.
    interrupted: bool,
    /// The folder that it runs in, below the target folder; `None` for the repository's root.
    folder: Option<String>,
    commands: String,
}

/// Runs the blocks of all documents.
pub(crate) fn run_all(context: &Context<'_>) -> Result<()> {
    let programs = programs()?;
    let socket = context.docker_socket()?;
    for file in documents()? {
        let text = fs::read_to_string(&file)?;
        let blocks = blocks(&text);
        for folder in blocks.iter().filter_map(|block| block.folder.as_deref()) {
            empty(&paths::target().join(folder))?;
        }
        for block in blocks {
            let place = format!("{}:{}", file.strip_prefix(paths::root())?.display(), block.line);
            run_block(context, &block, &programs, &socket).with_context(|| place)?;
        }
    }
    Ok(())
}

fn documents() -> Result<Vec<PathBuf>> {
    let root = paths::root();
    let mut files = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for dir in ["docs", "docs/handlers", "examples"] {
        let mut pages: Vec<PathBuf> =
            fs::read_dir(root.join(dir))?.flatten().map(|entry| entry.path()).collect();
        pages.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
        pages.sort();
        files.extend(pages);
    }
    for file in &files {
        ensure!(file.is_file(), "there is no {}", file.display());
    }
    Ok(files)
}

/// Makes a folder for the search path, with `whalewatch` and a `sudo` that only runs its command:
/// root may have none.
fn programs() -> Result<PathBuf> {
    let dir = paths::target().join("xtask/programs");
    fs::create_dir_all(&dir)?;
    let whalewatch = dir.join("whalewatch");
    if whalewatch.symlink_metadata().is_ok() {
        fs::remove_file(&whalewatch)?;
    }
    symlink(paths::program(), &whalewatch)?;
    let sudo = dir.join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n")?;
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

/// Lets the crates in a folder use the workspace's build artifacts.
fn share_target(folder: &Path) -> Result<()> {
    for dir in fs::read_dir(folder)?.flatten().map(|entry| entry.path()) {
        let target = dir.join("target");
        if dir.join("Cargo.toml").is_file() && target.symlink_metadata().is_err() {
            symlink(paths::target(), &target)?;
        }
    }
    Ok(())
}

fn run_block(context: &Context<'_>, block: &Block, programs: &Path, socket: &Path) -> Result<()> {
    let mut path = programs.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-e", "-u", "-o", "pipefail", "-c", &block.commands]);
    let folder = block.folder.as_ref().map(|folder| paths::target().join(folder));
    if let Some(folder) = &folder {
        share_target(folder)?;
        command.env_remove("CARGO_TARGET_DIR").env("WHALEWATCH", paths::root());
        // Newer versions of dependencies than the workspace's would be built again.
        command.env("CARGO_NET_OFFLINE", "true");
    }
    cargo::clear_package(&mut command);
    command.current_dir(folder.unwrap_or_else(paths::root)).env("PATH", path);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    run_with(&mut command, &context.output, Show::OnFailure, &mut |line, group| {
        if block.interrupted && line.starts_with("watching: ") {
            let _gone = kill_process_group(group, Signal::INT);
        }
    })
}

/// Returns the blocks of a page that must run.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let body = lines.by_ref().map(|(_, line)| line);
        let body: Vec<&str> = body.take_while(|line| line.trim() != "```").collect();
        let mut words = info.split_whitespace();
        if words.next() == Some("sh") {
            let words: Vec<&str> = words.collect();
            let interrupted = words.contains(&"until-interrupted");
            let folder = words.iter().find_map(|word| word.strip_prefix("in-")).map(str::to_owned);
            blocks.push(Block { line: index + 1, interrupted, folder, commands: body.join("\n") });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_blocks_run() {
        let text = "Type\n\n```sh\necho 1\necho 2\n```\n\n```console\n$ rm -r /\n```\n\n\
                    ```sh until-interrupted\nsudo whalewatch trace\n```\n\n```toml\n[a]\n```\n\n\
                    ```sh in-new\nls\n```\n";
        let block = |line, interrupted, folder: Option<&str>, commands: &str| Block {
            line,
            interrupted,
            folder: folder.map(str::to_owned),
            commands: commands.to_owned(),
        };
        let expected = [
            block(3, false, None, "echo 1\necho 2"),
            block(12, true, None, "sudo whalewatch trace"),
            block(20, false, Some("new"), "ls"),
        ];
        assert_eq!(blocks(text), expected);
    }
}
