//! Containers in containers, and cgroups that are only called like one.

use whalewatch_core::{Namespaces, Process, ProcessKey, State, Status};

use crate::options::{ContainerOptions, RuntimeChoice, RuntimeKind, RuntimeWord};
use crate::request::News;
use crate::tests::rig::{
    Rig, Says, Scripted, act, event, id, made, made_host, moved, options, process,
};

const INNER: Namespaces = Namespaces { user: 1, pid: 92, mnt: 93, net: 94 };

fn made_at(cgroup: u64, path: String) -> Scripted {
    Scripted::new(None, Says::Made(cgroup, path))
}

fn forked(child: Process, parent: ProcessKey) -> Scripted {
    let child = Process { parent_pid: parent.pid, parent_start_time: parent.start_time, ..child };
    event(child, Says::Forked(parent))
}

/// Id and parents of the last event.
fn last(rig: &mut Rig) -> (Option<String>, Vec<String>) {
    rig.take().pop().map(|out| (out.id, out.parents)).expect("an event")
}

#[test]
fn in_child_cgroups_the_innermost_is_the_container_and_the_outer_ones_its_parents() {
    let mut rig = Rig::new();
    let path = format!("/docker/{}/docker/{}/kubepods/pod1/{}", id(1), id(2), id(3));
    rig.observe(vec![made(7, 1), made_at(8, path)]);
    rig.hear_name(1, "outer");
    rig.handle(0, vec![act(process(10, 1, 8))]);
    rig.end(0);
    assert_eq!(last(&mut rig), (Some(id(3)), vec![id(2), id(1)]));
    rig.handle(0, vec![act(process(11, 1, 7))]);
    assert_eq!(last(&mut rig), (Some(id(1)), vec![]));
}

#[test]
fn in_sibling_cgroups_the_first_process_tells_in_which_container_its_runtime_runs() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 1), made(8, 2), made(9, 3)]);
    for (container, name) in [(1, "outer"), (2, "inner"), (3, "beside")] {
        rig.hear_name(container, name);
    }
    let host = process(100, 1, 1);
    let shim = Process { namespaces: INNER, ..process(200, 2, 7) };
    rig.track(vec![event(host, Says::Existing), event(shim, Says::Executed)]);
    // The inner runtime forks in its own cgroup and moves the child.
    let init = Process { namespaces: INNER, ..process(201, 3, 7) };
    rig.track(vec![forked(init, shim.key()), moved(&init, 8)]);
    rig.handle(0, vec![act(Process { cgroup_id: 8, ..init })]);
    assert_eq!(last(&mut rig), (Some(id(2)), vec![id(1)]));
    // The host's runtime starts one; the outer container then moves a process of its own there.
    let other = process(101, 4, 1);
    rig.track(vec![forked(other, host.key()), moved(&other, 9), moved(&shim, 9)]);
    rig.handle(0, vec![act(Process { cgroup_id: 9, ..shim })]);
    assert_eq!(last(&mut rig), (Some(id(3)), vec![]));
}

#[test]
fn a_process_of_the_host_that_has_entered_a_container_is_the_host_s_and_says_so() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.hear_name(7, "web");
    let init = Process { namespaces: INNER, ..process(10, 1, 7) };
    let entered = Process { namespaces: INNER, ..process(20, 2, 1) };
    let elsewhere = Process { namespaces: Namespaces { mnt: 55, ..INNER }, ..process(21, 3, 1) };
    rig.track(vec![event(init, Says::Executed)]);
    rig.handle(0, vec![act(entered), act(elsewhere), act(process(22, 4, 1)), act(init)]);
    let out = rig.take();
    let told: Vec<_> = out[1..].iter().map(|o| (o.state, o.entered.as_deref())).collect();
    let host = State::Host;
    let want = [(host, Some("web")), (host, None), (host, None), (State::Resolved, None)];
    assert_eq!(told, want);
}

