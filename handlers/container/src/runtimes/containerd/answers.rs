//! Translation of containerd's answers. Any field may be missing.

use std::collections::BTreeMap;

use prost::Message as _;
use whalewatch_core::{Container, Runtime, Status};

use super::messages::{Envelope, Event, Exit, Record, Task};
use super::pods::Pods;
use crate::ids::{DOCKER_NAMESPACE, is_full_id};
use crate::protocol::Report;
use crate::runtimes::remote::Happened;

/// The events to subscribe to.
pub(super) const TOPICS: [&str; 7] = [
    "/containers/create",
    "/containers/update",
    "/containers/delete",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/paused",
    "/tasks/resumed",
];

/// Bound on the length of an id or a namespace's name; containerd allows 76 bytes.
const MAX_NAME: usize = 256;

/// Returns a container's id as this program has it; `None` if it is invalid, or Docker's.
fn id(namespace: &str, id: &str) -> Option<String> {
    let fits = |name: &str| !name.is_empty() && name.len() <= MAX_NAME && !name.contains('/');
    if !fits(namespace) || !fits(id) || namespace == DOCKER_NAMESPACE {
        return None;
    }
    Some(if is_full_id(id) { id.to_owned() } else { format!("{namespace}/{id}") })
}

/// Reads an event; `None` if it does not matter here.
pub(super) fn happened(envelope: &Envelope) -> Option<Happened> {
    let bytes = &*envelope.event.as_ref()?.value;
    if envelope.topic == "/tasks/exit" {
        let Exit { container, process } = Exit::decode(bytes).ok()?;
        if container != process {
            return None;
        }
    }
    let id = id(&envelope.namespace, &Event::decode(bytes).ok()?.container)?;
    let look_at = || Some(id.as_str().into());
    let status = |status| Some(Report::Status { id: id.clone(), status });
    let (report, look_at) = match &*envelope.topic {
        "/containers/create" | "/containers/update" => (None, look_at()),
        "/containers/delete" => (Some(Report::Removed { id }), None),
        "/tasks/start" => (status(Status::Running), look_at()),
        "/tasks/exit" => (status(Status::Exited), None),
        "/tasks/paused" => (status(Status::Paused), None),
        "/tasks/resumed" => (status(Status::Running), None),
        _ => return None,
    };
    Some(Happened { report, look_at })
}

/// Reads a container and its task. A container without a task is not started yet.
pub(super) fn container(
    namespace: &str,
    record: Record,
    task: Option<&Task>,
    pods: &Pods,
) -> Option<Container> {
    let mut labels: BTreeMap<String, String> = record.labels.clone().into_iter().collect();
    for (label, value) in pods.labels(&record) {
        labels.entry(label.to_owned()).or_insert(value);
    }
    let label = |name: &str| labels.get(name).filter(|value| !value.is_empty()).cloned();
    let name = label("nerdctl/name").or_else(|| pods.name(&record));
    let name = name.or_else(|| label("io.kubernetes.container.name"));
    Some(Container {
        name: Some(name.unwrap_or_else(|| record.id.clone()).into()),
        image: image(record.image).map(Into::into),
        status: task.map_or(Status::Created, status),
        labels,
        init_pid: task.map(|task| task.pid).filter(|&pid| pid != 0),
        ..Container::bare(id(namespace, &record.id)?, Runtime::Containerd)
    })
}

/// Returns an image's name; `None` if the CRI plugin knows only its digest.
fn image(image: String) -> Option<String> {
    (!image.is_empty() && !image.starts_with("sha256:")).then_some(image)
}

fn status(task: &Task) -> Status {
    match task.status {
        1 => Status::Created,
        2 => Status::Running,
        3 => Status::Exited,
        4 | 5 => Status::Paused,
        _ => Status::Unknown,
    }
}

/// Picks the running container if two namespaces have one with the same id.
pub(super) fn livelier(a: Option<Container>, b: Option<Container>) -> Option<Container> {
    let runs = |c: &Container| matches!(c.status, Status::Running | Status::Paused);
    match (a, b) {
        (Some(a), Some(b)) => Some(if runs(&b) && !runs(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}
