//! The `[container]` table.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, IntoDeserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use whalewatch_core::{HumanDuration, Problem};

use crate::runtimes::Settings;

/// Where Docker's daemon listens if nobody says otherwise.
const DOCKER_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// A container runtime that can be asked for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// Docker's daemon.
    Docker,
    /// Podman: its records on disk, without a daemon; they are CRI-O's, too.
    Podman,
    /// containerd: its own interface, all namespaces.
    Containerd,
    /// The container runtime interface, which a kubelet speaks: containerd, CRI-O.
    Cri,
}

/// A word for which container runtimes are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeWord {
    /// All that are there, also those that come later.
    Auto,
    /// Docker's daemon.
    Docker,
    /// Podman: its records on disk, without a daemon; they are CRI-O's, too.
    Podman,
    /// containerd: its own interface, all namespaces.
    Containerd,
    /// The container runtime interface, which a kubelet speaks: containerd, CRI-O.
    Cri,
    /// Nobody is asked: containers have an id, from their cgroup, and no name.
    None,
}

/// Which container runtimes are asked for names: a word, or a list of runtimes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RuntimeChoice {
    /// A word.
    Word(RuntimeWord),
    /// Several runtimes.
    Several(Vec<RuntimeKind>),
}

impl<'de> Deserialize<'de> for RuntimeChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = RuntimeChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a runtime's name, \"auto\", \"none\" or a list of names")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RuntimeChoice, E> {
                RuntimeWord::deserialize(word.into_deserializer()).map(RuntimeChoice::Word)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<RuntimeChoice, A::Error> {
                let words = Vec::deserialize(SeqAccessDeserializer::new(words))?;
                Ok(RuntimeChoice::Several(words))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// Where runtimes are to be found, where that is not where they usually are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoints {
    /// Docker's socket, written `unix:///path`. Not set: the environment's `DOCKER_HOST` where that
    /// is such a socket, else `unix:///var/run/docker.sock`.
    pub docker: Option<String>,
    /// Podman's folder of records (its `graphroot`, an absolute path), or its Docker-compatible
    /// socket as `unix:///path`. Not set: `/var/lib/containers/storage` and
    /// `.local/share/containers/storage` below each user's home.
    pub podman: Option<String>,
    /// containerd's socket, written `unix:///path`. Not set: the first that answers of
    /// `/run/containerd/containerd.sock`, `/run/k3s/containerd/containerd.sock`.
    pub containerd: Option<String>,
    /// The socket of a container runtime interface, written `unix:///path`. Not set: the first that
    /// answers of `/run/containerd/containerd.sock`, `/run/crio/crio.sock`,
    /// `/run/k3s/containerd/containerd.sock`. (What cri-dockerd speaks for is Docker's: it is asked
    /// itself.)
    pub cri: Option<String>,
}

impl Endpoints {
    fn of(&self, kind: RuntimeKind) -> Option<&String> {
        match kind {
            RuntimeKind::Docker => self.docker.as_ref(),
            RuntimeKind::Podman => self.podman.as_ref(),
            RuntimeKind::Containerd => self.containerd.as_ref(),
            RuntimeKind::Cri => self.cri.as_ref(),
        }
    }
}