#[test]
fn a_mount_namespace_whose_container_has_ended_is_nobody_s() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.hear_name(7, "web");
    let init = Process { namespaces: INNER, namespaced_pid: 1, ..process(10, 1, 7) };
    rig.track(vec![event(init, Says::Executed)]);
    let entered = Process { namespaces: INNER, ..process(20, 2, 1) };
    let entered_now = |rig: &mut Rig| {
        rig.handle(0, vec![act(entered)]);
        rig.take().pop().and_then(|told| told.entered)
    };
    // One in it that is the first of a pid namespace of its own is not its first.
    let sandbox = Process {
        namespaces: Namespaces { mnt: 56, ..INNER },
        namespaced_pid: 1,
        ..process(11, 2, 7)
    };
    rig.track(vec![event(sandbox, Says::Executed), event(sandbox, Says::Exited)]);
    assert_eq!(entered_now(&mut rig).as_deref(), Some("web"));
    // The kernel gives its number to the next that wants one, long before the container is
    // forgotten.
    rig.track(vec![event(Process { namespaces: Namespaces::default(), ..init }, Says::Exited)]);
    assert_eq!(entered_now(&mut rig), None);
}

#[test]
fn a_container_that_its_runtime_s_state_tells_has_its_name_and_nobody_is_asked() {
    let runtime = RuntimeChoice::Word(RuntimeWord::Auto);
    let mut rig = Rig::with(ContainerOptions { runtime, ..options() }, true);
    rig.keep_state("run/runc/web");
    rig.observe(vec![made_at(7, "/web".into()), made_at(8, "/db".into())]);
    rig.handle(0, vec![act(process(10, 1, 7)), act(process(11, 1, 8))]);
    let out = rig.take();
    assert_eq!((out[0].id.as_deref(), out[0].name.as_deref()), (Some("runc/web"), Some("web")));
    assert_eq!(out[1].state, State::Host);
    assert_eq!(rig.asked(), []);
}

#[test]
fn a_cgroup_that_is_called_like_a_container_and_is_none_is_the_host_s() {
    let mut rig = Rig::new();
    rig.observe(vec![made_at(7, format!("/mine/{}", id(7)))]);
    let at_home = process(10, 1, 7); // among the host's mounts
    rig.handle(0, vec![act(at_home)]);
    assert_eq!(rig.told(), [""; 0], "it waits for somebody to speak for it");
    rig.hear(News::NotKnown { id: id(7).into() });
    assert_eq!(rig.told(), ["host"]);
    rig.handle(0, vec![act(at_home), act(Process { namespaces: INNER, ..at_home })]);
    assert_eq!(rig.told(), ["host", "pending 7"], "among other mounts it may be one after all");
}

#[test]
fn before_anybody_has_spoken_it_is_unknown_and_never_a_wrong_container() {
    let mut rig = Rig::new();
    rig.observe(vec![made_at(7, format!("/mine/{}", id(7)))]);
    rig.handle(0, vec![act(process(10, 1, 7))]);
    rig.advance(1_000);
    rig.handle(0, vec![act(process(10, 1, 7))]);
    assert_eq!(rig.told(), ["unknown", "unknown"]);
    // The runtime has it after all: an engine with a cgroup parent of its own.
    rig.hear_name(7, "task");
    rig.handle(0, vec![act(process(10, 1, 7))]);
    assert_eq!(rig.told(), ["resolved task"]);
}

#[test]
fn of_several_runtimes_all_must_deny_it_and_one_that_lists_says_nothing_of_another_s() {
    let runtime = RuntimeChoice::Word(RuntimeWord::Auto);
    let mut rig = Rig::with(ContainerOptions { runtime, ..options() }, true);
    rig.observe(vec![made_at(7, format!("/kubepods/pod1/{}", id(7)))]);
    rig.handle(0, vec![act(process(10, 1, 7))]);
    for from in [RuntimeKind::Docker, RuntimeKind::Podman, RuntimeKind::Containerd] {
        rig.hear_from(from, News::NotKnown { id: id(7).into() });
        rig.hear_from(from, News::Refreshed { running: Vec::new() });
    }
    assert_eq!(rig.told(), [""; 0], "there is one left who may know it");
    let named = News::Container(Box::new(crate::tests::rig::named(7, "app")));
    rig.hear_from(RuntimeKind::Cri, named);
    rig.advance(600_000);
    rig.hear_from(RuntimeKind::Docker, News::Refreshed { running: Vec::new() });
    assert_eq!(rig.told(), ["resolved app"]);
    rig.handle(0, vec![act(process(11, 1, 7))]);
    assert_eq!(rig.told(), ["resolved app"]);

    rig.observe(vec![made_at(8, format!("/kubepods/pod1/{}", id(8)))]);
    rig.handle(0, vec![act(process(12, 1, 8))]);
    for from in RuntimeKind::ALL {
        assert_eq!(rig.take(), []);
        rig.hear_from(from, News::NotKnown { id: id(8).into() });
    }
    let out = rig.take();
    assert_eq!(out[0].state, State::Pending);
}

