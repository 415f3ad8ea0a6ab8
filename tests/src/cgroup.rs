//! The hierarchy of cgroups of version 2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// For a shell in a mount namespace of its own: it sees cgroups of version 2 alone, whatever the
/// machine has.
pub const VERSION_2_ALONE: &str = "mount -t cgroup2 none /sys/fs/cgroup";

/// Where it is mounted.
///
/// # Errors
/// When it is not.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(point))
    });
    points.next().context("no cgroup2 is mounted")
}

/// The cgroup of a process, given as `/proc` has it: a number or `self`.
///
/// # Errors
/// When there is no such process, or the hierarchy is not mounted.
pub fn of_process(process: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(Path::new("/proc").join(process).join("cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).context("no v2 cgroup")?;
    Ok(mount_point()?.join(path))
}
