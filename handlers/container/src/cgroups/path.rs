//! From a cgroup's path to the container that lives in it: one table of how runtimes name their
//! cgroups.

use serde::{Deserialize, Serialize};
use whalewatch_core::Runtime;

/// A container as its cgroup's path tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InPath<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Its name, where that is known with it.
    pub(crate) name: Option<&'a str>,
    /// Its runtime; [`Runtime::Other`] where the path does not say.
    pub(crate) runtime: Runtime,
    /// Whether nobody but a runtime makes such a path. A cgroup can be called anything.
    pub(crate) certain: bool,
    /// Whether no runtime can tell its name.
    pub(crate) nameless: bool,
}

impl<'a> InPath<'a> {
    /// One that no doubt is one.
    pub(crate) fn certain(id: &'a str, runtime: Runtime) -> Self {
        Self { id, name: None, runtime, certain: true, nameless: false }
    }
}

/// The same, owned.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Home {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) runtime: Runtime,
    pub(crate) certain: bool,
    pub(crate) nameless: bool,
}

impl Home {
    pub(crate) fn in_path(&self) -> InPath<'_> {
        let &Self { ref id, ref name, runtime, certain, nameless } = self;
        InPath { id, name: name.as_deref(), runtime, certain, nameless }
    }
}

impl From<InPath<'_>> for Home {
    fn from(found: InPath<'_>) -> Self {
        let InPath { id, name, runtime, certain, nameless } = found;
        Self { id: id.to_owned(), name: name.map(str::to_owned), runtime, certain, nameless }
    }
}

/// Prefixes of a path's component that name the runtime; what follows is the id, and then perhaps
/// `.scope`.
const PREFIXES: &[(&str, Runtime)] = &[
    ("docker-", Runtime::Docker),
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
];

/// The innermost container in whose cgroup, or below it, `path` is; `None` for the host's cgroups.
pub(crate) fn container_in(path: &[u8]) -> Option<InPath<'_>> {
    outwards(path).next()
}

/// All of them, the innermost first: more than one where containers run in containers.
pub(crate) fn outwards(path: &[u8]) -> impl Iterator<Item = InPath<'_>> {
    let mut components = path.rsplit(|&b| b == b'/').filter(|c| !c.is_empty()).peekable();
    std::iter::from_fn(move || {
        let component = components.next()?;
        Some((component, components.peek().copied().unwrap_or_default()))
    })
    .filter_map(|(component, parent)| in_component(text(component), text(parent)))
}

/// What is no text is nobody's.
fn text(component: &[u8]) -> &str {
    std::str::from_utf8(component).unwrap_or_default()
}

fn in_component<'a>(component: &'a str, parent: &'a str) -> Option<InPath<'a>> {
    let bare = component.strip_suffix(".scope").unwrap_or(component);
    for &(prefix, runtime) in PREFIXES {
        // What is no id behind the prefix is something else of that runtime: libpod-conmon-… holds
        // podman's monitor.
        if let Some(id) = bare.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some(InPath::certain(id, runtime));
        }
    }
    if let Some((before, id)) = component.rsplit_once(':').filter(|(_, id)| is_id(id)) {
        // A name for systemd that nobody gave to systemd.
        match before.rsplit(':').next() {
            Some("cri-containerd") => return Some(InPath::certain(id, Runtime::Containerd)),
            Some("crio") => return Some(InPath::certain(id, Runtime::CriO)),
            _ => {}
        }
    }
    if is_id(component) {
        let runtime = match parent {
            "docker" => Runtime::Docker,
            "libpod_parent" => Runtime::Podman,
            _ => Runtime::Other,
        };
        // kubelet's cgroupfs driver: kubepods/besteffort/podUID/ID
        let certain = runtime != Runtime::Other || parent.starts_with("pod");
        return Some(InPath { certain, ..InPath::certain(component, runtime) });
    }
    let nameless = of_buildkit(bare, parent)
        .or_else(|| of_fargate(component, parent))
        .or_else(|| of_garden(component, parent));
    let named = || Some((of_system_container(component, parent)?, true));
    let (id, named) = nameless.map(|id| (id, false)).or_else(named)?;
    let name = named.then_some(id);
    Some(InPath { name, nameless: true, ..InPath::certain(id, Runtime::Other) })
}

