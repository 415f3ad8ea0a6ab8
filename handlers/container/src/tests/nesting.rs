//! Containers in containers.

use whalewatch_core::Process;

use crate::tests::rig::{
    Effect, INNER, Rig, act, event, forked, id, made, made_at, made_host, moved, process,
};

/// Returns id and parents of the last event.
fn last(rig: &mut Rig) -> (Option<String>, Vec<String>) {
    rig.take().pop().map(|out| (out.id, out.parents)).expect("an event")
}

#[test]
fn innermost_cgroup_is_the_container_and_outer_ones_parents() {
    let mut rig = Rig::new();
    let path = format!("/docker/{}/docker/{}/kubepods/pod1/{}", id(1), id(2), id(3));
    rig.observe(vec![made(7, 1), made_at(8, path)]);
    rig.report_name(1, "outer");
    rig.handle(0, vec![act(process(10, 1, 8))]);
    rig.end(0);
    assert_eq!(last(&mut rig), (Some(id(3)), vec![id(2), id(1)]));
    rig.handle(0, vec![act(process(11, 1, 7))]);
    assert_eq!(last(&mut rig), (Some(id(1)), vec![]));
}

#[test]
fn first_process_shows_the_parent_among_sibling_cgroups() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 1), made(8, 2), made(9, 3)]);
    for (container, name) in [(1, "outer"), (2, "inner"), (3, "beside")] {
        rig.report_name(container, name);
    }
    let host = process(100, 1, 1);
    let shim = Process { namespaces: INNER, ..process(200, 2, 7) };
    rig.track(vec![event(host, Effect::Existing), event(shim, Effect::Executed)]);
    // The inner runtime forks in its own cgroup and moves the child.
    let init = Process { namespaces: INNER, ..process(201, 3, 7) };
    rig.track(vec![forked(init, shim.key()), moved(&init, 8)]);
    rig.handle(0, vec![act(Process { cgroup_id: 8, ..init })]);
    assert_eq!(last(&mut rig), (Some(id(2)), vec![id(1)]));
    // The host's runtime starts one; the outer container then moves one of its processes there.
    let other = process(101, 4, 1);
    rig.track(vec![forked(other, host.key()), moved(&other, 9), moved(&shim, 9)]);
    rig.handle(0, vec![act(Process { cgroup_id: 9, ..shim })]);
    assert_eq!(last(&mut rig), (Some(id(3)), vec![]));
}
