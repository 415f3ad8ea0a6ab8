//! Marks: a container runs one program after the other, each with the next number as its argument,
//! so that it can be told whether every event came through, once and in order.

use std::process::{Child, Command};

use crate::docker::Docker;
use crate::output::Event;

/// What the program that makes the marks is called with.
const MARK: [&str; 2] = ["/bin/busybox", "true"];

/// A container that makes marks, in the background.
#[derive(Debug)]
pub struct Marks {
    child: Child,
}

impl Marks {
    /// Starts a container of that name, which makes the marks from `first` to `last` and ends.
    ///
    /// # Panics
    /// When docker cannot be started.
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
    /// When the container fails.
    #[track_caller]
    pub fn finish(mut self) {
        let status = self.child.wait().expect("our own child");
        assert!(status.success(), "the container ended with {status}");
    }
}

/// The mark that an event is, if it is one of the container of that name.
pub fn mark(event: &Event, container: &str) -> Option<u32> {
    let args = event.args();
    let ours = event.kind() == "process.exec"
        && event.container_name() == Some(container)
        && args.get(..2) == Some(&MARK);
    ours.then(|| args.get(2)?.parse().ok()).flatten()
}

/// All marks of a container, in the order that they came.
pub fn marks<'a>(events: impl IntoIterator<Item = &'a Event>, container: &str) -> Vec<u32> {
    events.into_iter().filter_map(|event| mark(event, container)).collect()
}
