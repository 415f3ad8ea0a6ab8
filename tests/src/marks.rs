//! Marks: a container runs one program after another, each with the next number as its argument, so
//! that a test can check that every event came through, once and in order.

use std::process::{Child, Command};

use crate::docker::Docker;
use crate::output::Event;

/// The command that makes a mark, without its number.
const MARK: [&str; 2] = ["/bin/busybox", "true"];

/// A container that makes marks, in the background.
#[derive(Debug)]
pub struct Marks {
    child: Child,
}

impl Marks {
    /// Starts a container of that name, which makes the marks from `first` to `last` and exits.
    ///
    /// # Panics
    /// If docker cannot be started.
    #[track_caller]
    pub fn start(docker: &Docker, image: &str, name: &str, first: u32, last: u32) -> Self {
        let [program, applet] = MARK;
        let script = format!(
            "i={first}; while [ $i -le {last} ]; do {program} {applet} $i; i=$((i+1)); done"
        );
        let mut command: Command = docker.command();
        command.args(["run", "--rm", "--name", name, image, "/bin/busybox", "sh", "-c", &script]);
        Self { child: command.spawn().expect("docker can be started") }
    }

    /// Waits until all are made.
    ///
    /// # Panics
    /// If the container fails.
    #[track_caller]
    pub fn finish(mut self) {
        let status = self.child.wait().expect("our own child");
        assert!(status.success(), "the container ended with {status}");
    }
}

/// Returns the number of an event that is a mark of the container of that name.
pub fn mark(event: &Event, container: &str) -> Option<u32> {
    let args = event.args();
    let ours = event.kind() == "process.exec"
        && event.container_name() == Some(container)
        && args.get(..2) == Some(&MARK);
    ours.then(|| args.get(2)?.parse().ok()).flatten()
}

/// Returns all marks of a container, in the order in which they came.
pub fn marks<'a>(events: impl IntoIterator<Item = &'a Event>, container: &str) -> Vec<u32> {
    events.into_iter().filter_map(|event| mark(event, container)).collect()
}
