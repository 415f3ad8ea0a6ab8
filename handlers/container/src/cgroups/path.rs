//! From a cgroup's path to its container: how each runtime names its cgroups.
//!
//! `paths.tsv` lists real paths with their sources; the tests read it.

use serde::{Deserialize, Serialize};
use whalewatch_core::Runtime;

use crate::ids::{is_full_id, is_hex};

/// A container as its cgroup's path identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    /// Its name, if the path has it.
    pub(crate) name: Option<&'a str>,
    /// Its runtime; [`Runtime::Other`] if the path does not say.
    pub(crate) runtime: Runtime,
    /// Whether only a runtime makes such paths. (A cgroup may have any name.)
    pub(crate) certain: bool,
    /// Whether no client can report its name.
    pub(crate) nameless: bool,
}

impl<'a> Identity<'a> {
    /// A container without doubt.
    pub(crate) fn certain(id: &'a str, runtime: Runtime) -> Self {
        Self { id, name: None, runtime, certain: true, nameless: false }
    }
}

/// An owned [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct OwnedIdentity {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) runtime: Runtime,
    pub(crate) certain: bool,
    pub(crate) nameless: bool,
}

impl OwnedIdentity {
    pub(crate) fn as_identity(&self) -> Identity<'_> {
        let &Self { ref id, ref name, runtime, certain, nameless } = self;
        Identity { id, name: name.as_deref(), runtime, certain, nameless }
    }
}

impl From<Identity<'_>> for OwnedIdentity {
    fn from(found: Identity<'_>) -> Self {
        let Identity { id, name, runtime, certain, nameless } = found;
        Self { id: id.to_owned(), name: name.map(str::to_owned), runtime, certain, nameless }
    }
}

/// Prefixes of a component that name the runtime. The id follows, and then perhaps `.scope`.
const PREFIXES: &[(&str, Runtime)] = &[
    ("docker-", Runtime::Docker),
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
];

/// Returns the innermost container whose cgroup is at or above `path`; `None` for the host's
/// cgroups.
pub(crate) fn container_in(path: &[u8]) -> Option<Identity<'_>> {
    outwards(path).next()
}

/// Returns all containers in a path, the innermost first: more than one if containers are nested.
pub(crate) fn outwards(path: &[u8]) -> impl Iterator<Item = Identity<'_>> {
    let mut components = path.rsplit(|&b| b == b'/').filter(|c| !c.is_empty()).peekable();
    std::iter::from_fn(move || {
        let component = components.next()?;
        Some((component, components.peek().copied().unwrap_or_default()))
    })
    .filter_map(|(component, parent)| in_component(text(component), text(parent)))
}

/// Returns a component as text; empty, which names nobody, if it is not UTF-8.
fn text(component: &[u8]) -> &str {
    std::str::from_utf8(component).unwrap_or_default()
}

fn in_component<'a>(component: &'a str, parent: &'a str) -> Option<Identity<'a>> {
    let bare = component.strip_suffix(".scope").unwrap_or(component);
    for &(prefix, runtime) in PREFIXES {
        // Without an id behind the prefix this is another cgroup of that runtime: libpod-conmon-…
        // holds podman's monitor.
        if let Some(id) = bare.strip_prefix(prefix).filter(|id| is_full_id(id)) {
            return Some(Identity::certain(id, runtime));
        }
    }
    if let Some((before, id)) = component.rsplit_once(':').filter(|(_, id)| is_full_id(id)) {
        // A name in systemd's style that never reached systemd: the kubelet uses the systemd driver
        // and the runtime cgroupfs.
        match before.rsplit(':').next() {
            Some("cri-containerd") => return Some(Identity::certain(id, Runtime::Containerd)),
            Some("crio") => return Some(Identity::certain(id, Runtime::CriO)),
            _ => {}
        }
    }
    if is_full_id(component) {
        let runtime = match parent {
            "docker" => Runtime::Docker,
            "libpod_parent" => Runtime::Podman,
            _ => Runtime::Other,
        };
        // kubelet's cgroupfs driver: kubepods/besteffort/podUID/ID
        let certain = runtime != Runtime::Other || parent.starts_with("pod");
        return Some(Identity { certain, ..Identity::certain(component, runtime) });
    }
    let nameless = of_buildkit(bare, parent)
        .or_else(|| of_fargate(component, parent))
        .or_else(|| of_garden(component, parent));
    let named = || Some((of_system_container(component, parent)?, true));
    let (id, named) = nameless.map(|id| (id, false)).or_else(named)?;
    let name = named.then_some(id);
    Some(Identity { name, nameless: true, ..Identity::certain(id, Runtime::Other) })
}

