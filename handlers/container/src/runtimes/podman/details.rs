//! The files beside a record: the container's configuration for the low-level runtime, and the pid
//! of its first process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use whalewatch_core::{Container, Namespaces, Status};

use super::roots::read;
use crate::proc::{Membership, Proc, ProcEntry};

pub(super) const FILES: [&str; 2] = [CONFIGURATION, PID];
const CONFIGURATION: &str = "config.json";
const PID: &str = "pidfile";
/// Bound in bytes on a configuration, and on a process's list of mounts.
const MAX_BYTES: u64 = 4 << 20;
/// CRI-O's annotation with the container's labels, as JSON in a string.
const LABELS: &str = "io.kubernetes.cri-o.Labels";

/// The OCI's `config.json`.
#[derive(Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    mounts: Vec<Mount>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(default)]
    source: PathBuf,
}

/// What is known about a container besides its record.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// The folder for files of the running container, as far as the configuration shows it.
    pub(super) run: Option<PathBuf>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) state: State,
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// The files do not say.
    #[default]
    Unknown,
    /// It was never started.
    Created,
    /// Its first process runs.
    Running(ProcEntry),
    /// It has run.
    Ended,
}

impl Details {
    /// Reads the details from the container's own folder `userdata`.
    pub(super) fn of(id: &str, userdata: &Path, host: Namespaces) -> Self {
        let text = match read(&userdata.join(CONFIGURATION), MAX_BYTES) {
            Ok(text) => text,
            // Every start writes it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self { state: State::Created, ..Self::default() };
            }
            Err(_) => return Self::default(),
        };
        let Some((run, labels)) = configured(&text, id, userdata) else { return Self::default() };
        let state = run.as_deref().map_or(State::Unknown, |run| state(id, run, host));
        Self { run, labels, state }
    }

    /// Adds the details to a container from its record.
    pub(super) fn complete(&self, container: &mut Container) {
        container.labels.extend(self.labels.clone());
        (container.status, container.init_pid) = match &self.state {
            State::Unknown => (Status::Unknown, None),
            State::Created => (Status::Created, None),
            State::Running(first) => (Status::Running, Some(first.key.pid)),
            State::Ended => (Status::Exited, None),
        };
    }
}

/// Reads the folder for files of the running container, and the labels. Podman and CRI-O mount
/// files from that folder into each container: `…/overlay-containers/ID/userdata/.containerenv`,
/// `resolv.conf`, `hostname`.
fn configured(
    text: &[u8],
    id: &str,
    userdata: &Path,
) -> Option<(Option<PathBuf>, BTreeMap<String, String>)> {
    let configuration: Configuration = serde_json::from_slice(text).ok()?;
    let own = Path::new(id).join("userdata");
    let folders = configuration.mounts.iter().filter_map(|mount| mount.source.parent());
    let mut folders = folders.filter(|folder| folder.is_absolute() && folder.ends_with(&own));
    let run = folders.find(|&folder| folder != userdata).map(Path::to_owned);
    let labels = configuration.annotations.get(LABELS);
    let labels = labels.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Some((run, labels))
}

pub(super) fn state(id: &str, run: &Path, host: Namespaces) -> State {
    let Ok(text) = read(&run.join(PID), 64) else { return State::Unknown };
    let pid = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    match pid.and_then(|pid| Proc::default().see(pid)) {
        Some(seen) if is_first(&seen, id, host) => State::Running(seen),
        _ => State::Ended, // or the pid was reused
    }
}

/// Whether a process is in the container's own mount namespace.
fn is_first(seen: &ProcEntry, id: &str, host: Namespaces) -> bool {
    let mounts = format!("/proc/{}/mountinfo", seen.key.pid);
    seen.namespaces.mnt != 0
        && seen.namespaces.mnt != host.mnt
        && read(Path::new(&mounts), MAX_BYTES).is_ok_and(|mounts| has_own_files(&mounts, id))
}

/// Whether a file of the container is mounted elsewhere than at its own path, which is the case in
/// the container's mount namespace but not in that of podman itself.
fn has_own_files(mounts: &[u8], id: &str) -> bool {
    let own = format!("/{id}/userdata/");
    let mounts = String::from_utf8_lossy(mounts);
    let mut pairs = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    pairs.any(|(root, place)| root.contains(&own) && !place.contains(id))
}

