//! Compilers that can build for the kernel: those that have the sources of their own library.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::manifest::Manifest;
use crate::{paths, tools};

/// The linker's version: another may well make other objects.
pub(super) const LINKER_VERSION: &str = "0.10.3";

/// A compiler, and the linker for it.
pub(super) struct Toolchain {
    /// `rustc`.
    pub(super) rustc: PathBuf,
    /// Where its library's sources are.
    pub(super) library: PathBuf,
    /// What it says that it is.
    pub(super) version: String,
    /// `bpf-linker`.
    pub(super) linker: PathBuf,
    /// What it says that it is.
    pub(super) linker_version: String,
}

impl Toolchain {
    /// The one that made the objects of that manifest, if it is here; else the first there is.
    pub(super) fn find(manifest: Option<&Manifest>) -> Result<Self> {
        let linker = linker()?;
        let linker_version = said(Command::new(&linker).arg("--version")).unwrap_or_default();
        let mut found: Vec<_> = compilers()
            .into_iter()
            .filter_map(|rustc| {
                let library = library(&rustc)?;
                let version = said(Command::new(&rustc).arg("--version"))?;
                let (linker, linker_version) = (linker.clone(), linker_version.clone());
                Some(Self { rustc, library, version, linker, linker_version })
            })
            .collect();
        ensure!(
            !found.is_empty(),
            "no compiler with its library's sources: `rustup toolchain install nightly --component rust-src`, or on Debian \
             `apt-get install rustc-web rust-web-src`"
        );
        let same = manifest.and_then(|m| found.iter().position(|toolchain| toolchain.made(m)));
        Ok(found.swap_remove(same.unwrap_or(0)))
    }

    /// Whether the objects of that manifest were made by this one.
    pub(super) fn made(&self, manifest: &Manifest) -> bool {
        (&self.version, &self.linker_version) == (&manifest.rustc, &manifest.linker)
    }
}

/// Compilers that may be here, in order of preference: rustup's nightly, then the system's.
fn compilers() -> Vec<PathBuf> {
    let nightly = said(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]));
    let system = PathBuf::from("/usr/bin/rustc");
    nightly.map(PathBuf::from).into_iter().chain(system.is_file().then_some(system)).collect()
}

/// Where a compiler has the sources of its library, if it has them.
fn library(rustc: &Path) -> Option<PathBuf> {
    let root = said(Command::new(rustc).args(["--print", "sysroot"]))?;
    let library = Path::new(&root).join("lib/rustlib/src/rust/library");
    library.join("core/src/lib.rs").is_file().then_some(library)
}

/// The linker on the search path or in `target/tools`, which is where it goes if there is none.
fn linker() -> Result<PathBuf> {
    let own = tools::dir().join("bin/bpf-linker");
    let fits = |path: &PathBuf| {
        let version = said(Command::new(path).arg("--version"));
        version.is_some_and(|version| version.ends_with(LINKER_VERSION))
    };
    if let Some(linker) =
        [Some(own.clone()), paths::find("bpf-linker")].into_iter().flatten().find(fits)
    {
        return Ok(linker);
    }
    eprintln!("building bpf-linker {LINKER_VERSION} into {}", tools::dir().display());
    let mut install = Command::new("cargo");
    install.args([
        "install",
        "--quiet",
        "--locked",
        "--version",
        LINKER_VERSION,
        "bpf-linker",
        "--root",
    ]);
    let status = install.arg(tools::dir()).status().context("cannot start `cargo install`")?;
    ensure!(status.success(), "bpf-linker cannot be built: what `cargo install` said is above");
    Ok(own)
}

/// The first line that a program says, if it ends well.
fn said(command: &mut Command) -> Option<String> {
    // Run by `cargo xtask`, these would make rustup's programs stand for the toolchain that xtask
    // itself was built with.
    let done = command.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Where cargo keeps the sources of packages.
pub(super) fn cargo_home() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(home)
        .context("neither CARGO_HOME nor HOME is set")
}
