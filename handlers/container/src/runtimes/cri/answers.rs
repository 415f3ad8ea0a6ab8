//! Translation of the interface's answers. Any field may be missing.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use whalewatch_core::{Container, Runtime, Status, Timestamp};

use super::messages as m;
use crate::ids::is_full_id;
use crate::protocol::Report;
use crate::runtimes::remote::Happened;

/// The key under which a verbose answer has what the runtime knows beyond the interface. containerd
/// and CRI-O use the same.
const INFO: &str = "info";

/// Returns the runtime with this name.
pub(super) fn runtime(name: &str) -> Runtime {
    match name {
        "containerd" => Runtime::Containerd,
        "cri-o" => Runtime::CriO,
        "docker" => Runtime::Docker,
        _ => Runtime::Other,
    }
}

/// Reads an event; `None` if it does not matter here.
pub(super) fn happened(event: m::Event) -> Option<Happened> {
    let id = Some(event.container).filter(|id| is_full_id(id))?;
    let (report, look_at) = match event.kind {
        0 => (None, Some(id.as_str().into())),
        1 => {
            let look_at = Some(id.as_str().into());
            (Some(Report::Status { id, status: Status::Running }), look_at)
        }
        2 => (Some(Report::Status { id, status: Status::Exited }), None),
        3 => (Some(Report::Removed { id }), None),
        _ => return None,
    };
    Some(Happened { report, look_at })
}

/// Reads a container and its pod, if that is known.
pub(super) fn container(
    container: m::Container,
    pod: Option<&m::Pod>,
    runtime: Runtime,
) -> Option<Container> {
    let id = Some(container.id).filter(|id| is_full_id(id))?;
    let name = container.metadata.unwrap_or_default().name;
    let mut labels = labels(container.labels, pod);
    fill_in(&mut labels, "io.kubernetes.container.name", &name);
    Some(Container {
        name: Some(name).filter(|name| !name.is_empty()).map(Into::into),
        image: container.image.and_then(image).map(Into::into),
        status: state(container.state),
        labels,
        ..Container::bare(id, runtime)
    })
}

/// Reads a pod's sandbox, the container that exists as long as the pod. It has the pod's name.
pub(super) fn sandbox(pod: &m::Pod, runtime: Runtime) -> Option<Container> {
    let name = pod.metadata.as_ref().map(|pod| &*pod.name).filter(|name| !name.is_empty());
    Some(Container {
        name: name.map(Into::into),
        status: if pod.state == 0 { Status::Running } else { Status::Exited },
        labels: labels(pod.labels.clone(), Some(pod)),
        ..Container::bare(Some(&*pod.id).filter(|id| is_full_id(id))?, runtime)
    })
}

/// Returns the labels, with those that a kubelet would have set.
fn labels(labels: HashMap<String, String>, pod: Option<&m::Pod>) -> BTreeMap<String, String> {
    let mut labels = labels.into_iter().collect();
    if let Some(pod) = pod.and_then(|pod| pod.metadata.as_ref()) {
        fill_in(&mut labels, "io.kubernetes.pod.name", &pod.name);
        fill_in(&mut labels, "io.kubernetes.pod.namespace", &pod.namespace);
        fill_in(&mut labels, "io.kubernetes.pod.uid", &pod.uid);
    }
    labels
}

fn fill_in(labels: &mut BTreeMap<String, String>, label: &str, value: &str) {
    if !value.is_empty() {
        labels.entry(label.to_owned()).or_insert_with(|| value.to_owned());
    }
}

fn state(state: i32) -> Status {
    match state {
        0 => Status::Created,
        1 => Status::Running,
        2 => Status::Exited,
        _ => Status::Unknown,
    }
}

/// Returns an image's name. A kubelet asks for images by digest, and passes the name on only in
/// recent versions.
fn image(image: m::Image) -> Option<String> {
    let is_digest = |name: &str| name.starts_with("sha256:") || is_full_id(name);
    let names = [image.as_asked_for, image.image];
    names.into_iter().find(|name| !name.is_empty() && !is_digest(name))
}

/// Completes a container with what its status adds to the list.
pub(super) fn complete(container: &mut Container, status: m::ContainerStatusResponse) {
    container.init_pid = info(&status.info).pid.filter(|&pid| pid != 0);
    let Some(status) = status.status else { return };
    if let Some(image) = status.image.and_then(image) {
        container.image = Some(image.into());
    }
    let started = u64::try_from(status.started_at).ok().filter(|&at| at != 0);
    container.started_at = started.map(Timestamp);
}

/// Completes a sandbox with what its status adds to the list.
pub(super) fn complete_sandbox(container: &mut Container, status: &m::PodStatusResponse) {
    let info = info(&status.info);
    container.init_pid = info.pid.filter(|&pid| pid != 0);
    container.image = info.image.filter(|image| !image.is_empty()).map(Into::into);
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Info {
    pid: Option<u32>,
    image: Option<String>,
}

/// Reads what a runtime says beyond the interface; empty if it cannot be read.
fn info(info: &HashMap<String, String>) -> Info {
    info.get(INFO).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
