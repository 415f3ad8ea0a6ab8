//! Groups records by resource: one for each container, one for all events outside containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use whalewatch_core::{Batch, Container};
use whalewatch_kit::Template;

use crate::record::{Records, list_attribute, text_attribute};
use crate::wire::{bytes, bytes_len, head, message};

/// The version of the semantic conventions that the names of attributes follow.
pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

// Field numbers from opentelemetry/proto/collector/logs/v1/logs_service.proto and the files that it
// imports.
const REQUEST_RESOURCE_LOGS: u32 = 1;
const GROUP_RESOURCE: u32 = 1;
const GROUP_SCOPE_LOGS: u32 = 2;
const GROUP_SCHEMA_URL: u32 = 3;
const RESOURCE_ATTRIBUTES: u32 = 1;
const SCOPE_SCOPE: u32 = 1;
const SCOPE_RECORDS: u32 = 2;
const SCOPE_SCHEMA_URL: u32 = 3;
const SCOPE_NAME: u32 = 1;
const SCOPE_VERSION: u32 = 2;

/// The records of the next request.
#[derive(Debug)]
pub(crate) struct Groups {
    records: Records,
    /// The encoded attributes that all resources have.
    common: Box<[u8]>,
    scope: Box<[u8]>,
    all: Vec<Group>,
    events: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Group {
    container: Option<Arc<Container>>,
    /// The encoded content of the `Resource`.
    resource: Box<[u8]>,
    /// Encoded fields of the `ScopeLogs`, one for each record.
    records: Vec<u8>,
}

impl Groups {
    /// Creates groups for events of `host`. `resource` has additional attributes, and `body` the
    /// template of the body, if there is one.
    pub(crate) fn new(
        host: &str,
        resource: &BTreeMap<String, String>,
        body: Option<Template>,
        name_attribute: bool,
    ) -> Self {
        let mut common = Vec::new();
        let own = [("service.name", "whalewatch"), ("host.name", host), ("os.type", "linux")];
        let given = resource.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in own.into_iter().chain(given) {
            text_attribute(&mut common, RESOURCE_ATTRIBUTES, name, value);
        }
        let mut scope = Vec::new();
        bytes(&mut scope, SCOPE_NAME, b"whalewatch");
        bytes(&mut scope, SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
        Self {
            records: Records::new(host, body, name_attribute),
            common: common.into(),
            scope: scope.into(),
            all: Vec::new(),
            events: 0,
            bytes: 0,
        }
    }

    /// Returns the number of events.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Returns the size of the encoded records in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the events of a batch, observed at the time `observed`, in nanoseconds since 1970.
    /// Calls `added` after each event, which may call [`Groups::request`].
    pub(crate) fn add(&mut self, batch: &Batch, observed: u64, mut added: impl FnMut(&mut Self)) {
        let plan = self.records.plan(batch);
        // Consecutive events are often from the same container.
        let mut last = usize::MAX;
        for event in batch.iter() {
            let container = event.attribution().container.as_ref();
            if !self.all.get(last).is_some_and(|group| group.is_of(container)) {
                last = self.group(container);
            }
            let records = &mut self.all[last].records;
            let before = records.len();
            message(records, SCOPE_RECORDS, |out| self.records.write(out, plan, event, observed));
            self.bytes += records.len() - before;
            self.events += 1;
            added(self);
        }
    }

    /// Returns the index of the container's group, which is created if it does not exist.
    fn group(&mut self, container: Option<&Arc<Container>>) -> usize {
        if let Some(known) = self.all.iter().position(|group| group.is_of(container)) {
            return known;
        }
        if let Some(known) = self.all.iter().position(|group| group.is_alike(container)) {
            // A newer snapshot of the container. The next events most likely have it, too.
            self.all[known].container = container.cloned();
            return known;
        }
        let mut resource = self.common.to_vec();
        if let Some(container) = container {
            describe(&mut resource, container);
        }
        let (container, resource) = (container.cloned(), resource.into());
        self.all.push(Group { container, resource, records: Vec::new() });
        self.all.len() - 1
    }

    /// Removes all records and returns them as an encoded `ExportLogsServiceRequest`.
    pub(crate) fn request(&mut self) -> Bytes {
        let each = self.all.iter().map(|group| group.resource.len() + 256).sum::<usize>();
        let mut out = Vec::with_capacity(self.bytes + each);
        for group in self.all.iter().filter(|group| !group.records.is_empty()) {
            let scope = bytes_len(self.scope.len()) + bytes_len(SCHEMA_URL.len());
            let length = bytes_len(group.resource.len())
                + bytes_len(scope + group.records.len())
                + bytes_len(SCHEMA_URL.len());
            head(&mut out, REQUEST_RESOURCE_LOGS, length);
            bytes(&mut out, GROUP_RESOURCE, &group.resource);
            head(&mut out, GROUP_SCOPE_LOGS, scope + group.records.len());
            bytes(&mut out, SCOPE_SCOPE, &self.scope);
            out.extend_from_slice(&group.records);
            bytes(&mut out, SCOPE_SCHEMA_URL, SCHEMA_URL.as_bytes());
            bytes(&mut out, GROUP_SCHEMA_URL, SCHEMA_URL.as_bytes());
        }
        // Containers without events may have ended.
        self.all.retain(|group| !group.records.is_empty());
        self.all.iter_mut().for_each(|group| group.records.clear());
        (self.events, self.bytes) = (0, 0);
        out.into()
    }
}

impl Group {
    /// Returns whether the group is for this snapshot of a container.
    fn is_of(&self, container: Option<&Arc<Container>>) -> bool {
        match (&self.container, container) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Returns whether the group has the same resource as this snapshot of a container.
    fn is_alike(&self, container: Option<&Arc<Container>>) -> bool {
        let (Some(own), Some(other)) = (&self.container, container) else { return false };
        own.id == other.id
            && own.name == other.name
            && own.image == other.image
            && own.runtime == other.runtime
            && own.kubernetes().eq(other.kubernetes())
    }
}

/// Writes the attributes of a container's resource.
fn describe(out: &mut Vec<u8>, container: &Container) {
    let mut attribute = |name, value| text_attribute(out, RESOURCE_ATTRIBUTES, name, value);
    attribute("container.id", &container.id);
    if let Some(name) = &container.name {
        attribute("container.name", name);
    }
    attribute("container.runtime.name", container.runtime.as_str());
    for (name, value) in container.kubernetes() {
        attribute(name, value);
    }
    let Some(image) = &container.image else { return };
    let (name, tag) = split_image(image);
    attribute("container.image.name", name);
    match tag {
        Some(Tag::Name(tag)) => {
            list_attribute(out, RESOURCE_ATTRIBUTES, "container.image.tags", tag);
        }
        Some(Tag::Digest) => {
            list_attribute(out, RESOURCE_ATTRIBUTES, "container.image.repo_digests", image);
        }
        None => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Tag<'a> {
    Name(&'a str),
    /// The image is identified by a digest.
    Digest,
}

/// Splits an image into its name and its tag or digest.
fn split_image(image: &str) -> (&str, Option<Tag<'_>>) {
    if let Some((name, _)) = image.split_once('@') {
        return (split_image(name).0, Some(Tag::Digest));
    }
    // A colon before the last slash separates a port.
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !name.is_empty() && name != "sha256" => {
            (name, Some(Tag::Name(tag)))
        }
        _ => (image, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_image_splits_at_the_tag_and_not_at_the_port() {
        for (image, name, tag) in [
            ("nginx", "nginx", None),
            ("nginx:1.27", "nginx", Some(Tag::Name("1.27"))),
            ("reg:5000/a/nginx", "reg:5000/a/nginx", None),
            ("reg:5000/a/nginx:x", "reg:5000/a/nginx", Some(Tag::Name("x"))),
            ("nginx@sha256:ab", "nginx", Some(Tag::Digest)),
            ("nginx:1@sha256:ab", "nginx", Some(Tag::Digest)),
            ("sha256:ab", "sha256:ab", None),
            (":x", ":x", None),
        ] {
            assert_eq!(split_image(image), (name, tag), "{image}");
        }
    }
}
