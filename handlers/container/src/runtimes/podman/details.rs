//! What lies beside a record: the container's configuration for its runtime, and the pid of its
//! first process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use whalewatch_core::{Container, Namespaces, Status};

use super::roots::read;
use crate::proc::{Proc, Seen, Told};

pub(super) const FILES: [&str; 2] = [CONFIGURATION, PID];
const CONFIGURATION: &str = "config.json";
const PID: &str = "pidfile";
/// Largest configuration that is read, and the most of a process's mounts.
const MOST_BYTES: u64 = 4 << 20;
/// CRI-O's own, with the container's labels as JSON in a string.
const LABELS: &str = "io.kubernetes.cri-o.Labels";

/// The configuration for the runtime: `config.json` of the OCI.
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

/// What is to be known of a container besides its record.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// The folder for what is kept while it runs, once its configuration tells that.
    pub(super) run: Option<PathBuf>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) state: State,
}

#[derive(Debug, Default)]
pub(super) enum State {
    /// Its files do not say.
    #[default]
    Unsaid,
    /// It was never started.
    Created,
    /// Its first process runs.
    Runs(Seen),
    /// It has run.
    Ended,
}

impl Details {
    /// Reads them, in the container's own folder `userdata`.
    pub(super) fn of(id: &str, userdata: &Path, host: Namespaces) -> Self {
        let text = match read(&userdata.join(CONFIGURATION), MOST_BYTES) {
            Ok(text) => text,
            // It is written at each start.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self { state: State::Created, ..Self::default() };
            }
            Err(_) => return Self::default(),
        };
        let Some((run, labels)) = configured(&text, id, userdata) else { return Self::default() };
        let state = run.as_deref().map_or(State::Unsaid, |run| state(id, run, host));
        Self { run, labels, state }
    }

    /// Adds them to what the record tells.
    pub(super) fn complete(&self, container: &mut Container) {
        container.labels.extend(self.labels.clone());
        (container.status, container.init_pid) = match &self.state {
            State::Unsaid => (Status::Unknown, None),
            State::Created => (Status::Created, None),
            State::Runs(first) => (Status::Running, Some(first.key.pid)),
            State::Ended => (Status::Exited, None),
        };
    }
}

/// The folder for what is kept while it runs, and labels. The folder is where files come from that
/// podman and CRI-O mount into each container: `…/overlay-containers/ID/userdata/.containerenv`,
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
    let Ok(text) = read(&run.join(PID), 64) else { return State::Unsaid };
    let pid = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    match pid.and_then(|pid| Proc::default().see(pid)) {
        Some(seen) if is_first(&seen, id, host) => State::Runs(seen),
        _ => State::Ended, // or the number is another process's by now
    }
}

/// Whether a process lives in a container's own mount namespace.
fn is_first(seen: &Seen, id: &str, host: Namespaces) -> bool {
    let mounts = format!("/proc/{}/mountinfo", seen.key.pid);
    seen.namespaces.mnt != 0
        && seen.namespaces.mnt != host.mnt
        && read(Path::new(&mounts), MOST_BYTES).is_ok_and(|mounts| has_own_files(&mounts, id))
}

/// Whether a file of the container's own is mounted, and not at its own place: that is so in the
/// namespaces of podman itself.
fn has_own_files(mounts: &[u8], id: &str) -> bool {
    let own = format!("/{id}/userdata/");
    let mounts = String::from_utf8_lossy(mounts);
    let mut pairs = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    pairs.any(|(root, place)| root.contains(&own) && !place.contains(id))
}

/// Whether the cgroups of a container's first process tell which container it is.
pub(super) fn has_cgroup(first: &Seen, id: &str) -> bool {
    matches!(Proc::default().container(first.key), Some(Told::Container(home)) if home.id == id)
}

/// Something that becomes readable when the process ends.
pub(super) fn end_of(first: &Seen) -> Option<OwnedFd> {
    let pid = Pid::from_raw(first.key.pid.cast_signed())?;
    let end = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // The number may have become another's meanwhile.
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
    fn the_folder_of_a_running_container_is_where_its_mounts_come_from() {
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
    fn a_container_is_told_by_its_own_mounts_and_podman_s_are_not_its_own() {
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
    fn what_was_never_started_is_created_and_a_number_of_another_process_is_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let userdata = dir.path().join(format!("root/{ID}/userdata"));
        let run = dir.path().join(format!("run/{ID}/userdata"));
        std::fs::create_dir_all(&userdata).unwrap();
        std::fs::create_dir_all(&run).unwrap();
        let state = || Details::of(ID, &userdata, host()).state;
        assert!(matches!(state(), State::Created));
        let text = json!({"mounts": [{"source": run.join("hosts")}]}).to_string();
        std::fs::write(userdata.join(CONFIGURATION), text).unwrap();
        assert!(matches!(state(), State::Unsaid), "it is being started");
        for pid in [std::process::id().to_string(), "0".into(), "rubbish".into()] {
            std::fs::write(run.join(PID), pid).unwrap();
            assert!(matches!(state(), State::Ended));
        }
    }

    #[test]
    fn our_own_process_can_be_waited_for_and_one_that_is_not_it_cannot() {
        let mut seen = Proc::default().see(std::process::id()).unwrap();
        assert!(end_of(&seen).is_some());
        assert!(!has_cgroup(&seen, ID));
        seen.key.start_time += 1_000_000_000;
        assert!(end_of(&seen).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_and_any_mounts_are_read_without_panicking(text: Vec<u8>) {
            drop(configured(&text, ID, Path::new("/")));
            let _ = has_own_files(&text, ID);
        }
    }
}
