//! Which container did it, and how that is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::field::{Field, FieldInfo, Texts, Type, Value};
use crate::time::Timestamp;

/// How much is known of the container behind an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// No container manager has seen the event yet.
    #[default]
    Unset,
    /// Id and name of the container are known.
    Resolved,
    /// The id is known; the name was not there within `hold`.
    Pending,
    /// In some container or in none: it could not be told.
    Unknown,
    /// In no container.
    Host,
}

impl State {
    /// The word that is printed; `None` while unset.
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

/// What the attribution was drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Nothing told.
    #[default]
    None,
    /// The cgroup that the event happened in.
    Cgroup,
    /// The process was known already.
    Pid,
    /// The parent's container was inherited.
    Parent,
    /// Its namespaces are those of a known container.
    Namespace,
    /// The container runtime said so.
    Runtime,
}

impl Evidence {
    /// The word that is printed; `None` where nothing told.
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

/// The program that runs containers.
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
    /// runc, called by itself.
    Runc,
    /// crun, called by itself.
    Crun,
    /// Some other runtime.
    Other,
}

impl Runtime {
    /// The word that is printed.
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

/// State of a container, in Docker's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub enum Status {
    /// Not told, or a word that is not known.
    #[default]
    Unknown,
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Being started again.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Broken beyond restart.
    Dead,
}

impl Status {
    /// The word that is printed.
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

    /// Parses the daemon's text: the `State` word (`running`), or the `Status` line for people
    /// (`Up 3 minutes (Paused)`, `Exited (0) 2 hours ago`). Anything else is [`Status::Unknown`].
    pub fn parse(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
        match first {
            "up" | "running" if text.contains("(paused)") => Self::Paused,
            "up" | "running" => Self::Running,
            "created" => Self::Created,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" | "removal" => Self::Removing,
            "exited" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Unknown,
        }
    }
}

/// What is known of a container. Events share one snapshot; when something changes, later events
/// get a new one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Container {
    /// Full id as the runtime has it: 64 hexadecimal digits for Docker.
    pub id: Arc<str>,
    /// Its name, without Docker's leading slash; `None` until known.
    pub name: Option<Arc<str>>,
    /// Name of the image, as it was asked for.
    pub image: Option<Arc<str>>,
    /// The runtime.
    pub runtime: Runtime,
    /// Its state.
    pub status: Status,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Pid of its first process, in the host's pid namespace.
    pub init_pid: Option<u32>,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// The containers that it runs in.
    #[serde(default)]
    pub parents: Parents,
}

/// The containers that a container runs in, the nearest first: none for most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Parents {
    /// Each ended by a NUL byte, as [`Texts`] has it. So are the names.
    ids: String,
    names: String,
}

impl Parents {
    /// Those that `nearest` runs in, and before them itself.
    pub fn with(nearest: &Container) -> Self {
        let one = |text: &str| format!("{text}\0");
        let name = nearest.name.as_ref().unwrap_or(&nearest.id);
        Self {
            ids: one(&nearest.id) + &nearest.parents.ids,
            names: one(name) + &nearest.parents.names,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Their ids, the nearest first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.split_terminator('\0')
    }
}

impl Container {
    /// A container of which only the id is known.
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

    /// What Kubernetes says of it: the field and its value. Nothing for a container that is in no
    /// pod.
    pub fn kubernetes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KUBERNETES.iter().filter_map(|&(field, label)| Some((field, self.label(label)?)))
    }

    /// The value of a label; `None` also where it is empty.
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first 12 characters of the id, as the `docker` command shows it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Which container did it: the slot that each event of a batch has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// The container; `None` for host and unknown.
    pub container: Option<Arc<Container>>,
    /// How much is known.
    pub state: State,
    /// How it is known.
    pub evidence: Evidence,
    /// The container that it was done to, where the event has a [target](crate::Event::target) in
    /// one.
    pub target: Option<Arc<Container>>,
    /// How much is known of that; unset for an event without a target.
    pub target_state: State,
    /// The container whose mount namespace a process of the host's has entered: it is among that
    /// one's files and, by its cgroup, still the host's.
    pub entered: Option<Arc<Container>>,
}

impl Attribution {
    /// In no container.
    pub fn host(evidence: Evidence) -> Self {
        Self { state: State::Host, evidence, ..Self::default() }
    }

    /// It could not be told.
    pub fn unknown() -> Self {
        Self { state: State::Unknown, ..Self::default() }
    }

    /// In this container: resolved if its name is known, else pending.
    pub fn container(container: Arc<Container>, evidence: Evidence) -> Self {
        let state = if container.name.is_some() { State::Resolved } else { State::Pending };
        Self { container: Some(container), state, evidence, ..Self::default() }
    }
}

/// The fields that containers of a pod have, by OpenTelemetry's names, and the labels they come
/// from, which a kubelet puts on every container, whatever its runtime.
pub const KUBERNETES: [(&str, &str); 4] = [
    ("k8s.pod.name", "io.kubernetes.pod.name"),
    ("k8s.namespace.name", "io.kubernetes.pod.namespace"),
    ("k8s.pod.uid", "io.kubernetes.pod.uid"),
    ("k8s.container.name", "io.kubernetes.container.name"),
];

/// The value of the field with that number in [`KUBERNETES`].
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

/// A list of the container's parents; a closure cannot be handed through, so each list has its own
/// function.
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

/// The fields that every event has once a container manager has seen it, in the order they are
/// printed.
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
    field("container.status", "state of the container: created, running, exited, …", |a| {
        text(a.container.as_ref().map(|c| c.status.as_str()))
    }),
    parents!("container.parents.id", "containers that it runs in, the nearest first", ids),
    parents!("container.parents.name", "their names, or ids where no name is known", names),
    field("entered.container.id", "container whose mounts a process of the host is in", |a| {
        text(a.entered.as_ref().map(|c| &*c.id))
    }),
    field("entered.container.name", "its name", |a| {
        text(a.entered.as_ref().and_then(|c| c.name.as_deref()))
    }),
    field(KUBERNETES[0].0, "name of the container's pod", |a| kubernetes(a, 0)),
    field(KUBERNETES[1].0, "Kubernetes namespace of the container's pod", |a| kubernetes(a, 1)),
    field(KUBERNETES[2].0, "uid of the container's pod", |a| kubernetes(a, 2)),
    field(KUBERNETES[3].0, "name of the container in its pod", |a| kubernetes(a, 3)),
    field("target.container.id", "id of the container that it was done to", |a| {
        text(a.target.as_ref().map(|c| &*c.id))
    }),
    field("target.container.name", "name of the container that it was done to", |a| {
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
    fn status_is_parsed_from_both_of_the_daemons_texts() {
        for (text, want) in [
            ("running", Status::Running),
            ("Up 3 minutes", Status::Running),
            ("Up 3 minutes (Paused)", Status::Paused),
            ("Up 5 seconds (health: starting)", Status::Running),
            ("Exited (137) 2 hours ago", Status::Exited),
            ("exited", Status::Exited),
            ("Created", Status::Created),
            ("Restarting (1) 4 seconds ago", Status::Restarting),
            ("Removal In Progress", Status::Removing),
            ("Dead", Status::Dead),
            ("", Status::Unknown),
            ("Upside down", Status::Unknown),
        ] {
            assert_eq!(Status::parse(text), want, "{text:?}");
        }
    }

    #[test]
    fn kubernetes_fields_are_there_for_containers_of_a_pod_alone() {
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
