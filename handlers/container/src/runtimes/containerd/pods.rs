//! The pods of containers that containerd's CRI plugin made. A kubelet labels each container with
//! its pod. Other clients of the CRI need not; then the pod is in the plugin's own record of the
//! sandbox, a JSON text.

use std::collections::HashMap;

use serde::Deserialize;

use super::messages::Record;

/// The extensions with the plugin's records of a container and of a sandbox (containerd,
/// pkg/cri/store/{container,sandbox}/metadata.go).
const OF_CONTAINER: &str = "io.cri-containerd.container.metadata";
const OF_SANDBOX: &str = "io.cri-containerd.sandbox.metadata";

const POD: &str = "io.kubernetes.pod.name";

#[derive(Debug, Default, Deserialize)]
struct Versioned {
    #[serde(rename = "Metadata", default)]
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "SandboxID", default)]
    sandbox: String,
    #[serde(rename = "Config", default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    metadata: Named,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
    uid: String,
}

/// The known pods, by the id of their sandbox.
#[derive(Debug, Default)]
pub(super) struct Pods(HashMap<String, Named>);

impl Pods {
    /// Returns the sandbox whose record is needed to complete a container's labels.
    pub(super) fn wanted(&self, record: &Record) -> Option<String> {
        let sandbox = read(record, OF_CONTAINER)?.sandbox;
        let missing = !record.labels.contains_key(POD) && !self.0.contains_key(&sandbox);
        (missing && !sandbox.is_empty()).then_some(sandbox)
    }

    /// Learns a pod from the record of its sandbox.
    pub(super) fn learn(&mut self, record: &Record) {
        if let Some(metadata) = read(record, OF_SANDBOX) {
            self.0.insert(record.id.clone(), metadata.config.metadata);
        }
    }

    /// Returns a container's name in its pod, or a sandbox's pod name. `None` for a container that
    /// the plugin did not make.
    pub(super) fn name(&self, record: &Record) -> Option<String> {
        let name = match self.0.get(&record.id) {
            Some(pod) => pod.name.clone(),
            None => read(record, OF_CONTAINER)?.config.metadata.name,
        };
        (!name.is_empty()).then_some(name)
    }

    /// Returns the labels that a kubelet would have set; none for a container outside a pod.
    pub(super) fn labels(&self, record: &Record) -> Vec<(&'static str, String)> {
        let own = read(record, OF_CONTAINER);
        let sandbox = own.as_ref().map_or(&record.id, |own| &own.sandbox);
        let pod = self.0.get(sandbox).cloned().unwrap_or_default();
        let own = own.map(|own| own.config.metadata.name).unwrap_or_default();
        let labels = [
            (POD, pod.name),
            ("io.kubernetes.pod.namespace", pod.namespace),
            ("io.kubernetes.pod.uid", pod.uid),
            ("io.kubernetes.container.name", own),
        ];
        labels.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

fn read(record: &Record, extension: &str) -> Option<Metadata> {
    let value = &record.extensions.get(extension)?.value;
    serde_json::from_slice(value).ok().map(|read: Versioned| read.metadata)
}
