//! Finds a compiler for the kernel side: one that comes with the sources of its library.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::manifest::Manifest;
use crate::paths;
use crate::tools::{self, LINKER_VERSION};

/// A compiler and its linker.
pub(super) struct Toolchain {
    /// `rustc`.
    pub(super) rustc: PathBuf,
    /// The folder of its library's sources.
    pub(super) library: PathBuf,
    /// Its version, as it prints it.
    pub(super) version: String,
    /// `bpf-linker`.
    pub(super) linker: PathBuf,
    /// The linker's version, as it prints it.
    pub(super) linker_version: String,
}

impl Toolchain {
    /// Finds the toolchain that made the manifest's objects, or else the first that can build.
    pub(super) fn find(manifest: Option<&Manifest>) -> Result<Self> {
        let linker = linker()?;
        let linker_version = first_line(Command::new(&linker).arg("--version")).unwrap_or_default();
        let mut found: Vec<_> = compilers()
            .into_iter()
            .filter_map(|rustc| {
                let library = library(&rustc)?;
                let version = first_line(Command::new(&rustc).arg("--version"))?;
                let (linker, linker_version) = (linker.clone(), linker_version.clone());
                Some(Self { rustc, library, version, linker, linker_version })
            })
            .collect();
        ensure!(
            !found.is_empty(),
            "no compiler comes with its library's sources: run `rustup toolchain install nightly \
             --component rust-src`, or on Debian `apt-get install rustc-web rust-web-src`"
        );
        let same = manifest.and_then(|m| found.iter().position(|toolchain| toolchain.made(m)));
        Ok(found.swap_remove(same.unwrap_or(0)))
    }

    /// Whether this toolchain made the manifest's objects.
    pub(super) fn made(&self, manifest: &Manifest) -> bool {
        (&self.version, &self.linker_version) == (&manifest.rustc, &manifest.linker)
    }
}

/// Lists compilers in order of preference: rustup's nightly, then the system's.
fn compilers() -> Vec<PathBuf> {
    let nightly =
        first_line(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]));
    let system = PathBuf::from("/usr/bin/rustc");
    nightly.map(PathBuf::from).into_iter().chain(system.is_file().then_some(system)).collect()
}

/// Returns the folder of a compiler's library sources, if it has them.
fn library(rustc: &Path) -> Option<PathBuf> {
    let root = first_line(Command::new(rustc).args(["--print", "sysroot"]))?;
    let library = Path::new(&root).join("lib/rustlib/src/rust/library");
    library.join("core/src/lib.rs").is_file().then_some(library)
}

/// Finds the linker in `target/tools` or on the search path, or builds it into the former.
fn linker() -> Result<PathBuf> {
    let own = tools::dir().join("bin/bpf-linker");
    let fits = |path: &PathBuf| {
        let version = first_line(Command::new(path).arg("--version"));
        version.is_some_and(|version| version.ends_with(LINKER_VERSION))
    };
    if let Some(linker) =
        [Some(own.clone()), paths::find("bpf-linker")].into_iter().flatten().find(fits)
    {
        return Ok(linker);
    }
    eprintln!("building bpf-linker {LINKER_VERSION} into {}", tools::dir().display());
    let status = tools::build_linker().status().context("cannot start `cargo install`")?;
    ensure!(status.success(), "cannot build bpf-linker: the messages of `cargo install` are above");
    Ok(own)
}

/// Returns the first line that a program prints, if it succeeds.
fn first_line(command: &mut Command) -> Option<String> {
    // `cargo xtask` sets these; rustup's programs would then use the toolchain that built xtask.
    let done = command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Returns the folder in which cargo keeps the sources of packages.
pub(super) fn cargo_home() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .context("neither CARGO_HOME nor HOME is set")
}
