//! Runs every example unchanged.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::paths;
use crate::steps::Context;

/// How long each example watches.
const DURATION: &str = "1s";

/// Lists the configurations in `examples/`, sorted by name.
fn chains() -> Result<Vec<PathBuf>> {
    let dir = paths::root().join("examples");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// Runs each example for [`DURATION`].
pub(crate) fn run_all(context: &Context<'_>) -> Result<()> {
    let chains = chains()?;
    ensure!(!chains.is_empty(), "there are no examples");
    let text = fs::read_to_string(paths::root().join("examples/README.md"));
    let text = text.context("examples/README.md says what each example shows")?;
    for chain in chains {
        let name = chain.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure!(text.contains(&name), "examples/README.md does not name {name}");
        let mut command = Command::new(paths::program());
        command.current_dir(paths::root());
        command.arg("run").arg("--config").arg(&chain).args(["--duration", DURATION]);
        context.quiet(&mut command).with_context(|| format!("example {name}"))?;
    }
    Ok(())
}
