//! What `/proc` says about a process. The manager uses it for processes that no tracker has
//! reported yet, and where cgroups do not answer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use whalewatch_core::{Namespaces, ProcessKey};

use crate::cgroups::{OwnedIdentity, StateFolders, container_in};

/// Resolution of start times in `/proc/PID/stat`, in nanoseconds: a tick of `USER_HZ`, 100 a
/// second. They are rounded down.
pub(crate) const TICK: u64 = 10_000_000;

/// A process as `/proc` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ProcEntry {
    /// Pid, and start time rounded down to a [`TICK`].
    pub(crate) key: ProcessKey,
    pub(crate) parent: u32,
    pub(crate) namespaces: Namespaces,
}

/// Where a process is according to its cgroups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Membership {
    /// On the host.
    Host,
    /// In this container.
    Container(OwnedIdentity),
}

/// A mounted proc file system.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    root: PathBuf,
    folders: StateFolders,
}

impl Default for Proc {
    fn default() -> Self {
        Self { root: "/proc".into(), folders: StateFolders::below(Path::new("/")) }
    }
}

impl Proc {
    /// Starts to watch for state folders of new containers.
    pub(crate) fn watch(&self) {
        self.folders.watch();
    }

    #[cfg(test)]
    pub(crate) fn is_watched(&self) -> bool {
        self.folders.is_watched()
    }

    /// A `/proc` in another folder.
    #[cfg(test)]
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { folders: StateFolders::below(&root), root }
    }

    /// Returns the host's namespaces: those of process 1, or our own if those cannot be read.
    pub(crate) fn host(&self) -> Namespaces {
        let first = self.namespaces("1");
        if first.mnt != 0 { first } else { self.namespaces("self") }
    }

    /// Returns the pid of every process.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> + use<> {
        fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
    }

    /// Reads a process; `None` if it is gone.
    pub(crate) fn see(&self, pid: u32) -> Option<ProcEntry> {
        let (parent, start_time) = self.stat(pid)?;
        let namespaces = self.namespaces(&pid.to_string());
        Some(ProcEntry { key: ProcessKey { pid, start_time }, parent, namespaces })
    }

    /// Returns the container whose cgroup is at or above this path, from a runtime's state folder.
    /// `gone` says whether the cgroup was removed.
    pub(crate) fn claim(&self, path: &[u8], gone: impl Fn() -> bool) -> Option<OwnedIdentity> {
        self.folders.claim(path, gone)
    }

    /// Reads where a process is according to its cgroups; `None` if it is gone, or if its pid was
    /// reused.
    pub(crate) fn membership(&self, key: ProcessKey) -> Option<Membership> {
        let text = fs::read(self.root.join(key.pid.to_string()).join("cgroup")).ok()?;
        let (_, start_time) = self.stat(key.pid)?;
        (start_time / TICK == key.start_time / TICK).then(|| self.in_cgroup_file(&text))
    }

    fn in_cgroup_file(&self, text: &[u8]) -> Membership {
        let in_path = || cgroup_paths(text).find_map(container_in).map(OwnedIdentity::from);
        let in_state = || cgroup_paths(text).find_map(|path| self.claim(path, || false));
        in_path().or_else(in_state).map_or(Membership::Host, Membership::Container)
    }

    fn stat(&self, pid: u32) -> Option<(u32, u64)> {
        parse_stat(&fs::read(self.root.join(pid.to_string()).join("stat")).ok()?)
    }

    fn namespaces(&self, pid: &str) -> Namespaces {
        let dir = self.root.join(pid).join("ns");
        let inode = |name| fs::metadata(dir.join(name)).map_or(0, |m| m.ino() as u32);
        Namespaces { user: inode("user"), pid: inode("pid"), mnt: inode("mnt"), net: 0 }
    }
}

/// Reads parent and start time. The command's name is in parentheses, and may contain some.
fn parse_stat(stat: &[u8]) -> Option<(u32, u64)> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let text = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace(); // from the third field, the state, on
    let parent = fields.nth(1)?.parse().ok()?;
    let ticks: u64 = fields.nth(17)?.parse().ok()?;
    Some((parent, ticks.saturating_mul(TICK)))
}

/// Returns the paths in the text of `/proc/PID/cgroup`, that of version 2 first.
fn cgroup_paths(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = || text.split(|&b| b == b'\n');
    let ordered = lines().filter(|l| l.starts_with(b"0::")).chain(lines());
    ordered.filter_map(|line| line.splitn(3, |&b| b == b':').nth(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_of_the_command() {
        let stat = |comm: &str| {
            format!("42 ({comm}) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n")
        };
        for comm in ["sh", "a b", ") S 1 (", "((("] {
            let parsed = parse_stat(stat(comm).as_bytes());
            assert_eq!(parsed, Some((7, 123_450_000_000)), "{comm}");
        }
        for broken in ["", "42", "42 (sh", "42 (sh) S", "42 (sh) S x"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn container_is_found_in_any_line_but_first_in_version_2s() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let proc = Proc::at("/nowhere");
        let id = |text: &str| match proc.in_cgroup_file(text.as_bytes()) {
            Membership::Container(identity) => Some(identity.id),
            Membership::Host => None,
        };
        assert_eq!(id(&format!("8:pids:/docker/{a}\n1:cpu:/docker/{a}\n")), Some(a.clone()));
        assert_eq!(id(&format!("8:pids:/docker/{a}\n0::/docker/{b}\n")), Some(b));
        // A name with colons in it, as containerd makes them.
        let odd = format!("0::/x/kubepods-pod1.slice:cri-containerd:{a}\n");
        assert_eq!(id(&odd), Some(a));
        assert_eq!(id("8:pids:/\n0::/\n"), None);
        assert_eq!(id("rubbish\n::\n"), None);
    }

    #[test]
    fn own_process_is_read_and_a_reused_pid_noticed() {
        let proc = Proc::default();
        let me = proc.see(std::process::id()).unwrap();
        assert_ne!(me.namespaces.mnt, 0);
        assert!(proc.membership(me.key).is_some());
        let other = ProcessKey { start_time: me.key.start_time + TICK, ..me.key };
        assert!(proc.membership(other).is_none());
    }
}
