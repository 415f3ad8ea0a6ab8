//! Containers that come and go while Whalewatch starts: trackers are live, the scan is not done.

use whalewatch_core::{Handler as _, Process, Runtime};

use crate::cgroups::{Identity, OwnedIdentity};
use crate::manager::{ContainerManager, RunningProcess};
use crate::options::ContainerOptions;
use crate::proc::{Membership, Proc, ProcEntry};
use crate::tests::rig::{
    Effect, INNER, Rig, act, event, id, made_host, options, process, removed, removed_of,
};

/// A process as it is read from `/proc`, in this container.
fn running(process: &Process, container: u32) -> RunningProcess {
    let entry = ProcEntry { key: process.key(), parent: 1, namespaces: INNER };
    let identity: OwnedIdentity = Identity::certain(&id(container), Runtime::Docker).into();
    RunningProcess { entry, membership: Membership::Container(identity) }
}

#[test]
fn state_folders_are_watched_before_trackers_open() {
    assert!(!Proc::default().is_watched());
    let early_work = ContainerManager::DECLARATION.start_early_work(&options());
    assert!(early_work.get::<Proc>().is_some_and(Proc::is_watched));
}

#[test]
fn removed_cgroup_names_its_container() {
    let mut rig = Rig::new();
    rig.track(vec![event(process(60, 5, 7), Effect::Executed)]);
    assert_eq!(rig.summary(), [""; 0], "the path of its cgroup may still come");
    rig.observe(vec![removed_of(7, 7)]);
    rig.report_name(7, "web");
    assert_eq!(rig.summary(), ["resolved web"]);
    rig.handle(0, vec![act(process(61, 6, 7))]);
    assert_eq!(rig.summary(), ["resolved web"], "so are late events");
}

#[test]
fn container_that_came_and_went_is_found_and_gone() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    rig.observe(vec![removed_of(7, 7)]);
    rig.report_name(7, "web");
    assert_eq!(
        rig.summary(),
        ["found: resolved web", "found: resolved web", "gone: resolved web", "gone: resolved web"]
    );
    rig.observe(vec![removed_of(7, 7), removed(8)]);
    assert_eq!(rig.summary(), [""; 0], "once");
}

#[test]
fn cgroup_removed_without_a_path_stays_unknown() {
    let mut rig = Rig::new();
    let inner = Process { namespaces: INNER, ..process(60, 5, 7) };
    rig.track(vec![event(inner, Effect::Executed)]);
    rig.observe(vec![removed(7)]);
    rig.advance(100);
    assert_eq!(rig.summary(), ["unknown"]);
}

#[test]
fn outdated_process_does_not_revive_its_container() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    rig.observe(vec![removed_of(7, 7)]);
    rig.report_name(7, "web");
    rig.take();
    rig.report_running(vec![running(&process(60, 5, 7), 7)]);
    assert_eq!(rig.summary(), [""; 0]);
    rig.handle(0, vec![act(Process { cgroup_id: 0, namespaces: INNER, ..process(60, 5, 0) })]);
    assert_eq!(rig.summary(), ["resolved web"], "but it is known where it was");
    rig.advance(60_000);
    assert_eq!(rig.manager().sizes().0, 0, "and it is forgotten in time");
}

#[test]
fn mounts_do_not_count_where_cgroups_answer() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), removed_of(7, 7)]);
    rig.report_name(7, "web");
    // Its mount namespace is learnt late; another container has its number by now.
    rig.report_running(vec![running(&process(60, 5, 7), 7)]);
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(61, 6, 99) })]);
    rig.advance(100);
    assert_eq!(rig.summary(), ["unknown"], "nobody knows the path of the cgroup");
    // Where cgroups do not answer there is no better evidence.
    let mut rig = Rig::without_cgroups();
    rig.report_name(7, "web");
    rig.report_running(vec![running(&process(60, 5, 0), 7)]);
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(61, 6, 0) })]);
    assert_eq!(rig.summary(), ["resolved web"]);
}
