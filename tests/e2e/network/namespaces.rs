//! Network namespaces and links of the tests' own. All goes when its guard goes; what an earlier
//! run left is cleared first.

use std::process::{Command, Output};

use whalewatch_tests::docker::Docker;

/// A network namespace with a name.
pub(crate) struct Namespace {
    name: &'static str,
}

impl Namespace {
    /// A new one.
    #[track_caller]
    pub(crate) fn new(name: &'static str) -> Self {
        clear(&["netns", "del", name]);
        ip(&["netns", "add", name]);
        Self { name }
    }

    /// That of a process, under a name.
    #[track_caller]
    pub(crate) fn of_process(name: &'static str, pid: u32) -> Self {
        clear(&["netns", "del", name]);
        ip(&["netns", "attach", name, &pid.to_string()]);
        Self { name }
    }

    /// Runs `ip` in it.
    #[track_caller]
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.name][..], arguments].concat());
    }

    /// A command that runs in it.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name, program]).args(arguments);
        command
    }

    /// Runs a command in it, to its end.
    #[track_caller]
    pub(crate) fn exec(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program, arguments).output().expect("`ip` can be started")
    }

    /// Sets one of the namespace's settings.
    #[track_caller]
    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        let script = format!("echo {value} > /proc/sys/{path}");
        let done = self.exec("sh", &["-c", &script]);
        assert!(done.status.success(), "{path}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        clear(&["netns", "del", self.name]);
    }
}

/// A link of two ends.
pub(crate) struct Link {
    /// The name of an end, and the namespace that it is in; the host's for none.
    ends: [(&'static str, Option<&'static str>); 2],
}

impl Link {
    /// From the host into a namespace.
    #[track_caller]
    pub(crate) fn to_host(near: &'static str, far: &'static str, namespace: &Namespace) -> Self {
        Self::make([(near, None), (far, Some(namespace.name))])
    }

    /// Between two namespaces.
    #[track_caller]
    pub(crate) fn between(
        near: &'static str,
        near_in: &Namespace,
        far: &'static str,
        far_in: &Namespace,
    ) -> Self {
        Self::make([(near, Some(near_in.name)), (far, Some(far_in.name))])
    }

    #[track_caller]
    fn make(ends: [(&'static str, Option<&'static str>); 2]) -> Self {
        let [(near, _), (far, _)] = ends;
        clear(&["link", "del", near]);
        ip(&["link", "add", near, "type", "veth", "peer", "name", far]);
        let link = Self { ends };
        for (end, namespace) in ends {
            if let Some(namespace) = namespace {
                ip(&["link", "set", end, "netns", namespace]);
            }
            ip_at(namespace, &["link", "set", end, "up"]);
        }
        link
    }

    fn end(&self, namespace: Option<&Namespace>) -> (&'static str, Option<&'static str>) {
        let name = namespace.map(|namespace| namespace.name);
        *self.ends.iter().find(|(_, of)| *of == name).expect("an end is there")
    }

    /// Gives the end in this namespace an address that can be used at once.
    #[track_caller]
    pub(crate) fn address(&self, namespace: Option<&Namespace>, address: &str) {
        let (end, place) = self.end(namespace);
        let more: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        ip_at(place, &[&["addr", "add", address, "dev", end][..], more].concat());
    }

    /// Has all that goes to this address from this namespace get lost: the other end passes over
    /// what is not for it.
    #[track_caller]
    pub(crate) fn lose(&self, namespace: &Namespace, address: &str) {
        let (end, place) = self.end(Some(namespace));
        let nowhere = "02:00:00:00:00:99";
        ip_at(
            place,
            &["neigh", "replace", address, "lladdr", nowhere, "dev", end, "nud", "permanent"],
        );
    }

    /// Has it arrive again.
    #[track_caller]
    pub(crate) fn find(&self, namespace: &Namespace, address: &str) {
        let (end, place) = self.end(Some(namespace));
        ip_at(place, &["neigh", "del", address, "dev", end]);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let [(near, namespace), _] = self.ends;
        match namespace {
            Some(name) => clear(&["-n", name, "link", "del", near]),
            None => clear(&["link", "del", near]),
        }
    }
}

/// A container of this name, which goes with it.
pub(crate) struct Removed {
    pub(crate) docker: Docker,
    pub(crate) name: String,
}

impl Drop for Removed {
    fn drop(&mut self) {
        // One that is gone already is as good as one that could be removed.
        let _gone = self.docker.run(&["rm", "-f", &self.name]);
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().expect("`ip` can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {}: {said}", arguments.join(" "));
}

/// As [`ip`], in a namespace or on the host.
#[track_caller]
fn ip_at(namespace: Option<&str>, arguments: &[&str]) {
    let place = namespace.map(|name| ["-n", name]);
    ip(&[place.as_ref().map_or(&[][..], |place| &place[..]), arguments].concat());
}

/// As [`ip`], where it may be that there is nothing to be done.
fn clear(arguments: &[&str]) {
    let _nothing_there = Command::new("ip").args(arguments).output();
}
