//! What comes and goes while Whalewatch starts: trackers watch already, and nobody has looked yet.

use whalewatch_core::{Handler as _, Namespaces, Process, Runtime};

use crate::cgroups::{Home, InPath};
use crate::manager::{ContainerManager, Running};
use crate::options::ContainerOptions;
use crate::proc::{Proc, Seen, Told};
use crate::tests::rig::{
    Rig, Says, act, event, id, made_host, options, process, removed, removed_of,
};

const INNER: Namespaces = Namespaces { user: 1, pid: 102, mnt: 103, net: 104 };

/// A process as it was read: in this container.
fn running(process: &Process, container: u32) -> Running {
    let seen = Seen { key: process.key(), parent: 1, namespaces: INNER };
    let home: Home = InPath::certain(&id(container), Runtime::Docker).into();
    Running { seen, home: Told::Container(home) }
}

#[test]
fn the_folders_of_runtimes_state_are_watched_before_trackers_are_open() {
    assert!(!Proc::default().is_watched());
    let ahead = ContainerManager::ahead(&options());
    assert!(ahead.get::<Proc>().is_some_and(Proc::is_watched));
}

#[test]
fn whose_cgroup_it_was_is_told_when_it_goes() {
    let mut rig = Rig::new();
    rig.track(vec![event(process(60, 5, 7), Says::Executed)]);
    assert_eq!(rig.told(), [""; 0], "nobody has told of the cgroup yet: it may still come");
    rig.observe(vec![removed_of(7, 7)]);
    rig.hear_name(7, "web");
    assert_eq!(rig.told(), ["resolved web"]);
    rig.handle(0, vec![act(process(61, 6, 7))]);
    assert_eq!(rig.told(), ["resolved web"], "what comes late finds it too");
}

#[test]
fn what_has_come_and_gone_meanwhile_is_told_as_found_and_gone() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    rig.observe(vec![removed_of(7, 7)]);
    rig.hear_name(7, "web");
    assert_eq!(
        rig.told(),
        ["found: resolved web", "found: resolved web", "gone: resolved web", "gone: resolved web"]
    );
    rig.observe(vec![removed_of(7, 7), removed(8)]);
    assert_eq!(rig.told(), [""; 0], "once");
}

#[test]
fn a_cgroup_that_is_removed_without_its_path_stays_unknown() {
    let mut rig = Rig::new();
    let inner = Process { namespaces: INNER, ..process(60, 5, 7) };
    rig.track(vec![event(inner, Says::Executed)]);
    rig.observe(vec![removed(7)]);
    rig.advance(100);
    assert_eq!(rig.told(), ["unknown"]);
}

#[test]
fn a_process_that_was_read_before_its_container_ended_does_not_bring_that_back() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    rig.observe(vec![removed_of(7, 7)]);
    rig.hear_name(7, "web");
    rig.take();
    rig.hear_running(vec![running(&process(60, 5, 7), 7)]);
    assert_eq!(rig.told(), [""; 0]);
    rig.handle(0, vec![act(Process { cgroup_id: 0, namespaces: INNER, ..process(60, 5, 0) })]);
    assert_eq!(rig.told(), ["resolved web"], "but where it was is known");
    rig.advance(60_000);
    assert_eq!(rig.manager.sizes().0, 0, "and it is forgotten in time");
}

#[test]
fn where_cgroups_answer_mounts_say_nothing_of_a_container_that_has_one() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), removed_of(7, 7)]);
    rig.hear_name(7, "web");
    // Its mount namespace is learnt late, and its number is another's by now.
    rig.hear_running(vec![running(&process(60, 5, 7), 7)]);
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(61, 6, 99) })]);
    rig.advance(100);
    assert_eq!(rig.told(), ["unknown"], "its own cgroup is told by nobody");
    // Where they do not answer there is nothing better.
    let mut rig = Rig::silent();
    rig.hear_name(7, "web");
    rig.hear_running(vec![running(&process(60, 5, 0), 7)]);
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(61, 6, 0) })]);
    assert_eq!(rig.told(), ["resolved web"]);
}
