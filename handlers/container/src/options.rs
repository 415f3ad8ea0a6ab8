//! The `[container]` table of the configuration.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use whalewatch_core::{HumanDuration, Problem};

use crate::runtimes::Settings;

/// The socket of Docker's daemon unless something else is configured.
const DOCKER_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// A client that asks container runtimes for names. (A client is not a runtime: one of them asks
/// podman and CRI-O, and containerd can be asked in two ways.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeClient {
    /// Asks Docker's daemon.
    Docker,
    /// Reads the records of podman and CRI-O on disk; needs no daemon.
    Podman,
    /// Asks containerd through its own API, in all namespaces.
    Containerd,
    /// Asks the container runtime interface (CRI), as a kubelet does: containerd, CRI-O.
    Cri,
}

impl RuntimeClient {
    /// All clients.
    pub(crate) const ALL: [Self; 4] = [Self::Docker, Self::Podman, Self::Containerd, Self::Cri];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Cri => "cri",
        }
    }
}

/// Which clients ask for the names of containers: a word or a list of words in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// `"auto"`: every client whose runtime is there, now or later.
    Auto,
    /// `"none"`: no client. Containers then have an id, from their cgroup, and no name.
    None,
    /// These clients: one word, or a list of words.
    Only(Vec<RuntimeClient>),
}

impl RuntimeChoice {
    const AUTO: &str = "auto";
    const NONE: &str = "none";
    /// Every word that may stand alone.
    const WORDS: &[&str] = &[Self::AUTO, "docker", "podman", "containerd", "cri", Self::NONE];

    /// Chooses one client.
    pub fn only(client: RuntimeClient) -> Self {
        Self::Only(vec![client])
    }
}

impl Serialize for RuntimeChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(Self::AUTO),
            Self::None => serializer.serialize_str(Self::NONE),
            Self::Only(clients) => {
                let mut list = serializer.serialize_seq(Some(clients.len()))?;
                clients.iter().try_for_each(|client| list.serialize_element(client))?;
                list.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for RuntimeChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = RuntimeChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", \"none\", the name of a runtime or a list of such names")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RuntimeChoice, E> {
                let client = RuntimeClient::ALL.into_iter().find(|client| client.as_str() == word);
                match (word, client) {
                    (RuntimeChoice::AUTO, _) => Ok(RuntimeChoice::Auto),
                    (RuntimeChoice::NONE, _) => Ok(RuntimeChoice::None),
                    (_, Some(client)) => Ok(RuntimeChoice::only(client)),
                    (_, None) => Err(E::unknown_variant(word, RuntimeChoice::WORDS)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<RuntimeChoice, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(words)).map(RuntimeChoice::Only)
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl JsonSchema for RuntimeChoice {
    fn schema_name() -> Cow<'static, str> {
        "RuntimeChoice".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let client = generator.subschema_for::<RuntimeClient>();
        json_schema!({
            "anyOf": [
                { "type": "string", "enum": Self::WORDS },
                { "type": "array", "items": client },
            ]
        })
    }
}

/// Addresses of runtimes that are not in their usual places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoints {
    /// Docker's socket, written `unix:///path`. Default: `DOCKER_HOST` in the environment if that
    /// is such a socket, else `unix:///var/run/docker.sock`.
    pub docker: Option<String>,
    /// Podman's folder of records (its `graphroot`, an absolute path), or its Docker-compatible
    /// socket as `unix:///path`. Default: `/var/lib/containers/storage`, and
    /// `.local/share/containers/storage` in each user's home.
    pub podman: Option<String>,
    /// containerd's socket, written `unix:///path`. Default: the first that answers of
    /// `/run/containerd/containerd.sock`, `/run/k3s/containerd/containerd.sock`.
    pub containerd: Option<String>,
    /// The socket of a container runtime interface, written `unix:///path`. Default: the first that
    /// answers of `/run/containerd/containerd.sock`, `/run/crio/crio.sock`,
    /// `/run/k3s/containerd/containerd.sock`. (cri-dockerd fronts Docker, which is asked
    /// directly.)
    pub cri: Option<String>,
}

