//! The hierarchy of cgroups of version 2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A shell command that, in a new mount namespace, shows cgroups of version 2 alone, whatever the
/// machine has.
pub const VERSION_2_ALONE: &str = "mount -t cgroup2 none /sys/fs/cgroup";

/// Returns the hierarchy's mount point.
///
/// # Errors
/// If it is not mounted.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(point))
    });
    points.next().context("no cgroup2 is mounted")
}

/// Returns the cgroup of a process, which is named as in `/proc`: by a number or `self`.
///
/// # Errors
/// If there is no such process, or the hierarchy is not mounted.
pub fn of_process(process: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(Path::new("/proc").join(process).join("cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).context("no v2 cgroup")?;
    Ok(mount_point()?.join(path))
}
