//! Containers whose id may be any word: their runtimes keep a folder of state for each, under its id, from before its cgroup
//! is made until it is gone.

use std::path::{Path, PathBuf};

use whalewatch_core::Runtime;

use super::path::{Home, InPath};

/// Where runtimes keep their state.
#[derive(Clone, Debug)]
pub(crate) struct StateFolders {
    runc: PathBuf,
    crun: PathBuf,
    /// With a folder for each namespace, and in it one for each container with a task: containerd's own, and that of the runc
    /// below it, which is there also where containerd keeps its own elsewhere.
    containerd: [PathBuf; 2],
}

/// containerd's namespace that is Docker's own.
const DOCKERS: &str = "moby";

impl StateFolders {
    /// Those of a root file system.
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            runc: root.join("run/runc"),
            crun: root.join("run/crun"),
            containerd: ["io.containerd.runtime.v2.task", "runc"]
                .map(|folder| root.join("run/containerd").join(folder)),
        }
    }

    /// The innermost container of a cgroup's path that has its state there. The names of cgroups come from anybody, so what
    /// would lead out of the folder is no id.
    pub(crate) fn claim(&self, path: &[u8]) -> Option<Home> {
        let path = std::str::from_utf8(path).ok()?;
        let mut components = path.rsplit('/').filter(|c| is_name(c)).peekable();
        while let Some(component) = components.next() {
            let parent = components.peek().copied();
            if let Some(home) = self.claim_of(component, parent) {
                return Some(home);
            }
        }
        None
    }

    fn claim_of(&self, component: &str, parent: Option<&str>) -> Option<Home> {
        let scope = |prefix: &str| component.strip_suffix(".scope")?.strip_prefix(prefix);
        let has = |folder: &Path, id: &str| is_name(id) && folder.join(id).is_dir();
        // With its namespace, which says more than the word alone.
        let known = |folder: &PathBuf, namespace| has(&folder.join(namespace), component);
        if let Some(namespace) = parent.filter(|&namespace| namespace != DOCKERS)
            && self.containerd.iter().any(|folder| known(folder, namespace))
        {
            return Some(claim(namespace, component, Runtime::Containerd));
        }
        for (word, folder, runtime) in
            [("runc", &self.runc, Runtime::Runc), ("crun", &self.crun, Runtime::Crun)]
        {
            // The systemd driver says whose it is, the cgroupfs driver does not.
            let id = scope(&format!("{word}-")).unwrap_or(component);
            if has(folder, id) {
                return Some(claim(word, id, runtime));
            }
        }
        None
    }
}

/// With what the id is unique in before it, so that it is on this host: `runc/web`, `default/web`.
fn claim(scope: &str, name: &str, runtime: Runtime) -> Home {
    let id = format!("{scope}/{name}");
    InPath { name: Some(name), ..InPath::certain(&id, runtime) }.into()
}

fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_container_is_claimed_while_its_state_is_there() {
        let root = tempfile::tempdir().unwrap();
        let folders = StateFolders::below(root.path());
        let task = "run/containerd/io.containerd.runtime.v2.task";
        let made = [
            "run/runc/web".into(),
            "run/crun/db".into(),
            format!("{task}/default/shell"),
            "run/containerd/runc/shop/web".to_owned(),
            format!("{task}/prod/shell"),
            format!("{task}/moby/mine"),
        ];
        for folder in &made {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for (path, id) in [
            ("/web", Some("runc/web")), // seen with runc 1.1, cgroupfs driver
            ("/web/init.scope", Some("runc/web")),
            ("/user.slice/runc-web.scope", Some("runc/web")), // systemd driver: runc's own default
            ("/db", Some("crun/db")),
            ("/system.slice/crun-db.scope/container", Some("crun/db")),
            ("/default/shell", Some("default/shell")), // ctr run
            ("/shop/web", Some("shop/web")),           // containerd with its state elsewhere
            ("/prod/shell", Some("prod/shell")),
            ("/other/shell", None),
            ("/moby/mine", None), // Docker tells of its own
            ("/shell", None),
            ("/", None),
            ("", None),
            ("/../runc", None),
            ("/system.slice/ssh.service", None),
        ] {
            let claim = folders.claim(path.as_bytes());
            assert_eq!(claim.as_ref().map(|c| &*c.id), id, "{path}");
            if let Some(claim) = claim {
                assert_eq!(claim.name.as_deref(), claim.id.split_once('/').map(|(_, name)| name));
            }
        }
        assert_eq!(folders.claim(b"/\xff"), None);
        fs::remove_dir(root.path().join("run/runc/web")).unwrap();
        assert_eq!(folders.claim(b"/web"), None);
    }
}