/// The `[container]` table: the container manager. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerOptions {
    /// Which container runtimes are asked for names: "auto" for all that are there, now or later;
    /// one of "docker", "podman", "containerd", "cri", or a list of them; "none" for ids alone.
    pub runtime: RuntimeChoice,
    /// As `endpoints`, for the one runtime that is asked; with "auto" and a list, for Docker's. It
    /// need not be there at start, and may come and go.
    pub endpoint: Option<String>,
    /// Where each runtime is to be found.
    pub endpoints: Endpoints,
    /// How long an event waits at most for its container's name; "0s" for not at all. At most 10s.
    pub hold: HumanDuration,
    /// How long ended processes, removed cgroups and removed containers are remembered, for events
    /// that come late. From 100ms to 10m.
    pub grace: HumanDuration,
    /// How long one answer of the daemon may take before it is asked again. From 100ms to 5m.
    pub request_timeout: HumanDuration,
    /// Least time between two listings of all containers. From 10ms to 1h.
    pub refresh_interval: HumanDuration,
    /// Whether the events container.found and container.gone go down the chains.
    /// (container.resolved always does.)
    pub lifecycle: bool,
    /// Most processes that are remembered, from 1024 to 16777216; about 100 bytes each.
    pub max_processes: u32,
    /// Most containers that are remembered, from 16 to 1048576.
    pub max_containers: u32,
    /// Most cgroups that are remembered, from 64 to 16777216.
    pub max_cgroups: u32,
    /// Most events that wait for a name at the same time, at most 1048576; beyond it the oldest go
    /// on without.
    pub max_held: u32,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        let ms = |ms| HumanDuration(Duration::from_millis(ms));
        Self {
            runtime: RuntimeChoice::Word(RuntimeWord::Auto),
            endpoint: None,
            endpoints: Endpoints::default(),
            hold: ms(100),
            grace: ms(5_000),
            request_timeout: ms(2_000),
            refresh_interval: ms(1_000),
            lifecycle: true,
            max_processes: 1_048_576,
            max_containers: 65_536,
            max_cgroups: 131_072,
            max_held: 16_384,
        }
    }
}

impl ContainerOptions {
    /// Everything wrong with them.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        let ranges = [
            duration("hold", self.hold, ms(0), s(10)),
            duration("grace", self.grace, ms(100), s(600)),
            duration("request_timeout", self.request_timeout, ms(100), s(300)),
            duration("refresh_interval", self.refresh_interval, ms(10), s(3_600)),
            number("max_processes", self.max_processes, 1_024, 1 << 24),
            number("max_containers", self.max_containers, 16, 1 << 20),
            number("max_cgroups", self.max_cgroups, 64, 1 << 24),
            number("max_held", self.max_held, 0, 1 << 20),
        ];
        self.endpoint_problems().chain(ranges.into_iter().flatten()).collect()
    }

    /// The runtimes that are asked, each once.
    pub(crate) fn runtimes(&self) -> Vec<RuntimeKind> {
        match &self.runtime {
            RuntimeChoice::Word(word) => match word {
                RuntimeWord::Auto => RuntimeKind::ALL.to_vec(),
                RuntimeWord::Docker => vec![RuntimeKind::Docker],
                RuntimeWord::Podman => vec![RuntimeKind::Podman],
                RuntimeWord::Containerd => vec![RuntimeKind::Containerd],
                RuntimeWord::Cri => vec![RuntimeKind::Cri],
                RuntimeWord::None => Vec::new(),
            },
            RuntimeChoice::Several(kinds) => {
                let once = |kind: &RuntimeKind| kinds.contains(kind);
                RuntimeKind::ALL.into_iter().filter(once).collect()
            }
        }
    }

    /// How a runtime's client is to behave.
    pub(crate) fn settings(&self, kind: RuntimeKind) -> Settings {
        let endpoint = self.endpoint(kind);
        Settings {
            expected: endpoint.is_some() || self.runtime != RuntimeChoice::Word(RuntimeWord::Auto),
            endpoint: endpoint.or_else(|| (kind == RuntimeKind::Docker).then(docker_endpoint)),
            timeout: self.request_timeout.0,
            interval: self.refresh_interval.0,
        }
    }

    /// Where a runtime is to be found, as far as that is set.
    fn endpoint(&self, kind: RuntimeKind) -> Option<String> {
        let short = || self.endpoint.as_ref().filter(|_| kind == self.endpoint_is_of());
        self.endpoints.of(kind).or_else(short).cloned()
    }

    /// Whose the short form `endpoint` is.
    fn endpoint_is_of(&self) -> RuntimeKind {
        match self.runtimes()[..] {
            [only] => only,
            _ => RuntimeKind::Docker,
        }
    }

    fn endpoint_problems(&self) -> impl Iterator<Item = Problem> {
        let e = &self.endpoints;
        let problems = [
            ("endpoint", &self.endpoint, self.endpoint_is_of()),
            ("endpoints.docker", &e.docker, RuntimeKind::Docker),
            ("endpoints.podman", &e.podman, RuntimeKind::Podman),
            ("endpoints.containerd", &e.containerd, RuntimeKind::Containerd),
            ("endpoints.cri", &e.cri, RuntimeKind::Cri),
        ];
        problems.into_iter().filter_map(|(key, endpoint, kind)| {
            let folder = kind == RuntimeKind::Podman;
            endpoint_problem(key, endpoint.as_deref()?, folder)
        })
    }
}

