//! Connecting to the daemon, and following its events.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Addr;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;
use whalewatch_core::Runtime;

use super::{DockerActor, Link};
use crate::runtimes::{Settings, causes, rest};

/// How far back events are requested. A container that ended while Whalewatch started is in no
/// listing; only its events have the name. The daemon keeps the last 256 events (Docker's manual,
/// `docker system events`).
const LOOK_BACK: Duration = Duration::from_secs(10);

/// The daemon, followed for as long as the actor lives.
pub(super) struct Daemon {
    pub(super) settings: Settings,
    pub(super) runtime: Runtime,
    pub(super) nudge: Arc<Notify>,
    pub(super) actor: Addr<DockerActor>,
}

impl Daemon {
    /// Connects, follows the events, and starts again whenever the daemon goes; sooner when nudged.
    /// Logs one line each time that it comes or goes.
    pub(super) async fn follow(self) {
        let mut was_up = None;
        let mut failures = 0;
        loop {
            let reason = match self.connect().await {
                Ok((docker, connected)) => {
                    failures = 0;
                    was_up = Some(true);
                    tracing::info!(endpoint = self.endpoint(), "connected to {}", self.name());
                    self.actor.do_send(Link::Up(docker.clone()));
                    let reason = self.events(&docker, connected).await;
                    self.actor.do_send(Link::Down);
                    reason
                }
                Err(reason) => reason,
            };
            if self.is_absent() {
                self.actor.do_send(Link::Absent);
            } else if was_up != Some(false) {
                was_up = Some(false);
                tracing::warn!(
                    endpoint = self.endpoint(),
                    reason,
                    "{} does not answer; new containers have no name until it does",
                    self.name()
                );
            }
            rest(failures, &self.nudge).await;
            failures += 1;
        }
    }

    fn name(&self) -> &'static str {
        self.runtime.as_str()
    }

    fn endpoint(&self) -> &str {
        self.settings.endpoint.as_deref().unwrap_or_default()
    }

    /// Whether there is no socket, and none is expected.
    fn is_absent(&self) -> bool {
        let path = self.endpoint().trim_start_matches("unix://");
        !self.settings.expected && !Path::new(path).exists()
    }

    /// Connects; returns the connection, and the time since 1970 at which it began.
    async fn connect(&self) -> Result<(Docker, Duration), String> {
        let seconds = self.settings.timeout.as_secs().max(1);
        let connected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let docker = Docker::connect_with_unix(self.endpoint(), seconds, API_DEFAULT_VERSION)
            .map_err(|e| causes(&e))?;
        match timeout(self.settings.timeout, docker.negotiate_version()).await {
            Ok(Ok(docker)) => Ok((docker, connected)),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer within {:?}", self.settings.timeout)),
        }
    }

    /// Forwards events until the stream ends; returns why it did. The stream starts shortly before
    /// we connected: so nothing is missed between the stream and the first listing, and containers
    /// that have just ended still get their names.
    async fn events(&self, docker: &Docker, connected: Duration) -> String {
        let since = connected.saturating_sub(LOOK_BACK);
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let containers = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::default().since(&since).filters(&containers).build();
        let mut events = std::pin::pin!(docker.events(Some(options)));
        loop {
            match events.next().await {
                Some(Ok(event)) if is_before(&event, connected) => {
                    self.actor.do_send(Link::Past(Box::new(event)));
                }
                Some(Ok(event)) => self.actor.do_send(Link::Event(Box::new(event))),
                Some(Err(error)) => return causes(&error),
                None => return "its event stream ended".into(),
            }
        }
    }
}

/// Whether an event happened before this time. One without a time counts as new.
fn is_before(event: &EventMessage, time: Duration) -> bool {
    let nanoseconds = event.time_nano.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    nanoseconds.is_some_and(|nanoseconds| Duration::from_nanos(nanoseconds) < time)
}
