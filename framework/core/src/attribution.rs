//! Attribution: which container caused an event, and the evidence for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::field::{Field, FieldInfo, Texts, Type, Value};
use crate::time::Timestamp;

/// How much is known about the container that caused an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// No container manager has seen the event yet.
    #[default]
    Unset,
    /// Id and name of the container are known.
    Resolved,
    /// The id is known; the name did not come within `hold`.
    Pending,
    /// There was no evidence: it may be a container or the host.
    Unknown,
    /// The host: in no container.
    Host,
}

impl State {
    /// Returns the word in output; `None` while unset.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Unset => None,
            Self::Resolved => Some("resolved"),
            Self::Pending => Some("pending"),
            Self::Unknown => Some("unknown"),
            Self::Host => Some("host"),
        }
    }
}

/// How an attribution was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Not at all.
    #[default]
    None,
    /// The cgroup of the event.
    Cgroup,
    /// The process, by pid and start time, was known.
    Pid,
    /// The parent process was known.
    Parent,
    /// The namespaces are those of a known container, or the host's.
    Namespace,
    /// The container runtime named the process.
    Runtime,
}

impl Evidence {
    /// Returns the word in output; `None` without evidence.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Cgroup => Some("cgroup"),
            Self::Pid => Some("pid"),
            Self::Parent => Some("parent"),
            Self::Namespace => Some("namespace"),
            Self::Runtime => Some("runtime"),
        }
    }
}

/// A container runtime: the program that runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[non_exhaustive]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, also under Kubernetes.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman.
    Podman,
    /// runc on its own, without a runtime above it.
    Runc,
    /// crun on its own, without a runtime above it.
    Crun,
    /// Another runtime, or an unknown one.
    Other,
}

impl Runtime {
    /// Returns the word in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Other => "other",
        }
    }
}

/// Status of a container, in Docker's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Status {
    /// Not reported, or reported with an unknown word.
    #[default]
    Unknown,
    /// Created, not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Being restarted.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Failed, and cannot be restarted.
    Dead,
}

impl Status {
    /// Returns the word in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// A snapshot of what is known about a container. Events share it; when something changes, later
/// events get a new snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Container {
    /// The full id, as the runtime has it: 64 hexadecimal digits for Docker.
    pub id: Arc<str>,
    /// The name, without Docker's leading slash; `None` until known.
    pub name: Option<Arc<str>>,
    /// The name of the image, as the container was started with it.
    pub image: Option<Arc<str>>,
    /// The runtime.
    pub runtime: Runtime,
    /// The status.
    pub status: Status,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The pid of the first process, in the host's pid namespace.
    pub init_pid: Option<u32>,
    /// When the container was last started.
    pub started_at: Option<Timestamp>,
    /// The containers that this one runs in.
    #[serde(default)]
    pub parents: Parents,
}

/// The containers around a container, the nearest first. Most containers have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Parents {
    /// Ids and names, each with a NUL byte at its end, as [`Texts`] has them.
    ids: String,
    names: String,
}

impl Parents {
    /// Returns the parents of a container in `nearest`: that one, then its own parents.
    pub fn with(nearest: &Container) -> Self {
        let one = |text: &str| format!("{text}\0");
        let name = nearest.name.as_ref().unwrap_or(&nearest.id);
        Self {
            ids: one(&nearest.id) + &nearest.parents.ids,
            names: one(name) + &nearest.parents.names,
        }
    }

    /// Whether there is no parent.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Returns the ids, the nearest first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.split_terminator('\0')
    }
}

impl Container {
    /// Makes a container of which only id and runtime are known.
    pub fn bare(id: impl Into<Arc<str>>, runtime: Runtime) -> Self {
        Self {
            id: id.into(),
            name: None,
            image: None,
            runtime,
            status: Status::Unknown,
            labels: BTreeMap::new(),
            init_pid: None,
            started_at: None,
            parents: Parents::default(),
        }
    }