/// Docker's socket where none is set: as the environment has it for the `docker` command too, or
/// Docker's default.
fn docker_endpoint() -> String {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if host.starts_with("unix:///") => return host,
        Ok(host) if !host.is_empty() => {
            tracing::warn!("DOCKER_HOST is {host:?}, no local socket: {DOCKER_ENDPOINT} is used");
        }
        _ => {}
    }
    DOCKER_ENDPOINT.to_owned()
}

fn endpoint_problem(key: &str, endpoint: &str, folder: bool) -> Option<Problem> {
    let message = match endpoint.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => return None,
        Some(_) => format!("{endpoint:?} is not an absolute path behind unix://"),
        None if folder && endpoint.starts_with('/') => return None,
        None if folder => format!("{endpoint:?} is neither an absolute path nor a Unix socket"),
        None => format!("{endpoint:?} is not a Unix socket: only unix:// is spoken"),
    };
    let hint = if folder { "/var/lib/containers/storage" } else { "unix:///var/run/docker.sock" };
    Some(Problem::new(key, message).hint(format!("write for example {hint:?}")))
}

fn duration(key: &str, value: HumanDuration, least: Duration, most: Duration) -> Option<Problem> {
    if (least..=most).contains(&value.0) {
        return None;
    }
    let (least, most) = (HumanDuration(least), HumanDuration(most));
    let message = format!("{value} is out of range: expected {least} to {most}");
    let hint = if value > most { most } else { least };
    Some(Problem::new(key, message).hint(format!("write for example \"{hint}\"")))
}

fn number(key: &str, value: u32, least: u32, most: u32) -> Option<Problem> {
    if (least..=most).contains(&value) {
        return None;
    }
    let message = format!("{value} is out of range: expected {least} to {most}");
    Some(Problem::new(key, message).hint(format!("write for example {}", value.clamp(least, most))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range() {
        assert_eq!(ContainerOptions::default().problems(), []);
    }

    #[test]
    fn every_value_out_of_range_is_told_with_what_was_expected() {
        let options = ContainerOptions {
            endpoint: Some("tcp://1.2.3.4:2375".into()),
            hold: HumanDuration(Duration::from_mins(1)),
            grace: HumanDuration(Duration::ZERO),
            max_held: u32::MAX,
            max_processes: 1,
            ..ContainerOptions::default()
        };
        let told: Vec<String> =
            options.problems().into_iter().map(|p| format!("{}: {}", p.key, p.message)).collect();
        assert_eq!(
            told,
            [
                "endpoint: \"tcp://1.2.3.4:2375\" is not a Unix socket: only unix:// is spoken",
                "hold: 1m is out of range: expected 0s to 10s",
                "grace: 0s is out of range: expected 100ms to 10m",
                "max_processes: 1 is out of range: expected 1024 to 16777216",
                "max_held: 4294967295 is out of range: expected 0 to 1048576",
            ]
        );
    }

    #[test]
    fn a_relative_socket_is_refused() {
        let options =
            ContainerOptions { endpoint: Some("unix://docker.sock".into()), ..Default::default() };
        let problems = options.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("absolute path"), "{problems:?}");
        assert!(problems[0].hint.as_ref().unwrap().contains("unix:///var/run/docker.sock"));
    }
}
