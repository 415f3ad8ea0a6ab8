//! The machine's set-up for the full tests: packages, mounts, a root file system for containers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::paths;
use crate::steps::Context;

/// Debian packages that the tests need, each with a program that shows whether it is installed.
const PROGRAMS: [(&str, &str); 17] = [
    ("docker.io", "dockerd"),
    ("docker.io", "docker"),
    ("containerd", "containerd"),
    ("containerd", "ctr"),
    ("busybox-static", "busybox"),
    ("podman", "podman"),
    ("uidmap", "newuidmap"),
    ("util-linux", "setpriv"),
    ("iproute2", "ip"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("zstd", "zstd"),
    ("sqlite3", "sqlite3"),
    ("runc", "runc"),
    ("crun", "crun"),
    ("codespell", "codespell"),
];

/// The Rust compiler for the kernel side, with the sources of its library, which rustup's stable
/// toolchain lacks.
const KERNEL_SIDE: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Installs the packages that are missing.
pub(crate) fn install_packages(context: &Context<'_>) -> Result<()> {
    let missing = |(_, program): &&(&str, &str)| paths::find(program).is_none();
    let mut packages: Vec<&str> = PROGRAMS.iter().filter(missing).map(|(name, _)| *name).collect();
    let has_compiler = || KERNEL_SIDE.iter().all(|package| is_installed(package)) && is_recent();
    if !nightly_has_sources() && !has_compiler() {
        packages.extend(KERNEL_SIDE);
    }
    packages.dedup();
    if busybox().is_some_and(|file| !is_static(&file)) {
        packages.push("busybox-static");
    }
    if packages.is_empty() {
        return Ok(());
    }
    if paths::find("apt-get").is_none() {
        bail!(
            "these Debian packages are missing, and there is no apt-get: install the programs of {}",
            packages.join(" ")
        );
    }
    context.output.line(&format!("   {}", packages.join(" ")));
    // The package lists may be missing, or so old that their compiler is too old as well. If they
    // cannot be refreshed, the present ones may do.
    if let Err(error) = context.quiet(Command::new("apt-get").args(["-q", "update"])) {
        context.output.line(&format!("   {error:#}: the package lists may be old"));
    }
    context.quiet(&mut install(&packages))
}

fn install(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["-q", "-y", "--no-install-recommends", "install"]).args(packages);
    command
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).output();
    query.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).ends_with(" installed"))
}

/// Whether the system's compiler is new enough for the kernel side's crates.
fn is_recent() -> bool {
    let output = Command::new("/usr/bin/rustc").arg("--version").output();
    output.is_ok_and(|done| is_new_enough(&String::from_utf8_lossy(&done.stdout)))
}

/// Whether the output of `rustc --version` (`rustc 1.95.0 (…)`) names the workspace's `rust-version`
/// or a newer one.
fn is_new_enough(output: &str) -> bool {
    let release = |version: &str| -> Option<(u32, u32)> {
        let mut numbers = version.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let found = output.split(' ').nth(1).and_then(release);
    found.is_some_and(|found| Some(found) >= release(env!("CARGO_PKG_RUST_VERSION")))
}

/// Whether rustup has a nightly toolchain with the library's sources, as on many developers'
/// machines.
fn nightly_has_sources() -> bool {
    let sysroot = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output();
    sysroot.is_ok_and(|done| {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&done.stdout).trim());
        done.status.success() && sysroot.join("lib/rustlib/src/rust/library").is_dir()
    })
}

pub(crate) fn busybox() -> Option<PathBuf> {
    paths::find("busybox")
}

/// Whether a program needs no loader, and so runs in a root file system without libraries.
fn is_static(program: &Path) -> bool {
    let Ok(bytes) = fs::read(program) else { return false };
    let start = &bytes[..bytes.len().min(4096)];
    !start.windows(4).any(|word| word == b"/ld-")
}

/// Kernel file systems that Whalewatch reads: type and mount point.
const FILE_SYSTEMS: [(&str, &str); 3] = [
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
];

/// File systems that this process mounted. Dropping it unmounts them.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<&'static str>);

impl Mounts {
    /// Mounts the file systems that are missing.
    pub(crate) fn mount_missing(&mut self) -> Result<()> {
        let mounted = fs::read_to_string("/proc/self/mounts").context("no /proc")?;
        for (kind, place) in FILE_SYSTEMS {
            let is_there = mounted.lines().any(|line| line.split(' ').nth(1) == Some(place));
            if is_there || !Path::new(place).is_dir() {
                continue;
            }
            let status = Command::new("mount").args(["-t", kind, kind, place]).status()?;
            ensure!(status.success(), "cannot mount {kind} at {place}");
            self.0.push(place);
        }
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in self.0.iter().rev() {
            if !Command::new("umount").arg(place).status().is_ok_and(|status| status.success()) {
                eprintln!("cannot unmount {place}: another process uses it");
            }
        }
    }
}

/// Makes a tar of a root file system for containers: busybox under all of its names. No registry is
/// needed.
pub(crate) fn image_tar(dir: &Path) -> Result<PathBuf> {
    let tar = dir.join("image.tar");
    if tar.exists() {
        return Ok(tar);
    }
    let root = dir.join("image");
    let bin = root.join("bin");
    fs::create_dir_all(&bin)?;
    let busybox = busybox().context("busybox-static is not installed")?;
    fs::copy(&busybox, bin.join("busybox"))?;
    let applets = Command::new(&busybox).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox")
    {
        symlink("busybox", bin.join(applet))?;
    }
    let status = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status()?;
    ensure!(status.success(), "cannot make {}", tar.display());
    Ok(tar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_compilers_are_not_enough() {
        for (output, enough) in [
            ("rustc 1.85.0 (4d91de4e4 2025-02-17) (built from a source tarball)", false),
            ("rustc 1.100.1", true),
            ("rustc 2.0.0-nightly (x)", true),
            (concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".0"), true),
            ("rustc", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(output), enough, "{output}");
        }
    }
}
