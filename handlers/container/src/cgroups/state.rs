//! Containers whose id may be any word, so that no path shows it. Their runtime keeps a folder with
//! the state of each, named by its id, from before the cgroup is made until after it is removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use whalewatch_core::Runtime;

use super::arrivals::{Arrivals, Wanted};
use super::path::{Identity, OwnedIdentity};
use crate::ids::DOCKER_NAMESPACE;

/// The folders in which runtimes keep their containers' state.
#[derive(Clone, Debug)]
pub(crate) struct StateFolders {
    root: PathBuf,
    runc: PathBuf,
    crun: PathBuf,
    /// A folder for each namespace, and in it one for each container with a task: containerd's own,
    /// and that of its runc, which is here even if containerd keeps its own elsewhere.
    containerd: [PathBuf; 2],
    /// Set by [`StateFolders::watch`] or the first question.
    arrivals: Arc<Mutex<Option<Arrivals>>>,
}

impl StateFolders {
    /// The folders below a root directory.
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            root: root.join("run"),
            arrivals: Arc::default(),
            runc: root.join("run/runc"),
            crun: root.join("run/crun"),
            containerd: ["io.containerd.runtime.v2.task", "runc"]
                .map(|folder| root.join("run/containerd").join(folder)),
        }
    }

    /// Returns the innermost container in a cgroup's path that has a state folder. If the cgroup is
    /// `gone`, a folder that was there a moment ago counts as well: runtimes remove the cgroup
    /// first. Anybody may name a cgroup, so a component that would lead out of the folder is not an
    /// id.
    pub(crate) fn claim(&self, path: &[u8], gone: impl Fn() -> bool) -> Option<OwnedIdentity> {
        let there = self.claim_with(path, &mut |folder| folder.is_dir());
        self.with_arrivals(|arrivals| {
            let was_there = || self.claim_with(path, &mut |folder| arrivals.has(folder) && gone());
            there.or_else(was_there)
        })
    }

    /// Starts to watch for new folders, unless that is done. Folders that exist count as new.
    pub(crate) fn watch(&self) {
        self.with_arrivals(|_| ());
    }

    #[cfg(test)]
    pub(crate) fn is_watched(&self) -> bool {
        self.arrivals.lock().unwrap().is_some()
    }

    fn with_arrivals<T>(&self, then: impl FnOnce(&mut Arrivals) -> T) -> T {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        then(arrivals.get_or_insert_with(|| {
            let new = Arrivals::new(self.wanted());
            new.keep_reading(&self.arrivals);
            new
        }))
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            root: self.root.clone(),
            flat: vec![self.runc.clone(), self.crun.clone()],
            deep: self.containerd.to_vec(),
            but: DOCKER_NAMESPACE,
        }
    }

    fn claim_with(
        &self,
        path: &[u8],
        is_there: &mut dyn FnMut(&Path) -> bool,
    ) -> Option<OwnedIdentity> {
        let mut path = std::str::from_utf8(path).ok()?;
        while let Some((above, component)) = path.rsplit_once('/') {
            if is_name(component)
                && let Some(container) = self.claim_of(path, above, component, is_there)
            {
                return Some(container);
            }
            path = above;
        }
        None
    }

    /// Returns the container whose own cgroup has this path.
    fn claim_of(
        &self,
        path: &str,
        above: &str,
        component: &str,
        is_there: &mut dyn FnMut(&Path) -> bool,
    ) -> Option<OwnedIdentity> {
        let namespace =
            above.rsplit('/').next().filter(|name| is_name(name) && *name != DOCKER_NAMESPACE);
        if let Some(namespace) = namespace {
            let mut known = |folder: &PathBuf| is_there(&folder.join(namespace).join(component));
            if self.containerd.iter().any(&mut known) {
                return Some(claim(namespace, component, Runtime::Containerd));
            }
        }
        let scope = |prefix: &str| component.strip_suffix(".scope")?.strip_prefix(prefix);
        // The systemd driver adds the runtime's name, the cgroupfs driver does not.
        let id = scope("runc-").unwrap_or(component);
        if is_name(id) && is_there(&self.runc.join(id)) {
            let state = self.runc.join(id).join("state.json");
            return is_at(&state, |state| runc_is_at(state, path))
                .then(|| claim("runc", id, Runtime::Runc));
        }
        let id = scope("crun-").unwrap_or(component);
        if is_name(id) && is_there(&self.crun.join(id)) {
            let state = self.crun.join(id).join("status");
            return is_at(&state, |state| state["cgroup-path"] == path)
                .then(|| claim("crun", id, Runtime::Crun));
        }
        None
    }
}

