//! The interface's answers in our words. Nothing in them is trusted to be there.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use whalewatch_core::{Container, Runtime, Status, Timestamp};

use super::is_long_id;
use super::messages as m;
use crate::request::News;
use crate::runtimes::remote::Happened;

/// Where a runtime says what it knows beyond the interface, if asked to be verbose: the same in
/// containerd and CRI-O.
const INFO: &str = "info";

/// Which runtime answers to that name.
pub(super) fn runtime(name: &str) -> Runtime {
    match name {
        "containerd" => Runtime::Containerd,
        "cri-o" => Runtime::CriO,
        "docker" => Runtime::Docker,
        _ => Runtime::Other,
    }
}

/// Reads an event; `None` if it is nothing to us.
pub(super) fn happened(event: m::Event) -> Option<Happened> {
    let id = Some(event.container).filter(|id| is_long_id(id))?;
    let (news, look_at) = match event.kind {
        0 => (None, Some(id.as_str().into())),
        1 => {
            let look_at = Some(id.as_str().into());
            (Some(News::Status { id, status: Status::Running }), look_at)
        }
        2 => (Some(News::Status { id, status: Status::Exited }), None),
        3 => (Some(News::Removed { id }), None),
        _ => return None,
    };
    Some(Happened { news, look_at })
}

/// A container of a pod, which is not always there to be asked.
pub(super) fn container(
    container: m::Container,
    pod: Option<&m::Pod>,
    runtime: Runtime,
) -> Option<Container> {
    let id = Some(container.id).filter(|id| is_long_id(id))?;
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

/// The container that stands for a pod while it is there: it is called as its pod.
pub(super) fn sandbox(pod: &m::Pod, runtime: Runtime) -> Option<Container> {
    let name = pod.metadata.as_ref().map(|pod| &*pod.name).filter(|name| !name.is_empty());
    Some(Container {
        name: name.map(Into::into),
        status: if pod.state == 0 { Status::Running } else { Status::Exited },
        labels: labels(pod.labels.clone(), Some(pod)),
        ..Container::bare(Some(&*pod.id).filter(|id| is_long_id(id))?, runtime)
    })
}

/// Its labels, with those that a kubelet would have given it.
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

/// An image's name; a kubelet asks for it by what is in it, and says only lately what it was asked
/// for itself.
fn image(image: m::Image) -> Option<String> {
    let by_content = |name: &str| name.starts_with("sha256:") || is_long_id(name);
    let names = [image.as_asked_for, image.image];
    names.into_iter().find(|name| !name.is_empty() && !by_content(name))
}

/// Adds what a container's status tells beyond the list.
pub(super) fn complete(container: &mut Container, status: m::ContainerStatusResponse) {
    container.init_pid = info(&status.info).pid.filter(|&pid| pid != 0);
    let Some(status) = status.status else { return };
    if let Some(image) = status.image.and_then(image) {
        container.image = Some(image.into());
    }
    let started = u64::try_from(status.started_at).ok().filter(|&at| at != 0);
    container.started_at = started.map(Timestamp);
}

/// Adds what a sandbox's status tells beyond the list.
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

/// What a runtime says beyond the interface, as far as it can be read.
fn info(info: &HashMap<String, String>) -> Info {
    info.get(INFO).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