impl Endpoints {
    fn of(&self, client: RuntimeClient) -> Option<&String> {
        match client {
            RuntimeClient::Docker => self.docker.as_ref(),
            RuntimeClient::Podman => self.podman.as_ref(),
            RuntimeClient::Containerd => self.containerd.as_ref(),
            RuntimeClient::Cri => self.cri.as_ref(),
        }
    }
}

/// The `[container]` table: options of the container manager. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerOptions {
    /// Which container runtimes to ask for names: "auto" for all that are there, now or later; one
    /// of "docker", "podman", "containerd", "cri", or a list of them; "none" for ids without names.
    pub runtime: RuntimeChoice,
    /// Address of the one runtime in `runtime`; of Docker if `runtime` is "auto" or a list. It need
    /// not exist at start, and may come and go.
    pub endpoint: Option<String>,
    /// Address of each runtime.
    pub endpoints: Endpoints,
    /// How long an event may wait for its container's name, at most 10s; "0s" for not at all.
    pub hold: HumanDuration,
    /// How long to remember ended processes, removed cgroups and removed containers, for late
    /// events. From 100ms to 10m.
    pub grace: HumanDuration,
    /// Time limit for one answer of a runtime, which is then asked again. From 100ms to 5m.
    pub request_timeout: HumanDuration,
    /// Least time between two listings of all containers. From 10ms to 1h.
    pub refresh_interval: HumanDuration,
    /// Whether to send the events container.found and container.gone down the chains.
    /// (container.resolved is always sent.)
    pub lifecycle: bool,
    /// How many processes to remember at most, from 1024 to 16777216; about 100 bytes each.
    pub max_processes: u32,
    /// How many containers to remember at most, from 16 to 1048576.
    pub max_containers: u32,
    /// How many cgroups to remember at most, from 64 to 16777216.
    pub max_cgroups: u32,
    /// How many events may wait for a name at the same time, at most 1048576. Beyond that the
    /// oldest go on without it.
    pub max_held: u32,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        let ms = |ms| HumanDuration(Duration::from_millis(ms));
        Self {
            runtime: RuntimeChoice::Auto,
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
    /// Returns every problem with the options.
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

    /// Returns the clients to start, each once.
    pub(crate) fn clients(&self) -> Vec<RuntimeClient> {
        match &self.runtime {
            RuntimeChoice::Auto => RuntimeClient::ALL.to_vec(),
            RuntimeChoice::None => Vec::new(),
            RuntimeChoice::Only(chosen) => {
                RuntimeClient::ALL.into_iter().filter(|client| chosen.contains(client)).collect()
            }
        }
    }

    /// Returns the settings of a client.
    pub(crate) fn settings(&self, client: RuntimeClient) -> Settings {
        let endpoint = self.endpoint(client);
        Settings {
            expected: endpoint.is_some() || self.runtime != RuntimeChoice::Auto,
            endpoint: endpoint.or_else(|| (client == RuntimeClient::Docker).then(docker_endpoint)),
            timeout: self.request_timeout.0,
            interval: self.refresh_interval.0,
        }
    }

    /// Returns the configured address of a runtime.
    fn endpoint(&self, client: RuntimeClient) -> Option<String> {
        let short = || self.endpoint.as_ref().filter(|_| client == self.short_form_client());
        self.endpoints.of(client).or_else(short).cloned()
    }

    /// Returns the client that the short form `endpoint` is about.
    fn short_form_client(&self) -> RuntimeClient {
        match self.clients()[..] {
            [only] => only,
            _ => RuntimeClient::Docker,
        }
    }

    fn endpoint_problems(&self) -> impl Iterator<Item = Problem> {
        let e = &self.endpoints;
        let problems = [
            ("endpoint", &self.endpoint, self.short_form_client()),
            ("endpoints.docker", &e.docker, RuntimeClient::Docker),
            ("endpoints.podman", &e.podman, RuntimeClient::Podman),
            ("endpoints.containerd", &e.containerd, RuntimeClient::Containerd),
            ("endpoints.cri", &e.cri, RuntimeClient::Cri),
        ];
        problems.into_iter().filter_map(|(key, endpoint, client)| {
            let folder = client == RuntimeClient::Podman;
            endpoint_problem(key, endpoint.as_deref()?, folder)
        })
    }
}

