//! Removes what a dockerd or a containerd leaves, also one of an earlier, interrupted run:
//! processes, cgroups, mounts, files. All of it is recognised by the daemon's folder, so nothing
//! else on the machine is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long killed processes may take to exit.
const LIMIT: Duration = Duration::from_secs(10);
/// The folder of a containerd's state, below its own.
pub const CONTAINERD_STATE: &str = "state";
/// The programs of a dockerd, each of which has the daemon's folder in its command line.
const PROGRAMS: [&str; 4] = ["dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2"];

/// Kills the daemons of `dir` and their containers, unmounts what is mounted there, and removes it.
///
/// # Errors
/// If something cannot be removed.
pub fn sweep(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let containers = container_ids(dir);
    kill_all(|pid| is_daemon_of(pid, dir));
    kill_all(|pid| is_in_container(pid, &containers));
    remove_cgroups(&containers);
    remove(dir)
}

/// Unmounts what is mounted in `dir`, and removes it.
///
/// # Errors
/// If something cannot be removed.
pub fn remove(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    unmount_below(dir)?;
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

/// Does the same as [`sweep`] for a containerd's folder.
///
/// # Errors
/// If something cannot be removed.
pub fn sweep_containerd(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let cgroups = end_containers(dir);
    kill_all(|pid| is_daemon_of(pid, dir));
    // The container of a shim that was killed just now has no parent any more.
    kill_all(|pid| is_in_container(pid, &cgroups));
    remove_cgroups_called(&cgroups);
    remove(dir)
}

/// Kills all processes in a containerd's containers. Returns the ends of their cgroups' paths.
pub fn end_containers(dir: &Path) -> Vec<String> {
    let tasks = dir.join(CONTAINERD_STATE).join("io.containerd.runtime.v2.task");
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut cgroups = Vec::new();
    for namespace in names(&tasks) {
        let containers = names(&tasks.join(&namespace)).into_iter();
        // A pod's containers are below the pod's cgroup; they have ids that no other container has.
        cgroups.extend(containers.map(|id| match id.len() {
            64 => format!("/{id}"),
            _ => format!("/{namespace}/{id}"),
        }));
    }
    kill_all(|pid| is_in_container(pid, &cgroups));
    cgroups
}

/// Removes the cgroups whose paths have these ends, and then those above them that are empty.
fn remove_cgroups_called(ends: &[String]) {
    if ends.is_empty() {
        return;
    }
    for (root, _) in mounts().into_iter().filter(|(_, kind)| kind.starts_with("cgroup")) {
        let mut waiting = vec![root.clone()];
        while let Some(dir) = waiting.pop() {
            let below = fs::read_dir(&dir).into_iter().flatten().flatten();
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(below.map(|entry| entry.path()));
            let path = dir.strip_prefix(&root).map(|path| format!("/{}", path.display()));
            if path.is_ok_and(|path| ends.iter().any(|end| path.ends_with(end.as_str()))) {
                let above = dir.ancestors().take_while(|above| *above != root);
                // A cgroup in use cannot be removed.
                let _in_use = above.map(fs::remove_dir).take_while(Result::is_ok).count();
            }
        }
    }
}

/// Reads the pid in a pid file.
pub fn read_pid(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether a process exists and has not exited.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state comes after the command name, which may contain brackets.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn kill_all(wanted: impl Fn(u32) -> bool) {
    // Killing one may start another (a shim starts a clean-up), so repeat until there are none.
    wait::poll(LIMIT, || {
        let found: Vec<u32> =
            pids().into_iter().filter(|&pid| is_running(pid) && wanted(pid)).collect();
        for pid in found.iter().filter_map(|&pid| Pid::from_raw(pid.cast_signed())) {
            let _gone = kill_process(pid, Signal::KILL);
        }
        wait::when(found.is_empty())
    });
}

fn is_daemon_of(pid: u32, dir: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let line = String::from_utf8_lossy(&line);
    let program = line.split('\0').next().and_then(|path| path.rsplit('/').next());
    // With the slash, so that a folder whose name begins with this one's does not match.
    let inside = format!("{}/", dir.display());
    program.is_some_and(|program| PROGRAMS.contains(&program)) && line.contains(&inside)
}

fn is_in_container(pid: u32, containers: &[String]) -> bool {
    let Ok(cgroups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
    containers.iter().any(|id| cgroups.contains(id.as_str()))
}

fn container_ids(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir.join("data/containers")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Lists mount points and their file systems' types, in the order of mounting.
fn mounts() -> Vec<(PathBuf, String)> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((PathBuf::from(words.next()?), words.next()?.to_owned()))
    };
    table.lines().filter_map(line).collect()
}

fn unmount_below(dir: &Path) -> Result<()> {
    for (point, _) in mounts().into_iter().rev().filter(|(point, _)| point.starts_with(dir)) {
        let status = Command::new("umount").arg("--lazy").arg(&point).status()?;
        ensure!(status.success(), "cannot unmount {}", point.display());
    }
    Ok(())
}

fn remove_cgroups(containers: &[String]) {
    let hierarchies = mounts().into_iter().filter(|(_, kind)| kind.starts_with("cgroup"));
    for (root, _) in hierarchies {
        for id in containers {
            // Usually gone already: runc removes them when a container exits.
            let _gone = fs::remove_dir(root.join("docker").join(id));
        }
    }
}
