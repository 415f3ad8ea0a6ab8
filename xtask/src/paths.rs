//! Paths in the repository and on the machine.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is in the repository's root").to_owned()
}

/// Returns cargo's target folder.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Returns the path of the program that the checks run: the step `program` puts it there.
pub(crate) fn program() -> PathBuf {
    target().join("xtask/program/whalewatch")
}

/// Returns the path of the program as packages have it, built with the profile `dist`.
pub(crate) fn packaged_program() -> PathBuf {
    target().join("dist/whalewatch")
}

/// Finds a program on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Daemons are in `sbin`, which is not on every user's path.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}
