//! What mount namespaces are evidence for, and what they are not.

use whalewatch_core::{Namespaces, Process, State, Status};

use crate::proc::ProcEntry;
use crate::protocol::Report;
use crate::tests::rig::{
    Effect, INNER, Rig, act, event, forked, id, made, made_host, options, process,
};

#[test]
fn host_process_in_container_mounts_is_host_and_entered() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.report_name(7, "web");
    let init = Process { namespaces: INNER, ..process(10, 1, 7) };
    let entered = Process { namespaces: INNER, ..process(20, 2, 1) };
    let elsewhere = Process { namespaces: Namespaces { mnt: 55, ..INNER }, ..process(21, 3, 1) };
    rig.track(vec![event(init, Effect::Executed)]);
    rig.handle(0, vec![act(entered), act(elsewhere), act(process(22, 4, 1)), act(init)]);
    let out = rig.take();
    let found: Vec<_> = out[1..].iter().map(|o| (o.state, o.entered.as_deref())).collect();
    let host = State::Host;
    let want = [(host, Some("web")), (host, None), (host, None), (State::Resolved, None)];
    assert_eq!(found, want);
}

#[test]
fn mount_namespace_is_free_after_its_container_ends() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.report_name(7, "web");
    let init = Process { namespaces: INNER, namespaced_pid: 1, ..process(10, 1, 7) };
    rig.track(vec![event(init, Effect::Executed)]);
    let entered = Process { namespaces: INNER, ..process(20, 2, 1) };
    let entered_now = |rig: &mut Rig| {
        rig.handle(0, vec![act(entered)]);
        rig.take().pop().and_then(|out| out.entered)
    };
    // The first process of a pid namespace inside the container is not the container's first.
    let sandbox = Process {
        namespaces: Namespaces { mnt: 56, ..INNER },
        namespaced_pid: 1,
        ..process(11, 2, 7)
    };
    rig.track(vec![event(sandbox, Effect::Executed), event(sandbox, Effect::Exited)]);
    assert_eq!(entered_now(&mut rig).as_deref(), Some("web"));
    // The kernel reuses the number long before the container is forgotten.
    rig.track(vec![event(Process { namespaces: Namespaces::default(), ..init }, Effect::Exited)]);
    assert_eq!(entered_now(&mut rig), None);
}

#[test]
fn container_without_a_cgroup_is_known_by_its_mounts() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made_host(1)]);
    rig.report_name(7, "rootless");
    let first = Process { namespaces: INNER, ..process(10, 1, 1) };
    let key = first.key();
    let seen = ProcEntry { key, parent: 1, namespaces: INNER };
    rig.report(Report::Processes { id: id(7), processes: vec![seen] });
    let child = Process { namespaces: INNER, ..process(11, 2, 1) };
    rig.track(vec![event(first, Effect::Executed), forked(child, key)]);
    rig.track(vec![event(Process { namespaces: Namespaces::default(), ..child }, Effect::Exited)]);
    rig.handle(0, vec![act(process(12, 3, 1))]);
    let found = rig.summary();
    assert_eq!(found, ["resolved rootless", "resolved rootless", "resolved rootless", "host"]);
}

#[test]
fn events_overtaken_by_the_end_keep_their_container() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made_host(1)]);
    rig.report_name(7, "rootless");
    // It was made on the host, among the host's mounts.
    rig.observe(vec![forked(process(10, 1, 1), process(9, 1, 1).key())]);
    let first = Process { namespaces: INNER, namespaced_pid: 1, ..process(10, 1, 1) };
    let seen = ProcEntry { key: first.key(), parent: 1, namespaces: INNER };
    rig.report(Report::Processes { id: id(7), processes: vec![seen] });
    rig.report(Report::Status { id: id(7), status: Status::Exited });
    rig.track(vec![event(first, Effect::Executed), event(first, Effect::Exited)]);
    assert_eq!(rig.summary(), ["resolved rootless"; 2]);
    // The number of its mount namespace is another's at once.
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(11, 2, 1) })]);
    assert_eq!(rig.summary(), ["host"]);
}

#[test]
fn mounts_of_a_removed_container_do_not_count() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.report_name(7, "web");
    rig.track(vec![event(Process { namespaces: INNER, ..process(10, 1, 7) }, Effect::Executed)]);
    rig.report(Report::Removed { id: id(7) });
    rig.take();
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(11, 2, 1) })]);
    let out = rig.take().pop().unwrap();
    assert_eq!((out.state, out.entered), (State::Host, None));
}
