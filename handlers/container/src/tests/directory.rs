//! What the manager publishes in the directory.

use std::sync::mpsc::{Receiver, channel};

use whalewatch_core::Resident;

use crate::ContainerOptions;
use crate::protocol::Report;
use crate::tests::rig::{Rig, id, made, made_host, options, removed};

/// Returns a cgroup's changes in short: its id, and the container's name or a word.
fn listen(rig: &Rig) -> Receiver<(u64, String)> {
    let (sender, changes) = channel();
    rig.directory.subscribe(move |cgroup, resident| {
        let word = match resident {
            None => "gone".to_owned(),
            Some(Resident::Host) => "host".to_owned(),
            Some(Resident::Container(container)) => {
                container.name.as_ref().map_or("unnamed".to_owned(), ToString::to_string)
            }
        };
        sender.send((cgroup, word)).expect("the test listens");
    });
    changes
}

#[track_caller]
fn assert_changes(from: &Receiver<(u64, String)>, expected: &[(u64, &str)]) {
    let changes: Vec<_> = from.try_iter().collect();
    let changes: Vec<_> = changes.iter().map(|(cgroup, word)| (*cgroup, word.as_str())).collect();
    assert_eq!(changes, expected);
}

#[test]
fn directory_follows_names_until_the_cgroup_is_removed() {
    let mut rig = Rig::new();
    let directory = listen(&rig);
    rig.observe(vec![made(7, 1), made_host(9)]);
    assert_changes(&directory, &[(7, "unnamed"), (9, "host")]);
    rig.report_name(1, "web");
    assert_changes(&directory, &[(7, "web")]);
    rig.report(Report::Renamed { id: id(1), name: "front".into() });
    assert_changes(&directory, &[(7, "front")]);
    rig.observe(vec![removed(7), removed(9)]);
    assert_changes(&directory, &[(7, "gone"), (9, "gone")]);
}

#[test]
fn directory_has_no_more_cgroups_than_are_remembered() {
    let mut rig = Rig::with(ContainerOptions { max_cgroups: 64, ..options() }, true);
    let directory = listen(&rig);
    rig.observe((1..=100).map(made_host).collect());
    assert_eq!(directory.try_iter().count(), 64);
}
