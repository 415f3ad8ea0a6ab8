//! The daemon's coming and going, and its event stream.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use actix::Addr;
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;
use whalewatch_core::Runtime;

use super::{DockerActor, Link};
use crate::runtimes::{Settings, causes, rest};

/// The daemon, to be followed for as long as the actor lives.
pub(super) struct Daemon {
    pub(super) settings: Settings,
    pub(super) runtime: Runtime,
    pub(super) nudge: Arc<Notify>,
    pub(super) actor: Addr<DockerActor>,
}

impl Daemon {
    /// Connects, follows the events, and starts anew whenever the daemon goes; sooner when nudged. One line is logged each
    /// time that it comes or goes.
    pub(super) async fn follow(self) {
        let mut was_up = None;
        let mut failures = 0;
        loop {
            let reason = match self.connect().await {
                Ok((docker, since)) => {
                    failures = 0;
                    was_up = Some(true);
                    tracing::info!(endpoint = self.endpoint(), "{} is there", self.name());
                    self.actor.do_send(Link::Up(docker.clone()));
                    let reason = self.events(&docker, since).await;
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
                    "{} does not answer: new containers have an id and no name until it does",
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

    /// Whether nobody expects it, and there is no socket either.
    fn is_absent(&self) -> bool {
        let path = self.endpoint().trim_start_matches("unix://");
        !self.settings.expected && !Path::new(path).exists()
    }

    /// A client that the daemon has answered, and since when its events are of interest.
    async fn connect(&self) -> Result<(Docker, String), String> {
        let seconds = self.settings.timeout.as_secs().max(1);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let docker = Docker::connect_with_unix(self.endpoint(), seconds, API_DEFAULT_VERSION)
            .map_err(|e| causes(&e))?;
        match timeout(self.settings.timeout, docker.negotiate_version()).await {
            Ok(Ok(docker)) => Ok((docker, since)),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("no answer within {:?}", self.settings.timeout)),
        }
    }

    /// Hands on events until the stream ends; says why it did. What happened since we connected is told as well, so that
    /// nothing falls between the stream and the list.
    async fn events(&self, docker: &Docker, since: String) -> String {
        let containers = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::default().since(&since).filters(&containers).build();
        let mut events = std::pin::pin!(docker.events(Some(options)));
        loop {
            match events.next().await {
                Some(Ok(event)) => self.actor.do_send(Link::Event(Box::new(event))),
                Some(Err(error)) => return causes(&error),
                None => return "its event stream has ended".into(),
            }
        }
    }
}
