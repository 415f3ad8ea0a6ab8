//! The `[container]` table.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem};

/// Where Docker's daemon listens if nobody says otherwise.
const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// Which container runtime is asked for names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeChoice {
    /// Docker's daemon is asked.
    #[default]
    Docker,
    /// Nobody is asked: containers have an id, from their cgroup, and no name.
    None,
}

/// The `[container]` table: the container manager. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerOptions {
    /// Which container runtime is asked for names: "docker", or "none" for ids alone.
    pub runtime: RuntimeChoice,
    /// Where the runtime's daemon listens: a Unix socket, written `unix:///path`. It need not be there at start, and may come
    /// and go. Not set: the environment's `DOCKER_HOST` where that is such a socket, else `unix:///var/run/docker.sock`.
    pub endpoint: Option<String>,
    /// How long an event waits at most for its container's name; "0s" for not at all. At most 10s.
    pub hold: HumanDuration,
    /// How long ended processes, removed cgroups and removed containers are remembered, for events that come late.
    /// From 100ms to 10m.
    pub grace: HumanDuration,
    /// How long one answer of the daemon may take before it is asked again. From 100ms to 5m.
    pub request_timeout: HumanDuration,
    /// Least time between two listings of all containers. From 10ms to 1h.
    pub refresh_interval: HumanDuration,
    /// Whether the events container.found and container.gone go down the chains. (container.resolved always does.)
    pub lifecycle: bool,
    /// Most processes that are remembered, from 1024 to 16777216; about 100 bytes each.
    pub max_processes: u32,
    /// Most containers that are remembered, from 16 to 1048576.
    pub max_containers: u32,
    /// Most cgroups that are remembered, from 64 to 16777216.
    pub max_cgroups: u32,
    /// Most events that wait for a name at the same time, at most 1048576; beyond it the oldest go on without.
    pub max_held: u32,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        let ms = |ms| HumanDuration(Duration::from_millis(ms));
        Self {
            runtime: RuntimeChoice::Docker,
            endpoint: None,
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
        [
            self.endpoint_problem(),
            duration("hold", self.hold, ms(0), s(10)),
            duration("grace", self.grace, ms(100), s(600)),
            duration("request_timeout", self.request_timeout, ms(100), s(300)),
            duration("refresh_interval", self.refresh_interval, ms(10), s(3_600)),
            number("max_processes", self.max_processes, 1_024, 1 << 24),
            number("max_containers", self.max_containers, 16, 1 << 20),
            number("max_cgroups", self.max_cgroups, 64, 1 << 24),
            number("max_held", self.max_held, 0, 1 << 20),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Where the daemon listens: as set, or as the environment has it for the `docker` command too, or Docker's default.
    pub(crate) fn endpoint(&self) -> String {
        if let Some(endpoint) = &self.endpoint {
            return endpoint.clone();
        }
        match std::env::var("DOCKER_HOST") {
            Ok(host) if host.starts_with("unix:///") => return host,
            Ok(host) if !host.is_empty() => {
                tracing::warn!(
                    "DOCKER_HOST is {host:?}, no local socket: {DEFAULT_ENDPOINT} is used"
                );
            }
            _ => {}
        }
        DEFAULT_ENDPOINT.to_owned()
    }

    fn endpoint_problem(&self) -> Option<Problem> {
        let endpoint = self.endpoint.as_ref()?;
        let path = endpoint.strip_prefix("unix://");
        let problem = match path {
            Some(path) if path.starts_with('/') => return None,
            Some(_) => Problem::new(
                "endpoint",
                format!("{endpoint:?} is not an absolute path behind unix://"),
            ),
            None => Problem::new(
                "endpoint",
                format!("{endpoint:?} is not a Unix socket: only unix:// is spoken"),
            ),
        };
        Some(problem.hint("write for example \"unix:///var/run/docker.sock\""))
    }
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
