//! The pods of containers that containerd's CRI plugin made. A kubelet labels each container with
//! its pod; who else speaks the CRI need not, and then it stands in the plugin's own record of the
//! pod's sandbox, a JSON text.

use std::collections::HashMap;

use serde::Deserialize;

use super::messages::Record;

/// The plugin's record of a container, and of a sandbox:
/// pkg/cri/store/{container,sandbox}/metadata.go.
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

/// The pods that are known, by the id of their sandbox.
#[derive(Debug, Default)]
pub(super) struct Pods(HashMap<String, Named>);

impl Pods {
    /// The sandbox that has to be known before a container's labels are whole.
    pub(super) fn wanted(&self, record: &Record) -> Option<String> {
        let sandbox = read(record, OF_CONTAINER)?.sandbox;
        let missing = !record.labels.contains_key(POD) && !self.0.contains_key(&sandbox);
        (missing && !sandbox.is_empty()).then_some(sandbox)
    }

    /// Takes in what the record of a sandbox says.
    pub(super) fn learn(&mut self, record: &Record) {
        if let Some(metadata) = read(record, OF_SANDBOX) {
            self.0.insert(record.id.clone(), metadata.config.metadata);
        }
    }

    /// A container's name in its pod; for a sandbox the pod's. `None` for a container that the
    /// plugin did not make.
    pub(super) fn name(&self, record: &Record) -> Option<String> {
        let name = match self.0.get(&record.id) {
            Some(pod) => pod.name.clone(),
            None => read(record, OF_CONTAINER)?.config.metadata.name,
        };
        (!name.is_empty()).then_some(name)
    }

    /// The labels that a kubelet would have given a container: nothing for one that is in no pod.
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