    /// Returns the Kubernetes fields with their values; none for a container outside a pod.
    pub fn kubernetes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KUBERNETES.iter().filter_map(|&(field, label)| Some((field, self.label(label)?)))
    }

    /// Returns the value of a label; `None` if it is empty or missing.
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the first 12 characters of the id, as the `docker` command shows it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// The attribution of an event: which container caused it. Each event of a batch has a slot for
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// The container; `None` for host and unknown.
    pub container: Option<Arc<Container>>,
    /// How much is known about the container.
    pub state: State,
    /// How that is known.
    pub evidence: Evidence,
    /// The container that the event was done to, if its [target](crate::Event::target) is in one.
    pub target: Option<Arc<Container>>,
    /// How much is known about the target's container; unset for an event without a target.
    pub target_state: State,
    /// The container whose mount namespace a host process has entered: it sees that container's
    /// files but, by its cgroup, is still on the host.
    pub entered: Option<Arc<Container>>,
}

impl Attribution {
    /// The host.
    pub fn host(evidence: Evidence) -> Self {
        Self { state: State::Host, evidence, ..Self::default() }
    }

    /// Unknown: there is no evidence.
    pub fn unknown() -> Self {
        Self { state: State::Unknown, ..Self::default() }
    }

    /// This container: resolved if its name is known, else pending.
    pub fn container(container: Arc<Container>, evidence: Evidence) -> Self {
        let state = if container.name.is_some() { State::Resolved } else { State::Pending };
        Self { container: Some(container), state, evidence, ..Self::default() }
    }
}

/// The fields of containers in a pod, by OpenTelemetry's names, each with the label that it comes
/// from. A kubelet puts these labels on every container, whatever the runtime.
pub const KUBERNETES: [(&str, &str); 4] = [
    ("k8s.pod.name", "io.kubernetes.pod.name"),
    ("k8s.namespace.name", "io.kubernetes.pod.namespace"),
    ("k8s.pod.uid", "io.kubernetes.pod.uid"),
    ("k8s.container.name", "io.kubernetes.container.name"),
];

/// Returns the value of the field with this index in [`KUBERNETES`].
fn kubernetes(attribution: &Attribution, number: usize) -> Value<'_> {
    text(attribution.container.as_ref().and_then(|c| c.label(KUBERNETES[number].1)))
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Null, |t| Value::Text(t.as_bytes()))
}

const fn field(
    name: &'static str,
    doc: &'static str,
    get: fn(&Attribution) -> Value<'_>,
) -> Field<Attribution> {
    Field { info: FieldInfo { name, ty: Type::Text, doc }, get }
}

/// A field with the ids or names of the container's parents. A macro, because a `const fn` cannot
/// take a closure that captures which of the two.
macro_rules! parents {
    ($name:literal, $doc:literal, $list:ident) => {
        Field {
            info: FieldInfo { name: $name, ty: Type::Texts, doc: $doc },
            get: |a: &Attribution| match &a.container {
                Some(container) if !container.parents.is_empty() => {
                    Value::Texts(Texts(container.parents.$list.as_bytes()))
                }
                _ => Value::Null,
            },
        }
    };
}