#[test]
fn what_a_user_writes_into_records_of_their_own_says_nothing_of_another_runtime_s_container() {
    let runtime = RuntimeChoice::Word(RuntimeWord::Auto);
    let mut rig = Rig::with(ContainerOptions { runtime, ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.hear_name(7, "web");
    for forged in [
        News::Container(Box::new(crate::tests::rig::named(7, "forged"))),
        News::Renamed { id: id(7), name: "forged".into() },
        News::Removed { id: id(7) },
    ] {
        rig.hear_from(RuntimeKind::Podman, forged);
        rig.handle(0, vec![act(process(10, 1, 7))]);
        assert_eq!(rig.told(), ["resolved web"]);
    }
    // Nor while its own runtime has not spoken yet.
    rig.observe(vec![made(8, 8)]);
    rig.hear_from(RuntimeKind::Podman, News::Container(Box::new(crate::tests::rig::named(8, "x"))));
    rig.hear_name(8, "db");
    rig.handle(0, vec![act(process(11, 1, 8))]);
    assert_eq!(rig.told(), ["resolved db"]);
}

#[test]
fn a_container_without_a_cgroup_of_its_own_lives_in_its_mounts() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made_host(1)]);
    rig.hear_name(7, "rootless");
    let first = Process { namespaces: INNER, ..process(10, 1, 1) };
    let key = first.key();
    let seen = crate::proc::Seen { key, parent: 1, namespaces: INNER };
    rig.hear(News::Processes { id: id(7), seen: vec![seen] });
    let child = Process { namespaces: INNER, ..process(11, 2, 1) };
    rig.track(vec![event(first, Says::Executed), forked(child, key)]);
    rig.track(vec![event(Process { namespaces: Namespaces::default(), ..child }, Says::Exited)]);
    rig.handle(0, vec![act(process(12, 3, 1))]);
    let told = rig.told();
    assert_eq!(told, ["resolved rootless", "resolved rootless", "resolved rootless", "host"]);
}

#[test]
fn that_a_container_without_a_cgroup_has_ended_overtakes_what_it_did() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made_host(1)]);
    rig.hear_name(7, "rootless");
    // It was made on the host, among the host's mounts.
    rig.observe(vec![forked(process(10, 1, 1), process(9, 1, 1).key())]);
    let first = Process { namespaces: INNER, namespaced_pid: 1, ..process(10, 1, 1) };
    let seen = crate::proc::Seen { key: first.key(), parent: 1, namespaces: INNER };
    rig.hear(News::Processes { id: id(7), seen: vec![seen] });
    rig.hear(News::Status { id: id(7), status: Status::Exited });
    rig.track(vec![event(first, Says::Executed), event(first, Says::Exited)]);
    assert_eq!(rig.told(), ["resolved rootless"; 2]);
    // The number of its mount namespace is another's at once.
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(11, 2, 1) })]);
    assert_eq!(rig.told(), ["host"]);
}

#[test]
fn one_that_its_runtime_has_removed_had_a_cgroup_and_its_mounts_are_nobody_s() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.hear_name(7, "web");
    rig.track(vec![event(Process { namespaces: INNER, ..process(10, 1, 7) }, Says::Executed)]);
    rig.hear(News::Removed { id: id(7) });
    rig.take();
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(11, 2, 1) })]);
    let out = rig.take().pop().unwrap();
    assert_eq!((out.state, out.entered), (State::Host, None));
}
