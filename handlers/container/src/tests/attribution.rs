//! Which evidence decides, one case a test.

use whalewatch_core::{Container, Evidence, Namespaces, Process, State};

use crate::options::ContainerOptions;
use crate::proc::ProcEntry;
use crate::protocol::Report;
use crate::tests::rig::{
    Effect, HOST, INNER, Rig, Scripted, act, act_on, event, id, made, made_host, moved, named,
    of_cgroup, options, process,
};

#[test]
fn without_cgroups_the_other_evidence_decides_in_order() {
    let mut rig = Rig::without_cgroups();
    rig.report_name(7, "web");
    let seen = |pid| ProcEntry { key: process(pid, 5_000, 0).key(), parent: 1, namespaces: INNER };
    rig.report(Report::Processes { id: id(7), processes: vec![seen(60)] });
    let init = named(8, "db");
    let init = Container { init_pid: Some(80), ..init };
    rig.report(Report::Container(Box::new(init)));
    let inner = |pid| Process { namespaces: INNER, ..process(pid, 5_000, 0) };
    let child = Process { parent_pid: 60, parent_start_time: 5_000, ..inner(61) };
    let other = Namespaces { mnt: 193, ..INNER };
    rig.handle(
        0,
        vec![
            act(inner(60)),
            act(child),
            act(inner(62)),
            act(Process { namespaces: other, ..inner(80) }),
            act(Process { namespaces: HOST, ..inner(63) }),
        ],
    );
    let evidence: Vec<_> = rig.take().into_iter().map(|o| (o.state, o.evidence, o.name)).collect();
    let web = |evidence| (State::Resolved, evidence, Some("web".to_owned()));
    assert_eq!(
        evidence,
        [
            web(Evidence::Pid),
            web(Evidence::Parent),
            web(Evidence::Namespace),
            (State::Resolved, Evidence::Runtime, Some("db".to_owned())),
            (State::Host, Evidence::Namespace, None),
        ]
    );
}

#[test]
fn moved_process_is_in_its_new_cgroup() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made(7, 7), made_host(8)]);
    rig.report_name(7, "web");
    let at_first = process(60, 5, 8);
    rig.track(vec![event(at_first, Effect::Existing)]);
    rig.track(vec![moved(&at_first, 7)]);
    assert_eq!(
        rig.summary().pop().as_deref(),
        Some("resolved web"),
        "the move is the new cgroup's"
    );
    // An event that knows its process and not its cgroup goes by the pid map, and that has moved
    // too.
    let unknown_cgroup = Process { cgroup_id: 0, ..at_first };
    rig.handle(0, vec![act(unknown_cgroup)]);
    assert_eq!(rig.summary(), ["resolved web"]);
    rig.track(vec![moved(&at_first, 8)]);
    rig.handle(0, vec![act(unknown_cgroup)]);
    assert_eq!(rig.summary().pop().as_deref(), Some("host"));
}

#[test]
fn cgroup_named_after_another_container_is_its_makers() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.report_name(7, "victim");
    rig.report_name(8, "maker");
    let path = |inner| format!("/docker/{}/{}", id(8), id(inner));
    let said = |cgroup, path| Scripted::new(None, Effect::Made(cgroup, path));
    rig.observe(vec![said(9, path(7)), said(10, path(99))]);
    rig.handle(0, vec![act(process(60, 5, 9))]);
    assert_eq!(rig.summary(), ["resolved maker"]);
    // One that is not known otherwise may run in there.
    rig.handle(0, vec![act(process(61, 6, 10))]);
    rig.end(0);
    let out = rig.take();
    assert_eq!((out[0].state, out[0].id.clone()), (State::Pending, Some(id(99))));
    assert_eq!(out[0].parents, [id(8)], "and it shows who made it");
}

#[test]
fn container_is_not_host_when_the_cgroup_table_is_full() {
    let mut rig = Rig::with(ContainerOptions { max_cgroups: 1, ..options() }, true);
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.report_name(8, "web");
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(60, 5, 8) })]);
    rig.advance(100);
    assert_eq!(rig.summary(), ["unknown"]);
}

#[test]
fn event_has_actor_and_target() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 1), made(8, 2), made_host(9)]);
    rig.report_name(1, "web");
    rig.report_name(2, "db");
    rig.handle(0, vec![act_on(process(10, 1, 7), process(20, 1, 8))]);
    rig.handle(0, vec![act_on(process(10, 1, 8), process(20, 1, 9))]);
    let found: Vec<_> = rig.take().into_iter().map(|out| (out.name, out.target)).collect();
    let text = |text: &str| Some(text.to_owned());
    let first = (text("web"), (State::Resolved, text("db")));
    assert_eq!(found, [first, (text("db"), (State::Host, None))]);
}

#[test]
fn name_of_the_target_arrives_while_the_event_waits() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 1), made(8, 2)]);
    rig.handle(0, vec![act_on(process(10, 1, 7), process(20, 1, 8))]);
    assert_eq!(rig.take(), [], "it waits");
    rig.report_name(2, "db");
    rig.report_name(1, "web");
    let found: Vec<_> = rig.take().into_iter().map(|out| (out.state, out.target)).collect();
    assert_eq!(found, [(State::Resolved, (State::Resolved, Some("db".to_owned())))]);
}

#[test]
fn event_without_a_process_goes_by_its_cgroup() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 1), made_host(9)]);
    rig.handle(0, vec![of_cgroup(7), of_cgroup(9)]);
    assert_eq!(rig.summary(), ["host"]);
    rig.report_name(1, "web");
    assert_eq!(rig.summary(), ["resolved web"]);
}