/// 64 hexadecimal digits in lower case: what Docker, containerd's CRI, CRI-O and podman all make.
fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `BuildKit`'s own: 25 digits to the base of 36.
fn of_buildkit<'a>(component: &'a str, parent: &str) -> Option<&'a str> {
    let own = if parent == "buildkit" { component } else { component.strip_prefix("docker-")? };
    let is_id = |b| matches!(b, b'0'..=b'9' | b'a'..=b'z');
    (own.len() == 25 && own.bytes().all(is_id)).then_some(own)
}

/// Amazon's Fargate: the task's id, and a number.
fn of_fargate<'a>(component: &'a str, task: &str) -> Option<&'a str> {
    let number = component.strip_prefix(task)?.strip_prefix('-')?;
    let numeric = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (task.len() == 32 && is_hex(task) && numeric).then_some(component)
}

/// Garden's: five groups of hexadecimal digits, of which all but the first have four.
fn of_garden<'a>(component: &'a str, parent: &str) -> Option<&'a str> {
    let mut groups = component.split('-');
    let is_group = |group: &str, len| group.len() == len && is_hex(group);
    let well_formed = groups.next().is_some_and(|first| is_group(first, 8))
        && component.len() == 28
        && groups.all(|group| is_group(group, 4));
    (matches!(parent, "garden" | "good" | "bad") && well_formed).then_some(component)
}

/// LXC's (also LXD's, Incus's, Proxmox's) and `systemd-nspawn`'s, whose names are their ids. Their
/// monitors run on the host.
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
    /// Paths as they are, each with where it is from.
    const TABLE: &str = include_str!("paths.tsv");

    fn rows() -> impl Iterator<Item = [String; 5]> {
        let filled = |column: &str| column.replace("{A}", A).replace("{B}", B);
        TABLE.lines().filter(|line| !line.starts_with('#')).map(move |line| {
            let columns: Vec<String> = line.split('\t').map(filled).collect();
            columns.try_into().unwrap_or_else(|_| panic!("a row of five columns: {line}"))
        })
    }

    #[test]
    fn every_path_of_the_table_is_understood() {
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
    fn no_path_stands_in_the_table_twice() {
        let mut paths: Vec<String> = rows().map(|[path, ..]| path).collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }

    #[test]
    fn what_is_below_a_containers_cgroup_belongs_to_it() {
        for [path, id, ..] in rows().filter(|[_, id, ..]| id != "-") {
            let below = format!("{path}/some.service/deeper");
            assert_eq!(container_in(below.as_bytes()).map(|c| c.id), Some(&*id), "{below}");
        }
    }

    #[test]
    fn the_outermost_one_is_told_apart() {
        let path = format!("/docker/{A}/kubelet/kubepods/pod0a1b/{B}");
        assert_eq!(outwards(path.as_bytes()).last().map(|c| c.id), Some(A));
    }

    #[test]
    fn what_is_no_text_is_nobody_s() {
        assert_eq!(container_in(b"/docker/\xff\xfe"), None);
        assert_eq!(container_in(b"\xff/lxc.payload.\xff"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panicking(path: Vec<u8>) {
            let _ = container_in(&path);
        }

        #[test]
        fn any_names_are_read_without_panicking(
            path in "(/(docker-|crio-|lxc\\.payload\\.|lxc|payload|garden|buildkit|[0-9a-f-]{0,70}|.{0,3})(:|\\.scope)?){0,5}"
        ) {
            let _ = container_in(path.as_bytes());
        }
    }
}
