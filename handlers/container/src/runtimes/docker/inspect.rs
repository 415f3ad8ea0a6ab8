//! Inspecting single containers, each with a time limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, WrapFuture as _};
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use tokio::time::timeout;
use whalewatch_core::{Container, Runtime};

use super::{DockerActor, answers};
use crate::protocol::Report;
use crate::runtimes::inspections::DENIALS;
use crate::runtimes::pause;

enum Outcome {
    Found(Box<Container>),
    NotThere,
    Failed,
}

impl DockerActor {
    pub(super) fn inspect(&mut self, id: &Arc<str>, ctx: &mut Context<Self>) {
        if self.inspections.want(id) {
            self.pump(ctx);
        }
    }

    /// Starts as many questions as allowed. The name comes from a list of one container: the daemon
    /// answers that at once, but an inspection only when it has finished starting the container.
    pub(super) fn pump(&mut self, ctx: &mut Context<Self>) {
        let Some(docker) = self.docker.clone() else { return };
        while let Some(id) = self.inspections.next() {
            let ask = look_up(docker.clone(), self.runtime, self.settings.timeout, Arc::clone(&id));
            let done = |outcome, this: &mut Self, ctx: &mut Context<Self>| match outcome {
                Outcome::Found(container) if this.inspections.wants(&id) => {
                    (this.report)(Report::Container(container));
                    this.inspect_further(id, ctx);
                }
                other => this.inspected(id, other, ctx),
            };
            ctx.spawn(ask.into_actor(self).map(done));
        }
    }

    /// Inspects a container whose name is reported, for everything else.
    fn inspect_further(&mut self, id: Arc<str>, ctx: &mut Context<Self>) {
        let Some(docker) = self.docker.clone() else {
            return self.inspected(id, Outcome::Failed, ctx);
        };
        let ask = inspect(docker, self.runtime, self.settings.timeout, Arc::clone(&id));
        let done = |outcome, this: &mut Self, ctx: &mut Context<Self>| {
            this.inspected(id, outcome, ctx);
        };
        ctx.spawn(ask.into_actor(self).map(done));
    }

    fn inspected(&mut self, id: Arc<str>, outcome: Outcome, ctx: &mut Context<Self>) {
        self.inspections.answered();
        match outcome {
            Outcome::Found(container) => {
                if self.inspections.settle(&id) {
                    (self.report)(Report::Container(container));
                }
            }
            Outcome::NotThere => match self.inspections.failed(&id) {
                Some(denials) if denials >= DENIALS => {
                    self.inspections.settle(&id);
                    (self.report)(Report::NotKnown { id });
                }
                // A container that is being made appears within milliseconds.
                Some(denials) => again(id, Duration::from_millis(5 << (2 * denials)), ctx),
                None => {}
            },
            Outcome::Failed => {
                if let Some(failures) = self.inspections.failed(&id) {
                    again(id, pause(failures), ctx);
                }
            }
        }
        self.pump(ctx);
    }
}

async fn look_up(docker: Docker, runtime: Runtime, limit: Duration, id: Arc<str>) -> Outcome {
    let this = HashMap::from([("id", vec![&*id])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&this).build();
    let Ok(Ok(answer)) = timeout(limit, docker.list_containers(Some(options))).await else {
        return Outcome::Failed;
    };
    // The filter also accepts the beginning of an id.
    let found = answer.into_iter().filter_map(|c| answers::listed(c, runtime)).find(|c| c.id == id);
    found.map_or(Outcome::NotThere, |container| Outcome::Found(Box::new(container)))
}

async fn inspect(docker: Docker, runtime: Runtime, limit: Duration, id: Arc<str>) -> Outcome {
    let answer = docker.inspect_container(&id, None::<InspectContainerOptions>);
    match timeout(limit, answer).await {
        Ok(Ok(answer)) => answers::inspected(answer, runtime)
            .map_or(Outcome::Failed, |container| Outcome::Found(Box::new(container))),
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Outcome::NotThere,
        Ok(Err(_)) | Err(_) => Outcome::Failed,
    }
}

/// Queues a container again after a pause, if it is still wanted then.
fn again(id: Arc<str>, after: Duration, ctx: &mut Context<DockerActor>) {
    ctx.run_later(after, move |this, ctx| {
        this.inspections.again(id);
        this.pump(ctx);
    });
}
