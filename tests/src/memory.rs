//! A cgroup whose memory runs out.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// A memory cgroup with a limit, of version 1 or 2. Dropping it removes it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a cgroup with a limit in bytes.
    ///
    /// # Errors
    /// If this host has no memory controller, or refuses the cgroup.
    pub fn make(name: &str, limit: u64) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mount = |kind: &str, option: &str| {
            let line = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            line.into_iter()
                .find(|words| words[2] == kind && words[3].split(',').any(|o| o == option))
                .map(|words| PathBuf::from(words[1]))
        };
        let (root, file) = match mount("cgroup", "memory") {
            Some(root) => (root, "memory.limit_in_bytes"),
            None => (
                mount("cgroup2", "rw").ok_or_else(|| io::Error::other("no memory controller"))?,
                "memory.max",
            ),
        };
        let dir = root.join(name);
        fs::create_dir(&dir)?;
        let cgroup = Self(dir);
        fs::write(cgroup.0.join(file), limit.to_string())?;
        Ok(cgroup)
    }

    /// Returns a command that uses memory in the cgroup until it is killed: `tail` keeps what it
    /// reads.
    pub fn hog(&self) -> Command {
        let mut command = Command::new("busybox");
        let script = format!("echo $$ >{}/cgroup.procs && exec tail /dev/zero", self.0.display());
        command.args(["sh", "-c", &script]);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The next run makes a cgroup of the same name.
        fs::remove_dir(&self.0).unwrap_or_else(|e| eprintln!("{}: {e}", self.0.display()));
    }
}
