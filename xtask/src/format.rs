//! Formatting: `rustfmt` is given every source file by name. `cargo fmt` follows `mod` declarations
//! alone, so it passes over files that a macro declares or that nothing declares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::paths;
use crate::run::{Output, Show, run};

/// Files that need not be formatted, each with its reason.
const EXCEPT: [(&str, &str); 0] = [];

/// Fails if `rustfmt` would change any source file of the repository.
pub(crate) fn check(output: &Output) -> Result<()> {
    check_below(&paths::root(), output)
}

fn check_below(root: &Path, output: &Output) -> Result<()> {
    let mut files = sources(root)?;
    ensure!(!files.is_empty(), "{} has no source files", root.display());
    for (file, _reason) in EXCEPT {
        let file = root.join(file);
        ensure!(files.contains(&file), "{} is excepted and does not exist", file.display());
        files.retain(|other| *other != file);
    }
    let program = std::env::var_os("RUSTFMT").unwrap_or_else(|| "rustfmt".into());
    let mut command = Command::new(program);
    command.args(["--check", "--edition", "2024", "--config-path"]);
    command.arg(paths::root().join("rustfmt.toml")).args(files);
    run(&mut command, output, Show::OnFailure)
        .context("`cargo fmt --all` formats what it sees; `rustfmt --edition 2024 FILE` the rest")
}

/// All `.rs` files below a folder, apart from cargo's target folders and hidden ones.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder);
    for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && !path.join("CACHEDIR.TAG").exists() {
                files.extend(sources(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_module_declares_is_checked() {
        let root = std::env::temp_dir().join(format!("xtask-format-{}", std::process::id()));
        let file = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("src/lib.rs", "//! Declares nothing.\n");
        // Not ours: build output and what another tool keeps.
        file("target/CACHEDIR.TAG", "");
        file("target/made.rs", "fn made( ) { }");
        file(".tool/kept.rs", "fn kept( ) { }");
        let output = Output::held(&root.join("log")).unwrap();
        check_below(&root, &output).unwrap();
        file("src/parts/forgotten.rs", "fn forgotten( ) { }\n");
        let error = check_below(&root, &output).unwrap_err();
        assert!(format!("{error:#}").contains("failed"), "{error:#}");
        let log = fs::read_to_string(root.join("log")).unwrap();
        assert!(log.contains("forgotten.rs"), "{log}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn files_that_tools_miss_are_among_the_sources() {
        let files = sources(&paths::root()).unwrap();
        for file in ["xtask/src/format.rs", "examples/geo-handler/src/lib.rs", "tests/e2e/main.rs"]
        {
            assert!(files.contains(&paths::root().join(file)), "{file}");
        }
    }
}
