//! Translation of the records that podman and CRI-O keep of their containers (containers/storage,
//! containers.go). Any field may be missing or wrong: users can write these files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use whalewatch_core::{Container, Runtime};

use crate::ids::is_full_id;

/// The files with records: of containers that survive a reboot, and of those that need not.
pub(super) const FILES: [&str; 2] = ["containers.json", "volatile-containers.json"];
/// Bound on the size of a file in bytes: about 30,000 containers.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Bound on the records of one file.
const MAX_RECORDS: usize = 16_384;

/// The record of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) image: Option<Arc<str>>,
    pub(super) runtime: Runtime,
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    names: Option<Vec<String>>,
    metadata: Option<String>,
}

/// The field `metadata` of podman and CRI-O, which is JSON in a string.
#[derive(Deserialize)]
struct Metadata {
    name: Option<String>,
    #[serde(rename = "image-name")]
    image: Option<String>,
    /// CRI-O only.
    #[serde(rename = "pod-id")]
    pod: Option<String>,
}

/// Reads the records in the text of a file. An error means that the text is not a list, or not yet.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Record>, serde_json::Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let entries: Vec<serde_json::Value> = serde_json::from_slice(text)?;
    Ok(entries.into_iter().filter_map(record).take(MAX_RECORDS).collect())
}

/// Reads one record; `None` unless it is a container of podman or CRI-O with a full id, which
/// becomes part of paths. buildah keeps its working containers in the same file, without metadata.
fn record(entry: serde_json::Value) -> Option<Record> {
    let entry: Entry = serde_json::from_value(entry).ok().filter(|e: &Entry| is_full_id(&e.id))?;
    let metadata: Metadata = serde_json::from_str(&entry.metadata?).ok()?;
    let first_name = metadata.name.filter(|name| !name.is_empty())?;
    // The metadata keeps the first name after a rename.
    let name = entry.names.unwrap_or_default().into_iter().find(|name| !name.is_empty());
    let name = name.unwrap_or(first_name);
    let pod = metadata.pod.is_some_and(|pod| !pod.is_empty());
    Some(Record {
        id: entry.id.into(),
        labels: if pod { labels_in(&name) } else { BTreeMap::new() },
        name: name.into(),
        image: metadata.image.filter(|image| !image.is_empty()).map(Into::into),
        runtime: if pod { Runtime::CriO } else { Runtime::Podman },
    })
}

/// Reads the labels in CRI-O's name of a container, `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`. No
/// part has an underscore.
fn labels_in(name: &str) -> BTreeMap<String, String> {
    let mut parts = name.split('_');
    let mut labels = BTreeMap::new();
    if parts.next() != Some("k8s") || name.matches('_').count() != 5 {
        return labels;
    }
    for (key, part) in ["container.name", "pod.name", "pod.namespace", "pod.uid"].iter().zip(parts)
    {
        labels.insert(format!("io.kubernetes.{key}"), part.to_owned());
    }
    labels
}

impl Record {
    /// Returns the container, as far as its record describes it.
    pub(super) fn container(&self) -> Container {
        Container {
            name: Some(Arc::clone(&self.name)),
            image: self.image.clone(),
            labels: self.labels.clone(),
            ..Container::bare(Arc::clone(&self.id), self.runtime)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id() -> String {
        "ab".repeat(32)
    }

    fn one(names: &serde_json::Value, metadata: &serde_json::Value) -> Option<Record> {
        let entry = json!([{"id": id(), "names": names, "image": "60fc", "layer": "7593",
            "metadata": metadata.to_string(), "created": "2026-11-24T16:12:24Z", "flags": {}}]);
        parse(entry.to_string().as_bytes()).unwrap().pop()
    }

    #[test]
    fn podmans_record_has_the_current_name_and_the_image() {
        let metadata = json!({"image-name": "localhost/bb:1", "image-id": "60fc", "name": "first",
            "created-at": 1});
        let record = one(&json!(["now"]), &metadata).unwrap();
        assert_eq!((&*record.name, record.image.as_deref()), ("now", Some("localhost/bb:1")));
        assert_eq!((record.runtime, record.labels.len()), (Runtime::Podman, 0));
        assert_eq!(&*one(&json!(null), &metadata).unwrap().name, "first");
    }

    #[test]
    fn crios_record_has_the_pod() {
        let name = "k8s_web_front-7d4_shop_0a1b-2c_0";
        let metadata = json!({"pod-name": "k8s_front-7d4_shop_0a1b-2c_0", "pod-id": "cd",
            "name": name,
            "image-name": "docker.io/library/nginx:1", "metadata-name": "web", "created-at": 1});
        let record = one(&json!([name]), &metadata).unwrap();
        assert_eq!((&*record.name, record.runtime), (name, Runtime::CriO));
        let label = |key: &str| record.labels.get(&format!("io.kubernetes.{key}")).cloned();
        assert_eq!(label("pod.name").as_deref(), Some("front-7d4"));
        assert_eq!(label("pod.namespace").as_deref(), Some("shop"));
        assert_eq!(label("pod.uid").as_deref(), Some("0a1b-2c"));
        assert_eq!(label("container.name").as_deref(), Some("web"));
        assert_eq!(labels_in("k8s_too_few").len(), 0);
    }

    #[test]
    fn other_records_are_left_out_and_the_good_ones_stay() {
        let good = json!({"id": id(), "metadata": "{\"name\":\"good\"}"});
        for bad in [
            json!(7),
            json!({"id": id(), "names": ["bb-working-container"]}), // buildah's
            json!({"id": "../../etc", "metadata": "{\"name\":\"x\"}"}),
            json!({"id": id(), "metadata": "{\"name\":7}"}),
            json!({"id": id(), "metadata": "{}"}),
        ] {
            let text = json!([bad, good]).to_string();
            let names: Vec<_> =
                parse(text.as_bytes()).unwrap().into_iter().map(|r| r.name).collect();
            assert_eq!(names, ["good".into()], "{text}");
        }
        assert!(parse(b"[{\"id\":\"ab").is_err(), "half a file is none");
        assert_eq!(parse(b"").unwrap(), []);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text: Vec<u8>) {
            drop(parse(&text));
        }

        #[test]
        fn any_record_is_read_and_no_id_leads_out_of_the_folder(
            id in "[0-9a-f/.]{62,66}", name: String, metadata: String
        ) {
            let text = json!([{"id": id, "names": [name], "metadata": metadata}]).to_string();
            for record in parse(text.as_bytes()).unwrap() {
                proptest::prop_assert!(is_full_id(&record.id));
            }
            let crio = json!({"name": name, "pod-id": "x"}).to_string();
            let text = json!([{"id": "ab".repeat(32), "metadata": crio}]).to_string();
            let records = parse(text.as_bytes()).unwrap().len();
            proptest::prop_assert_eq!(records, usize::from(!name.is_empty()));
        }
    }
}