/// Whether the cgroups of a container's first process identify the container.
pub(super) fn has_cgroup(first: &ProcEntry, id: &str) -> bool {
    let membership = Proc::default().membership(first.key);
    matches!(membership, Some(Membership::Container(identity)) if identity.id == id)
}

/// Returns a descriptor that becomes readable when the process ends.
pub(super) fn end_of(first: &ProcEntry) -> Option<OwnedFd> {
    let pid = Pid::from_raw(first.key.pid.cast_signed())?;
    let end = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // The pid may have been reused meanwhile.
    Proc::default().see(first.key.pid).is_some_and(|now| now.key == first.key).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "e0d4e6c11fdab1cb9bcf2ed1a0a37c6a0ba7b3ae3dbf6f7d1fdd7a1a6a3c1d2e";

    fn host() -> Namespaces {
        Proc::default().host()
    }

    #[test]
    fn folder_of_a_running_container_is_the_source_of_its_mounts() {
        let userdata = PathBuf::from(format!("/data/overlay-containers/{ID}/userdata"));
        let run = PathBuf::from(format!("/run/c/overlay-containers/{ID}/userdata"));
        let text = json!({"mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev/shm", "source": userdata.join("shm")},
            {"destination": "/x"},
            {"destination": "/run/.containerenv", "source": run.join(".containerenv")},
        ], "annotations": {LABELS: "{\"app\":\"web\"}"}});
        let (found, labels) = configured(text.to_string().as_bytes(), ID, &userdata).unwrap();
        assert_eq!(found, Some(run));
        assert_eq!(labels, [("app".into(), "web".into())].into());
        assert_eq!(configured(b"{}", ID, &userdata), Some((None, BTreeMap::new())));
        assert_eq!(configured(b"{\"mounts\":[", ID, &userdata), None);
    }

    #[test]
    fn container_is_known_by_its_own_mounts_not_by_podmans() {
        let line = |root: &str, place: &str| format!("145 138 254:0 {root} {place} rw - ext4 x rw");
        let own = line(&format!("/run/overlay-containers/{ID}/userdata/hosts"), "/etc/hosts");
        let podman = line("/", &format!("/data/overlay-containers/{ID}/userdata/shm"));
        let bound = format!("/data/overlay-containers/{ID}/userdata/shm");
        let shared = line(&bound, &bound);
        assert!(has_own_files(own.as_bytes(), ID));
        assert!(!has_own_files(format!("{podman}\n{shared}\n1 2\n\n").as_bytes(), ID));
        assert!(!has_own_files(own.as_bytes(), &"0".repeat(64)));
    }

    #[test]
    fn never_started_is_created_and_a_reused_pid_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let userdata = dir.path().join(format!("root/{ID}/userdata"));
        let run = dir.path().join(format!("run/{ID}/userdata"));
        std::fs::create_dir_all(&userdata).unwrap();
        std::fs::create_dir_all(&run).unwrap();
        let state = || Details::of(ID, &userdata, host()).state;
        assert!(matches!(state(), State::Created));
        let text = json!({"mounts": [{"source": run.join("hosts")}]}).to_string();
        std::fs::write(userdata.join(CONFIGURATION), text).unwrap();
        assert!(matches!(state(), State::Unknown), "it is being started");
        for pid in [std::process::id().to_string(), "0".into(), "rubbish".into()] {
            std::fs::write(run.join(PID), pid).unwrap();
            assert!(matches!(state(), State::Ended));
        }
    }

    #[test]
    fn own_process_can_be_waited_for_and_another_with_its_pid_not() {
        let mut seen = Proc::default().see(std::process::id()).unwrap();
        assert!(end_of(&seen).is_some());
        assert!(!has_cgroup(&seen, ID));
        seen.key.start_time += 1_000_000_000;
        assert!(end_of(&seen).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_and_mounts_are_read_without_panic(text: Vec<u8>) {
            drop(configured(&text, ID, Path::new("/")));
            let _ = has_own_files(&text, ID);
        }
    }
}
