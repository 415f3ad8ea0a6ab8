//! containerd's own API: the containers of all its namespaces except Docker's.
//!
//! An id is unique in its namespace only. A full id (64 hexadecimal digits) is meant to be unique
//! everywhere and stands alone; any other gets its namespace as a prefix, as in `default/web`,
//! which is also the path of the container's cgroup.

mod answers;
mod messages;
mod pods;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use actix::ArbiterHandle;
use tonic::{Code, Status};
use whalewatch_core::{Container, Runtime};

use self::messages as m;
use self::pods::Pods;
use super::remote::grpc::Caller;
use super::remote::{Happened, Listed, Remote, start as start_remote};
use super::{Client, Reporter, Settings};
use crate::ids::{DOCKER_NAMESPACE, is_full_id};

/// Bound on the namespaces; there are seldom more than three.
const MAX_NAMESPACES: usize = 64;
/// Bound on the listed containers.
const MAX_CONTAINERS: usize = 1 << 16;

pub(super) fn start(
    thread: &ArbiterHandle,
    settings: Settings,
    report: Reporter,
) -> Box<dyn Client> {
    start_remote::<Containerd>(thread, settings, report)
}

#[derive(Clone)]
struct Containerd(Caller);

impl Remote for Containerd {
    const NAME: &'static str = "containerd";
    const SOCKETS: &'static [&'static str] =
        &["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"];

    async fn greet(caller: Caller) -> Result<Self, Status> {
        let containerd = Self(caller);
        containerd.namespaces().await?;
        Ok(containerd)
    }

    fn may_have(&self, id: &str, runtime: Runtime) -> bool {
        matches!(runtime, Runtime::Containerd | Runtime::Other)
            && (is_full_id(id) || id.contains('/'))
    }

    async fn follow(&self, happened: impl Fn(Happened)) -> Status {
        let topics = answers::TOPICS.map(|topic| format!("topic==\"{topic}\""));
        let question = m::SubscribeRequest { filters: topics.into() };
        let events = self.0.stream::<_, m::Envelope>(m::SUBSCRIBE, None, question).await;
        // A server that has answered before is containerd, whatever its error code is now.
        let gone = |status: Status| Status::unavailable(status.message());
        let mut events = match events {
            Ok(events) => events,
            Err(status) => return gone(status),
        };
        loop {
            match events.message().await {
                Ok(Some(event)) => {
                    if let Some(event) = answers::happened(&event) {
                        happened(event);
                    }
                }
                Ok(None) => return Status::unavailable("its event stream ended"),
                Err(status) => return gone(status),
            }
        }
    }

    async fn list(&self) -> Result<Listed, Status> {
        let mut containers = Vec::new();
        for namespace in self.namespaces().await? {
            self.list_namespace(&namespace, &mut containers).await?;
        }
        Ok(Listed { containers, look_at: Vec::new() })
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, Status> {
        if let Some((namespace, id)) = id.split_once('/') {
            return if namespace == DOCKER_NAMESPACE {
                Ok(None)
            } else {
                self.get(namespace, id).await
            };
        }
        let mut found = None;
        for namespace in self.namespaces().await? {
            found = answers::livelier(found, self.get(&namespace, id).await?);
        }
        Ok(found)
    }

    async fn processes(&self, id: &str) -> Vec<u32> {
        let namespaces = match id.split_once('/') {
            Some((namespace, _)) => vec![namespace.to_owned()],
            None => self.namespaces().await.unwrap_or_default(),
        };
        let id = id.rsplit('/').next().unwrap_or_default();
        for namespace in namespaces {
            let one = m::One { id: id.to_owned() };
            let pids = self.0.ask::<_, m::ListPidsResponse>(m::LIST_PIDS, Some(&namespace), one);
            if let Ok(pids) = pids.await {
                return pids.processes.into_iter().map(|p| p.pid).collect();
            }
        }
        Vec::new()
    }
}

impl Containerd {
    /// Returns all namespaces except Docker's.
    async fn namespaces(&self) -> Result<Vec<String>, Status> {
        let all = self.0.ask::<_, m::ListNamespacesResponse>(m::LIST_NAMESPACES, None, m::All {});
        let names = all.await?.namespaces.into_iter().map(|namespace| namespace.name);
        Ok(names.filter(|name| name != DOCKER_NAMESPACE).take(MAX_NAMESPACES).collect())
    }

    async fn record(&self, namespace: &str, id: &str) -> Result<Option<m::Record>, Status> {
        let one = m::One { id: id.to_owned() };
        let got = self.0.ask::<_, m::ContainerResponse>(m::GET_CONTAINER, Some(namespace), one);
        Ok(if_known(got.await)?.and_then(|got| got.container))
    }

    async fn get(&self, namespace: &str, id: &str) -> Result<Option<Container>, Status> {
        let Some(record) = self.record(namespace, id).await? else { return Ok(None) };
        let one = m::One { id: id.to_owned() };
        let got = self.0.ask::<_, m::GetTaskResponse>(m::GET_TASK, Some(namespace), one).await;
        let task = if_known(got)?.and_then(|got| got.process);
        let mut pods = Pods::default();
        if let Some(sandbox) = pods.wanted(&record)
            && let Some(sandbox) = self.record(namespace, &sandbox).await?
        {
            pods.learn(&sandbox);
        }
        pods.learn(&record);
        Ok(answers::container(namespace, record, task.as_ref(), &pods))
    }

    /// Lists the containers of one namespace that have a task. A container without one has ended or
    /// is not started yet; events report the start.
    async fn list_namespace(&self, name: &str, found: &mut Vec<Container>) -> Result<(), Status> {
        let tasks =
            self.0.ask::<_, m::ListTasksResponse>(m::LIST_TASKS, Some(name), m::All {}).await?;
        let tasks: HashMap<String, m::Task> =
            tasks.tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
        let (records, mut pods) = (self.records(name, &tasks).await?, Pods::default());
        for record in &records {
            pods.learn(record);
        }
        let room = MAX_CONTAINERS.saturating_sub(found.len());
        let containers = records.into_iter().filter_map(|record| {
            let task = tasks.get(&record.id);
            answers::container(name, record, task, &pods)
        });
        found.extend(containers.take(room));
        Ok(())
    }

    /// Returns the records of the containers that have a task.
    async fn records(
        &self,
        namespace: &str,
        tasks: &HashMap<String, m::Task>,
    ) -> Result<Vec<m::Record>, Status> {
        let stream = self.0.stream(m::LIST_CONTAINERS, Some(namespace), m::All {});
        let mut stream = self.0.in_time(stream).await?;
        let (mut records, mut known) = (Vec::new(), HashSet::new());
        while let Some(m::ContainerResponse { container }) =
            self.0.in_time(stream.message()).await?
        {
            if let Some(record) = container.filter(|record| tasks.contains_key(&record.id))
                && known.insert(record.id.clone())
            {
                records.push(record);
            }
        }
        Ok(records)
    }
}

/// Turns "not found" into `None`: it is an answer, not a failure.
fn if_known<T>(answer: Result<T, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}