/// Whether a state file names this cgroup: another cgroup may have the same name. A file that is
/// not there cannot deny it: either the cgroup is being made right now, or all is gone.
fn is_at(state: &Path, names_it: impl FnOnce(&Value) -> bool) -> bool {
    let Ok(text) = fs::read(state) else { return true };
    serde_json::from_slice(&text).map_or(true, |state| names_it(&state))
}

/// Whether runc's state has this path, below the mount point of version 2's hierarchy or of one of
/// version 1's.
fn runc_is_at(state: &Value, path: &str) -> bool {
    let all = &state["cgroup_paths"];
    let unified = all[""].as_str();
    let others = all.as_object().into_iter().flat_map(|paths| paths.values());
    let others = others.filter_map(Value::as_str).filter(|_| unified.is_none());
    unified.into_iter().chain(others).any(|full| {
        // Only a hierarchy's root lacks this file.
        let is_root = |mount: &str| !Path::new(mount).join("cgroup.events").exists();
        full.strip_suffix(path).is_some_and(is_root)
    })
}

/// Identifies a container by its id behind the scope in which that is unique: `runc/web`,
/// `default/web`.
fn claim(scope: &str, name: &str, runtime: Runtime) -> OwnedIdentity {
    let id = format!("{scope}/{name}");
    Identity { name: Some(name), ..Identity::certain(&id, runtime) }.into()
}

fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_is_claimed_while_its_state_exists() {
        let root = tempfile::tempdir().unwrap();
        let folders = StateFolders::below(root.path());
        let here = || false;
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
            ("/moby/mine", None), // Docker reports its own
            ("/shell", None),
            ("/", None),
            ("", None),
            ("/../runc", None),
            ("/system.slice/ssh.service", None),
        ] {
            let claim = folders.claim(path.as_bytes(), here);
            assert_eq!(claim.as_ref().map(|c| &*c.id), id, "{path}");
            if let Some(claim) = claim {
                assert_eq!(claim.name.as_deref(), claim.id.split_once('/').map(|(_, name)| name));
            }
        }
        let mount = root.path().join("cgroup");
        fs::create_dir_all(mount.join("system.slice")).unwrap();
        fs::write(mount.join("system.slice/cgroup.events"), "").unwrap();
        let mount = mount.display();
        let state = |cgroup: &str| format!(r#"{{"cgroup_paths":{{"":"{mount}{cgroup}"}}}}"#);
        let file = root.path().join("run/runc/web/state.json");
        fs::write(&file, state("/system.slice/web")).unwrap();
        assert_eq!(folders.claim(b"/web", here), None, "it is elsewhere, with the same ending");
        assert!(folders.claim(b"/system.slice/web", here).is_some());
        fs::write(&file, state("/web")).unwrap();
        fs::write(root.path().join("run/crun/db/status"), r#"{"cgroup-path":"/db"}"#).unwrap();
        for (path, id) in [("/web/x", Some("runc/web")), ("/db", Some("crun/db"))] {
            assert_eq!(folders.claim(path.as_bytes(), here).map(|claim| claim.id).as_deref(), id);
        }
        for path in ["/mine/web", "/mine/db"] {
            assert_eq!(folders.claim(path.as_bytes(), here), None, "same name elsewhere: {path}");
        }
        fs::write(&file, "half a file {").unwrap();
        assert!(folders.claim(b"/web", here).is_some());
        assert_eq!(folders.claim(b"/\xff", here), None);
        fs::remove_dir_all(root.path().join("run/runc/web")).unwrap();
        assert_eq!(folders.claim(b"/web", here), None);
    }

    #[test]
    fn brief_container_is_claimed_once_its_cgroup_is_gone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/runc")).unwrap();
        let folders = StateFolders::below(root.path());
        assert_eq!(folders.claim(b"/web", || true), None);
        fs::create_dir(root.path().join("run/runc/web")).unwrap();
        fs::remove_dir(root.path().join("run/runc/web")).unwrap();
        assert_eq!(folders.claim(b"/web", || false), None, "its cgroup is removed first");
        assert_eq!(
            folders.claim(b"/web", || true).map(|claim| claim.id).as_deref(),
            Some("runc/web")
        );
        assert_eq!(folders.claim(b"/db", || true), None);
    }

    #[test]
    fn watched_folder_is_known_though_it_is_gone_at_the_question() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join("run/runc").join(name);
        fs::create_dir_all(folder("old")).unwrap();
        let folders = StateFolders::below(root.path());
        folders.watch();
        fs::create_dir(folder("new")).unwrap();
        for name in ["old", "new"] {
            fs::remove_dir(folder(name)).unwrap();
            let claim = folders.claim(format!("/{name}").as_bytes(), || true);
            assert_eq!(claim.map(|claim| claim.id).as_deref(), Some(&*format!("runc/{name}")));
        }
    }
}
