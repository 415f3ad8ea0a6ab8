//! What the full tests need of the machine: packages, mounts, a root for containers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::paths;
use crate::steps::Context;

/// Debian's packages that the tests need, each with a program by which it is known to be there.
const PROGRAMS: [(&str, &str); 16] = [
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
];

/// The Rust compiler that builds the kernel side, with the sources of its library: rustup's stable toolchain comes without.
const KERNEL_SIDE: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Installs what is missing.
pub(crate) fn install_packages(context: &mut Context) -> Result<()> {
    let missing = |(_, program): &&(&str, &str)| paths::find(program).is_none();
    let mut packages: Vec<&str> = PROGRAMS.iter().filter(missing).map(|(name, _)| *name).collect();
    if !nightly_has_sources() {
        packages.extend(KERNEL_SIDE.iter().filter(|package| !is_installed(package)));
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
            "install what Debian calls {}: without apt-get that is up to you",
            packages.join(" ")
        );
    }
    println!("   {}", packages.join(" "));
    // The lists of what there is may be missing or old: that shows in a failure, and is mended by `update`.
    if context.quiet(&mut install(&packages)).is_err() {
        context.quiet(Command::new("apt-get").args(["-q", "update"]))?;
        context.quiet(&mut install(&packages))?;
    }
    Ok(())
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

/// Whether rustup has a nightly toolchain with the library's sources, as on many developers' machines.
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

/// Whether a program asks for no loader, and so runs in a root that has nothing else.
fn is_static(program: &Path) -> bool {
    let Ok(bytes) = fs::read(program) else { return false };
    let start = &bytes[..bytes.len().min(4096)];
    !start.windows(4).any(|word| word == b"/ld-")
}

/// The kernel's file systems that Whalewatch looks at: type and place.
const FILE_SYSTEMS: [(&str, &str); 3] = [
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
];

/// What we mounted. It is taken down when this goes.
#[derive(Debug, Default)]
pub(crate) struct Mounts(Vec<&'static str>);

impl Mounts {
    /// Mounts what is missing.
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
                eprintln!("{place} stays mounted: someone uses it");
            }
        }
    }
}

/// A tar of a root for containers: busybox under all of its names. No registry is asked.
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
