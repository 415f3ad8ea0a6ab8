//! containerd's answers in our words. Nothing in them is trusted to be there.

use std::collections::BTreeMap;

use prost::Message as _;
use whalewatch_core::{Container, Runtime, Status};

use super::messages::{Envelope, Event, Exit, Record, Task};
use super::pods::Pods;
use super::{DOCKERS, is_long_id};
use crate::request::News;
use crate::runtimes::remote::Happened;

/// The events that are listened for.
pub(super) const TOPICS: [&str; 7] = [
    "/containers/create",
    "/containers/update",
    "/containers/delete",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/paused",
    "/tasks/resumed",
];

/// No id, and no name of a namespace, is longer: containerd allows 76 bytes.
const LONGEST: usize = 256;

/// Our id of a container; `None` for what cannot be one.
fn id(namespace: &str, id: &str) -> Option<String> {
    let fits = |name: &str| !name.is_empty() && name.len() <= LONGEST && !name.contains('/');
    if !fits(namespace) || !fits(id) || namespace == DOCKERS {
        return None;
    }
    Some(if is_long_id(id) { id.to_owned() } else { format!("{namespace}/{id}") })
}

/// Reads an event; `None` if it is nothing to us.
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
    let status = |status| Some(News::Status { id: id.clone(), status });
    let (news, look_at) = match &*envelope.topic {
        "/containers/create" | "/containers/update" => (None, look_at()),
        "/containers/delete" => (Some(News::Removed { id }), None),
        "/tasks/start" => (status(Status::Running), look_at()),
        "/tasks/exit" => (status(Status::Exited), None),
        "/tasks/paused" => (status(Status::Paused), None),
        "/tasks/resumed" => (status(Status::Running), None),
        _ => return None,
    };
    Some(Happened { news, look_at })
}

/// A container with its task. One without a task has just been made.
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

/// An image's name; the CRI plugin may know it by what is in it alone.
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

/// The one that runs, if two namespaces have a container with the same id.
pub(super) fn livelier(a: Option<Container>, b: Option<Container>) -> Option<Container> {
    let runs = |c: &Container| matches!(c.status, Status::Running | Status::Paused);
    match (a, b) {
        (Some(a), Some(b)) => Some(if runs(&b) && !runs(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}
