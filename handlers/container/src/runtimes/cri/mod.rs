//! The container runtime interface (CRI), through which a kubelet talks to its runtime.

mod answers;
mod messages;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use tokio::time::sleep;
use tonic::{Code, Status};
use whalewatch_core::{Container, Runtime, Status as State};

use self::messages as m;
use super::remote::grpc::Caller;
use super::remote::{Happened, Listed, Remote, start as start_remote};
use super::{Client, Reporter, Settings};
use crate::ids::is_full_id;

/// How often to ask a runtime without events whether it is still there.
const HEARTBEAT: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2_000 });

pub(super) fn start(
    thread: &ArbiterHandle,
    settings: Settings,
    report: Reporter,
) -> Box<dyn Client> {
    start_remote::<Cri>(thread, settings, report)
}

#[derive(Clone)]
struct Cri {
    caller: Caller,
    runtime: Runtime,
}

impl Remote for Cri {
    const NAME: &'static str = "cri";
    const SOCKETS: &'static [&'static str] = &[
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/run/k3s/containerd/containerd.sock",
    ];

    async fn greet(caller: Caller) -> Result<Self, Status> {
        let cri = Self { caller, runtime: Runtime::Other };
        let runtime = answers::runtime(&cri.version().await?.runtime_name);
        if runtime == Runtime::Docker {
            // It has other names for Docker's containers, whose cgroups are Docker's.
            return Err(Status::unimplemented("it fronts Docker, which has its own client"));
        }
        Ok(Self { runtime, ..cri })
    }

    fn may_have(&self, id: &str, runtime: Runtime) -> bool {
        is_full_id(id) && [Runtime::Other, self.runtime].contains(&runtime)
    }

    async fn follow(&self, happened: impl Fn(Happened)) -> Status {
        let events = self.caller.stream::<_, m::Event>(m::EVENTS, None, m::EventsRequest {}).await;
        if let Ok(mut events) = events {
            while let Ok(Some(event)) = events.message().await {
                if let Some(event) = answers::happened(event) {
                    happened(event);
                }
            }
        }
        // It has no events, or they are turned off, or it is gone.
        loop {
            if let Err(status) = self.version().await {
                return status;
            }
            sleep(HEARTBEAT).await;
        }
    }

    async fn list(&self) -> Result<Listed, Status> {
        let pods = self.pods(None).await?;
        let containers = self.containers(None).await?;
        let by_id: HashMap<&str, &m::Pod> = pods.iter().map(|pod| (&*pod.id, pod)).collect();
        let sandboxes = pods.iter().filter_map(|pod| answers::sandbox(pod, self.runtime));
        let mut all: Vec<Container> = sandboxes.collect();
        let containers = containers.into_iter().filter_map(|container| {
            let pod = by_id.get(&*container.pod).copied();
            answers::container(container, pod, self.runtime)
        });
        all.extend(containers);
        let nameless = |c: &&Container| c.image.is_none() && c.status == State::Running;
        let look_at = all.iter().filter(nameless).map(|c| Arc::clone(&c.id)).collect();
        Ok(Listed { containers: all, look_at })
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, Status> {
        let one = |c: &m::Container| c.id == id;
        let question = m::StatusRequest { id: id.to_owned(), verbose: true };
        if let Some(container) = self.containers(Some(id)).await?.into_iter().find(one) {
            let pod = self.pod(&container.pod).await?;
            let container = answers::container(container, pod.as_ref(), self.runtime);
            let Some(mut container) = container else { return Ok(None) };
            // Without a status it has just gone, and is reported as listed.
            if let Ok(status) = self.caller.ask(m::CONTAINER_STATUS, None, question).await {
                answers::complete(&mut container, status);
            }
            return Ok(Some(container));
        }
        let Some(pod) = self.pod(id).await? else { return Ok(None) };
        let Some(mut sandbox) = answers::sandbox(&pod, self.runtime) else { return Ok(None) };
        if let Ok(status) = self.caller.ask(m::POD_STATUS, None, question).await {
            answers::complete_sandbox(&mut sandbox, &status);
        }
        Ok(Some(sandbox))
    }

    async fn processes(&self, _: &str) -> Vec<u32> {
        Vec::new() // the interface has no call for it
    }
}

impl Cri {
    async fn version(&self) -> Result<m::VersionResponse, Status> {
        let question = m::VersionRequest { version: String::new() };
        self.caller.ask(m::VERSION, None, question).await
    }

    /// Returns all containers, or those whose id begins with this.
    async fn containers(&self, id: Option<&str>) -> Result<Vec<m::Container>, Status> {
        let answer = self.caller.ask(m::LIST_CONTAINERS, None, list(id)).await;
        if_known(answer).map(|answer: m::ListContainersResponse| answer.containers)
    }

    /// Returns all pods, or those whose sandbox's id begins with this.
    async fn pods(&self, id: Option<&str>) -> Result<Vec<m::Pod>, Status> {
        let answer = self.caller.ask(m::LIST_PODS, None, list(id)).await;
        if_known(answer).map(|answer: m::ListPodsResponse| answer.pods)
    }

    async fn pod(&self, id: &str) -> Result<Option<m::Pod>, Status> {
        if id.is_empty() {
            return Ok(None); // it would match all pods
        }
        Ok(self.pods(Some(id)).await?.into_iter().find(|pod| pod.id == id))
    }
}

fn list(id: Option<&str>) -> m::ListRequest {
    m::ListRequest { filter: id.map(|id| m::Filter { id: id.to_owned() }) }
}

/// Turns "not found" into an empty list: it is an answer, not a failure.
fn if_known<T: Default>(answer: Result<T, Status>) -> Result<T, Status> {
    match answer {
        Err(status) if status.code() == Code::NotFound => Ok(T::default()),
        answer => answer,
    }
}