/// Returns Docker's socket if none is configured: that of the environment, which the `docker`
/// command uses too, or Docker's default.
fn docker_endpoint() -> String {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if host.starts_with("unix:///") => return host,
        Ok(host) if !host.is_empty() => {
            tracing::warn!("DOCKER_HOST {host:?} is not a local socket; using {DOCKER_ENDPOINT}");
        }
        _ => {}
    }
    DOCKER_ENDPOINT.to_owned()
}

fn endpoint_problem(key: &str, endpoint: &str, folder: bool) -> Option<Problem> {
    let message = match endpoint.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => return None,
        Some(_) => format!("{endpoint:?} has no absolute path after unix://"),
        None if folder && endpoint.starts_with('/') => return None,
        None if folder => format!("{endpoint:?} is neither an absolute path nor a Unix socket"),
        None => format!("{endpoint:?} is not a Unix socket: only unix:// is supported"),
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
    fn every_spelling_of_the_choice_of_runtimes_is_read() {
        let read = |json: &str| serde_json::from_str::<RuntimeChoice>(json);
        assert_eq!(read("\"auto\"").unwrap(), RuntimeChoice::Auto);
        assert_eq!(read("\"none\"").unwrap(), RuntimeChoice::None);
        for client in RuntimeClient::ALL {
            let word = serde_json::to_string(&client).unwrap();
            assert_eq!(word, format!("\"{}\"", client.as_str()));
            assert!(RuntimeChoice::WORDS.contains(&client.as_str()));
            assert_eq!(read(&word).unwrap(), RuntimeChoice::only(client));
        }
        let several = RuntimeChoice::Only(vec![RuntimeClient::Cri, RuntimeClient::Docker]);
        assert_eq!(read(r#"["cri", "docker"]"#).unwrap(), several);
        for choice in [RuntimeChoice::Auto, RuntimeChoice::None, several] {
            assert_eq!(read(&serde_json::to_string(&choice).unwrap()).unwrap(), choice);
        }
        let error = read("\"dockr\"").unwrap_err().to_string();
        assert!(error.contains("`dockr`") && error.contains("`auto`"), "{error}");
        assert!(read(r#"["auto"]"#).is_err(), "\"auto\" stands alone");
    }

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(ContainerOptions::default().problems(), []);
    }

    #[test]
    fn every_value_out_of_range_is_reported_with_the_range() {
        let options = ContainerOptions {
            endpoint: Some("tcp://1.2.3.4:2375".into()),
            hold: HumanDuration(Duration::from_mins(1)),
            grace: HumanDuration(Duration::ZERO),
            max_held: u32::MAX,
            max_processes: 1,
            ..ContainerOptions::default()
        };
        let problems: Vec<String> =
            options.problems().into_iter().map(|p| format!("{}: {}", p.key, p.message)).collect();
        assert_eq!(
            problems,
            [
                "endpoint: \"tcp://1.2.3.4:2375\" is not a Unix socket: only unix:// is supported",
                "hold: 1m is out of range: expected 0s to 10s",
                "grace: 0s is out of range: expected 100ms to 10m",
                "max_processes: 1 is out of range: expected 1024 to 16777216",
                "max_held: 4294967295 is out of range: expected 0 to 1048576",
            ]
        );
    }

    #[test]
    fn relative_socket_is_refused() {
        let options =
            ContainerOptions { endpoint: Some("unix://docker.sock".into()), ..Default::default() };
        let problems = options.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("absolute path"), "{problems:?}");
        assert!(problems[0].hint.as_ref().unwrap().contains("unix:///var/run/docker.sock"));
    }
}