/// The fields that every event has after a container manager, in the order of output.
pub const ATTRIBUTION_FIELDS: &[Field<Attribution>] = &[
    field("container.id", "id of the container", |a| text(a.container.as_ref().map(|c| &*c.id))),
    field("container.name", "name of the container", |a| {
        text(a.container.as_ref().and_then(|c| c.name.as_deref()))
    }),
    field("container.image.name", "name of the container's image", |a| {
        text(a.container.as_ref().and_then(|c| c.image.as_deref()))
    }),
    field("container.runtime", "runtime of the container: docker, containerd, …", |a| {
        text(a.container.as_ref().map(|c| c.runtime.as_str()))
    }),
    field("container.status", "status of the container: created, running, exited, …", |a| {
        text(a.container.as_ref().map(|c| c.status.as_str()))
    }),
    parents!(
        "container.parents.id",
        "ids of the containers that this one runs in, the nearest first",
        ids
    ),
    parents!(
        "container.parents.name",
        "names of the containers that this one runs in; the id of one without a name",
        names
    ),
    field(
        "entered.container.id",
        "id of the container whose mount namespace a host process has entered",
        |a| text(a.entered.as_ref().map(|c| &*c.id)),
    ),
    field("entered.container.name", "name of that container", |a| {
        text(a.entered.as_ref().and_then(|c| c.name.as_deref()))
    }),
    field(KUBERNETES[0].0, "name of the container's pod", |a| kubernetes(a, 0)),
    field(KUBERNETES[1].0, "Kubernetes namespace of the container's pod", |a| kubernetes(a, 1)),
    field(KUBERNETES[2].0, "uid of the container's pod", |a| kubernetes(a, 2)),
    field(KUBERNETES[3].0, "name of the container in its pod", |a| kubernetes(a, 3)),
    field("target.container.id", "id of the container that the event was done to", |a| {
        text(a.target.as_ref().map(|c| &*c.id))
    }),
    field("target.container.name", "name of the container that the event was done to", |a| {
        text(a.target.as_ref().and_then(|c| c.name.as_deref()))
    }),
    field("target.attribution.state", "resolved, pending, unknown or host", |a| {
        text(a.target_state.as_str())
    }),
    field("attribution.state", "resolved, pending, unknown or host", |a| text(a.state.as_str())),
    field("attribution.evidence", "cgroup, pid, parent, namespace or runtime", |a| {
        text(a.evidence.as_str())
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containers_of_a_pod_have_kubernetes_fields() {
        let value = |container: Container, name: &str| {
            let attribution = Attribution::container(Arc::new(container), Evidence::Cgroup);
            let field = ATTRIBUTION_FIELDS.iter().find(|f| f.info.name == name).unwrap();
            match (field.get)(&attribution) {
                Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                _ => None,
            }
        };
        let bare = Container::bare("ab", Runtime::Containerd);
        let label = |&(field, label): &(&str, &str)| (label.to_owned(), format!("its {field}"));
        let in_pod = Container { labels: KUBERNETES.iter().map(label).collect(), ..bare.clone() };
        for (name, label) in KUBERNETES {
            assert_eq!(value(bare.clone(), name), None);
            assert_eq!(value(in_pod.clone(), name), Some(format!("its {name}")));
            let labels = [(label.to_owned(), String::new())].into();
            assert_eq!(value(Container { labels, ..bare.clone() }, name), None, "an empty label");
        }
        assert_eq!(in_pod.kubernetes().count(), KUBERNETES.len());
    }

    #[test]
    fn the_nearest_parent_comes_first() {
        let named = |id: &str, name: Option<&str>, parents| Container {
            name: name.map(Into::into),
            parents,
            ..Container::bare(id, Runtime::Docker)
        };
        let outer = named("a", Some("outer"), Parents::default());
        let middle = named("b", None, Parents::with(&outer));
        let inner = named("c", Some("inner"), Parents::with(&middle));
        assert_eq!(inner.parents.ids().collect::<Vec<_>>(), ["b", "a"]);
        let event = Attribution::container(Arc::new(inner), Evidence::Cgroup);
        let field = |name| ATTRIBUTION_FIELDS.iter().find(|f| f.info.name == name).unwrap();
        let get = |name| (field(name).get)(&event);
        assert_eq!(get("container.parents.id"), Value::Texts(Texts(b"b\0a\0")));
        assert_eq!(get("container.parents.name"), Value::Texts(Texts(b"b\0outer\0")));
        let event = Attribution::container(Arc::new(outer), Evidence::Cgroup);
        assert_eq!((field("container.parents.id").get)(&event), Value::Null);
    }

    #[test]
    fn an_attribution_is_pending_exactly_while_the_name_is_missing() {
        let bare = Container::bare("ab", Runtime::Docker);
        let named = Container { name: Some("web".into()), ..bare.clone() };
        assert_eq!(Attribution::container(Arc::new(bare), Evidence::Cgroup).state, State::Pending);
        assert_eq!(
            Attribution::container(Arc::new(named), Evidence::Cgroup).state,
            State::Resolved
        );
    }
}