/// Returns the id of a `BuildKit` step: 25 digits in base 36.
fn of_buildkit<'a>(component: &'a str, parent: &str) -> Option<&'a str> {
    let own = if parent == "buildkit" { component } else { component.strip_prefix("docker-")? };
    let is_digit = |b| matches!(b, b'0'..=b'9' | b'a'..=b'z');
    (own.len() == 25 && own.bytes().all(is_digit)).then_some(own)
}

/// Returns the id of a container of Amazon's Fargate: the task's id and a number.
fn of_fargate<'a>(component: &'a str, task: &str) -> Option<&'a str> {
    let number = component.strip_prefix(task)?.strip_prefix('-')?;
    let numeric = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (task.len() == 32 && is_hex(task) && numeric).then_some(component)
}

/// Returns the id of a container of Garden: five groups of hexadecimal digits, the first of eight,
/// the others of four.
fn of_garden<'a>(component: &'a str, parent: &str) -> Option<&'a str> {
    let mut groups = component.split('-');
    let is_group = |group: &str, len| group.len() == len && is_hex(group);
    let well_formed = groups.next().is_some_and(|first| is_group(first, 8))
        && component.len() == 28
        && groups.all(|group| is_group(group, 4));
    (matches!(parent, "garden" | "good" | "bad") && well_formed).then_some(component)
}

/// Returns the name of a container of LXC (also LXD, Incus, Proxmox) or `systemd-nspawn`, which is
/// its id as well. Their monitors run on the host.
fn of_system_container<'a>(component: &'a str, parent: &'a str) -> Option<&'a str> {
    let name = match (component, parent) {
        (name, "lxc" | "lxc.payload") => name,
        ("payload", unit) => {
            let service = || unit.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
            let scope = || unit.strip_prefix("machine-")?.strip_suffix(".scope");
            service().or_else(scope)?
        }
        (component, _) => component.strip_prefix("lxc.payload.")?,
    };
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "e0d4e6c11fdab1cb9bcf2ed1a0a37c6a0ba7b3ae3dbf6f7d1fdd7a1a6a3c1d2e";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    /// Real paths, each with its source.
    const TABLE: &str = include_str!("paths.tsv");

    fn rows() -> impl Iterator<Item = [String; 5]> {
        let filled = |column: &str| column.replace("{A}", A).replace("{B}", B);
        TABLE.lines().filter(|line| !line.starts_with('#')).map(move |line| {
            let columns: Vec<String> = line.split('\t').map(filled).collect();
            columns.try_into().unwrap_or_else(|_| panic!("a row of five columns: {line}"))
        })
    }

    #[test]
    fn every_path_in_the_table_is_understood() {
        for [path, id, runtime, name, source] in rows() {
            assert!(!source.is_empty(), "{path} has no source");
            let found = container_in(path.as_bytes()).map(|c| {
                let name = if c.nameless { "none" } else { "asked" };
                [c.id, c.runtime.as_str(), name]
            });
            let want = (id != "-").then_some([id.as_str(), runtime.as_str(), name.as_str()]);
            assert_eq!(found, want, "{path} ({source})");
        }
    }

    #[test]
    fn no_path_is_in_the_table_twice() {
        let mut paths: Vec<String> = rows().map(|[path, ..]| path).collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }

    #[test]
    fn cgroups_below_a_container_belong_to_it() {
        for [path, id, ..] in rows().filter(|[_, id, ..]| id != "-") {
            let below = format!("{path}/some.service/deeper");
            assert_eq!(container_in(below.as_bytes()).map(|c| c.id), Some(&*id), "{below}");
        }
    }

    #[test]
    fn outermost_container_comes_last() {
        let path = format!("/docker/{A}/kubelet/kubepods/pod0a1b/{B}");
        assert_eq!(outwards(path.as_bytes()).last().map(|c| c.id), Some(A));
    }

    #[test]
    fn path_that_is_not_utf8_names_no_container() {
        assert_eq!(container_in(b"/docker/\xff\xfe"), None);
        assert_eq!(container_in(b"\xff/lxc.payload.\xff"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(path: Vec<u8>) {
            let _ = container_in(&path);
        }

        #[test]
        fn any_names_are_read_without_panic(
            path in "(/(docker-|crio-|lxc\\.payload\\.|lxc|payload|garden|buildkit\
                |[0-9a-f-]{0,70}|.{0,3})(:|\\.scope)?){0,5}"
        ) {
            let _ = container_in(path.as_bytes());
        }
    }
}
