//! From a cgroup's path to the container that lives in it: one table of how runtimes name their cgroups.

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

/// Prefixes of a path's component that name the runtime; what follows is the id, and then perhaps `.scope`.
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
    .filter_map(|(component, parent)| {
        in_component(std::str::from_utf8(component).unwrap_or(""), parent)
    })
}

fn in_component<'a>(component: &'a str, parent: &[u8]) -> Option<InPath<'a>> {
    let bare = component.strip_suffix(".scope").unwrap_or(component);
    for &(prefix, runtime) in PREFIXES {
        // What is no id behind the prefix is something else of that runtime: libpod-conmon-… holds podman's monitor.
        if let Some(id) = bare.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some(InPath::certain(id, runtime));
        }
    }
    if let Some((_, id)) = component.rsplit_once(":cri-containerd:").filter(|(_, id)| is_id(id)) {
        return Some(InPath::certain(id, Runtime::Containerd));
    }
    if is_id(component) {
        let runtime = match parent {
            b"docker" => Runtime::Docker,
            b"libpod_parent" => Runtime::Podman,
            _ => Runtime::Other,
        };
        // kubelet's cgroupfs driver: kubepods/besteffort/podUID/ID
        let certain = runtime != Runtime::Other || parent.starts_with(b"pod");
        return Some(InPath { certain, ..InPath::certain(component, runtime) });
    }
    if parent == b"buildkit" && is_buildkit_id(component) {
        return Some(InPath { nameless: true, ..InPath::certain(component, Runtime::Other) });
    }
    None
}

/// 64 hexadecimal digits in lower case: what Docker, containerd's CRI, CRI-O and podman all make.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `BuildKit`'s own: 25 digits to the base of 36.
fn is_buildkit_id(text: &str) -> bool {
    text.len() == 25 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "e0d4e6c11fdab1cb9bcf2ed1a0a37c6a0ba7b3ae3dbf6f7d1fdd7a1a6a3c1d2e";
    const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// `A` and `B` in the path stand for the two ids.
    #[track_caller]
    fn check(path: &str, want: Option<(&str, Runtime, bool)>) {
        let path = path.replace("{A}", A).replace("{B}", B);
        let found = container_in(path.as_bytes());
        assert_eq!(found.map(|c| (c.id, c.runtime, c.nameless)), want, "{path}");
    }

    #[test]
    fn docker() {
        let found = Some((A, Runtime::Docker, false));
        check("/docker/{A}", found); // cgroupfs driver; seen with Docker 20.10 on Debian 12
        check("/system.slice/docker-{A}.scope", found); // systemd driver, the default on cgroup v2
        // Rootless Docker: docs.docker.com/engine/security/rootless
        check("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope", found);
        // A cgroup namespace seen from outside its root: cgroup_namespaces(7)
        check("/../docker/{A}", found);
    }

    #[test]
    fn what_is_below_a_containers_cgroup_belongs_to_it() {
        let found = Some((A, Runtime::Docker, false));
        check("/docker/{A}/init.scope", found); // systemd as a container's init
        check("/docker/{A}/system.slice/cron.service", found);
        check("/system.slice/docker-{A}.scope/container", found); // crun's sub-cgroup
    }

    #[test]
    fn the_innermost_container_wins() {
        let found = Some((B, Runtime::Docker, false));
        check("/docker/{A}/docker/{B}", found); // Docker in Docker
        check("/docker/{A}/docker/{B}/init.scope", found);
        let kind = Some((B, Runtime::Containerd, false)); // kind: a kubelet in a Docker container
        check("/docker/{A}/kubelet.slice/kubelet-kubepods.slice/cri-containerd-{B}.scope", kind);
    }

    #[test]
    fn kubernetes() {
        // kubelet's systemd driver: kubernetes/kubernetes pkg/kubelet/cm/cgroup_manager_linux.go
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2d3c_7.slice";
        let containerd = Some((A, Runtime::Containerd, false));
        check(&format!("/{pod}/cri-containerd-{{A}}.scope"), containerd);
        check(&format!("/{pod}/crio-{{A}}.scope"), Some((A, Runtime::CriO, false)));
        check(&format!("/{pod}/docker-{{A}}.scope"), Some((A, Runtime::Docker, false)));
        // kubelet's cgroupfs driver does not say which runtime it is.
        check("/kubepods/besteffort/pod0a1b-2c/{A}", Some((A, Runtime::Other, false)));
        check("/kubepods/besteffort/pod0a1b-2c/crio-{A}", Some((A, Runtime::CriO, false)));
        // containerd with cgroupfs under a kubelet with systemd: containerd issue 4857
        check(
            "/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:{A}",
            containerd,
        );
        check("/kubepods/besteffort/pod0a1b-2c", None); // the pod itself
    }

    #[test]
    fn others() {
        let podman = Some((A, Runtime::Podman, false));
        check("/machine.slice/libpod-{A}.scope", podman); // podman, systemd
        check("/machine.slice/libpod-{A}.scope/container", podman); // with crun
        check("/libpod_parent/libpod-{A}", podman); // podman, cgroupfs
        check("/user.slice/u.service/libpod-payload-{A}", podman); // --cgroups=split
        check("/default/{A}", Some((A, Runtime::Other, false))); // nerdctl, cgroupfs
        check("/system.slice/nerdctl-{A}.scope", Some((A, Runtime::Containerd, false)));
        check("/ecs/0f9e8d7c/{A}", Some((A, Runtime::Other, false))); // Amazon ECS: --cgroup-parent
        let buildkit = Some(("u5i7t3a4vh8v2m9b3jz0q1w2e", Runtime::Other, true));
        check("/docker/buildkit/u5i7t3a4vh8v2m9b3jz0q1w2e", buildkit); // dockerd's BuildKit
    }

    #[test]
    fn the_hosts_cgroups_are_no_containers() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/system.slice/docker.socket",
            "/docker",
            "/user.slice/user-0.slice/session-1.scope",
            "/machine.slice/libpod-conmon-{A}.scope", // podman's monitor runs on the host
            "/machine.slice/crio-conmon-{A}.scope",
            "/docker/e0d4e6c11fda", // a short id is none
            "/docker/{A}x",
            "/process_api/cf1ddb5686520a6dd28c3556d5a96c53",
        ] {
            check(path, None);
        }
        assert_eq!(container_in(b"/docker/\xff\xfe"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panicking(path: Vec<u8>) {
            let _ = container_in(&path);
        }
    }
}
