//! Debian's kernels. Metapackages name the newest kernel of each kind; a fetched kernel is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::run::{Output, Show, run};

/// Metapackages, each of which depends on the newest kernel of its kind. A distribution that lacks one
/// skips it.
const NEWEST: [&str; 4] = [
    "linux-image-cloud-amd64",
    "linux-image-rt-amd64",
    "linux-image-6.12-cloud-amd64",
    // Ubuntu's.
    "linux-image-virtual",
];

/// A kernel to boot.
pub(super) struct Kernel {
    /// The kernel's release, as `uname -r` prints it.
    pub(super) release: String,
    pub(super) image: PathBuf,
}

/// Fetches the kernels that are missing.
pub(super) fn fetch(dir: &Path, output: &Output) -> Result<Vec<Kernel>> {
    let mut releases = releases();
    if releases.is_empty() {
        run(Command::new("apt-get").args(["-q", "update"]), output, Show::OnFailure)?;
        releases = self::releases();
    }
    ensure!(!releases.is_empty(), "apt has none of {}", NEWEST.join(", "));
    for package in NEWEST.iter().filter(|package| release(package).is_none()) {
        output.line(&format!("   skipped: apt has no {package}"));
    }
    releases.into_iter().map(|release| fetch_one(dir, release, output)).collect()
}

fn releases() -> Vec<String> {
    let mut releases: Vec<String> = NEWEST.iter().filter_map(|package| release(package)).collect();
    releases.dedup();
    releases
}

fn release(newest: &str) -> Option<String> {
    let done = Command::new("apt-cache").args(["depends", "--important", newest]).output().ok()?;
    dependency(&String::from_utf8_lossy(&done.stdout))
}

/// Returns the release of the kernel that a metapackage depends on.
fn dependency(said: &str) -> Option<String> {
    let mut packages = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find_map(|package| package.strip_prefix("linux-image-")).map(str::to_owned)
}

fn fetch_one(dir: &Path, release: String, output: &Output) -> Result<Kernel> {
    let image = dir.join(format!("vmlinuz-{release}"));
    if !image.exists() {
        let package = format!("linux-image-{release}");
        let packages = dir.join(&package);
        fs::create_dir_all(&packages)?;
        if download(&packages, &package, output).is_err() {
            // The package lists name a version that is no longer there.
            run(Command::new("apt-get").args(["-q", "update"]), output, Show::OnFailure)?;
            download(&packages, &package, output)?;
        }
        unpack(&packages, &image, output)
            .with_context(|| format!("cannot unpack a kernel from {package}"))?;
        fs::remove_dir_all(&packages)?;
    }
    Ok(Kernel { release, image })
}

fn download(dir: &Path, package: &str, output: &Output) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.current_dir(dir).args(["-q", "download", package]);
    run(&mut command, output, Show::OnFailure)
}

/// Unpacks only the kernel: its modules are a hundred times as large.
fn unpack(packages: &Path, image: &Path, output: &Output) -> Result<()> {
    const SCRIPT: &str = "set -e
        dpkg-deb --fsys-tarfile *.deb | tar -xO --wildcards './boot/vmlinuz*' >part
        test -s part
        mv part \"$1\"";
    let mut command = Command::new("sh");
    command.current_dir(packages).args(["-c", SCRIPT, "sh"]).arg(image);
    run(&mut command, output, Show::OnFailure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_a_metapackage_is_found() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependency(said).as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n  Depends: linux-base\n"), None);
        assert_eq!(dependency(""), None);
    }
}
