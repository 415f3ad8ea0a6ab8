//! Cgroups that only have the name of a container, and runtimes that confirm or deny it.

use whalewatch_core::{Process, State};

use crate::options::{ContainerOptions, RuntimeChoice, RuntimeClient};
use crate::protocol::Report;
use crate::tests::rig::{INNER, Rig, act, id, made, made_at, named, options, process, removed};

#[test]
fn state_folder_names_a_container_without_a_request() {
    let runtime = RuntimeChoice::Auto;
    let mut rig = Rig::with(ContainerOptions { runtime, ..options() }, true);
    rig.make_state_folder("run/runc/web");
    rig.observe(vec![made_at(7, "/web".into()), made_at(8, "/db".into())]);
    rig.handle(0, vec![act(process(10, 1, 7)), act(process(11, 1, 8))]);
    let out = rig.take();
    assert_eq!((out[0].id.as_deref(), out[0].name.as_deref()), (Some("runc/web"), Some("web")));
    assert_eq!(out[1].state, State::Host);
    assert_eq!(rig.requests(), []);
}

#[test]
fn denied_container_with_host_mounts_is_host() {
    let mut rig = Rig::new();
    rig.observe(vec![made_at(7, format!("/mine/{}", id(7)))]);
    let at_home = process(10, 1, 7); // among the host's mounts
    rig.handle(0, vec![act(at_home)]);
    assert_eq!(rig.summary(), [""; 0], "it waits for somebody to speak for it");
    rig.report(Report::NotKnown { id: id(7).into() });
    assert_eq!(rig.summary(), ["host"]);
    rig.handle(0, vec![act(at_home), act(Process { namespaces: INNER, ..at_home })]);
    assert_eq!(rig.summary(), ["host", "pending 7"], "among other mounts it may be one after all");
}

#[test]
fn unconfirmed_container_with_host_mounts_is_unknown() {
    let mut rig = Rig::new();
    rig.observe(vec![made_at(7, format!("/mine/{}", id(7)))]);
    rig.handle(0, vec![act(process(10, 1, 7))]);
    rig.advance(1_000);
    rig.handle(0, vec![act(process(10, 1, 7))]);
    assert_eq!(rig.summary(), ["unknown", "unknown"]);
    // A runtime has it after all: Docker with another cgroup parent.
    rig.report_name(7, "task");
    rig.handle(0, vec![act(process(10, 1, 7))]);
    assert_eq!(rig.summary(), ["resolved task"]);
}

#[test]
fn every_runtime_must_deny_a_container() {
    let runtime = RuntimeChoice::Auto;
    let mut rig = Rig::with(ContainerOptions { runtime, ..options() }, true);
    rig.observe(vec![made_at(7, format!("/kubepods/pod1/{}", id(7)))]);
    rig.handle(0, vec![act(process(10, 1, 7))]);
    for from in [RuntimeClient::Docker, RuntimeClient::Podman, RuntimeClient::Containerd] {
        rig.report_from(from, Report::NotKnown { id: id(7).into() });
        rig.report_from(from, Report::Refreshed { running: Vec::new() });
    }
    assert_eq!(rig.summary(), [""; 0], "there is one left who may know it");
    let named = Report::Container(Box::new(named(7, "app")));
    rig.report_from(RuntimeClient::Cri, named);
    rig.advance(600_000);
    rig.report_from(RuntimeClient::Docker, Report::Refreshed { running: Vec::new() });
    assert_eq!(rig.summary(), ["resolved app"]);
    rig.handle(0, vec![act(process(11, 1, 7))]);
    assert_eq!(rig.summary(), ["resolved app"]);

    rig.observe(vec![made_at(8, format!("/kubepods/pod1/{}", id(8)))]);
    rig.handle(0, vec![act(process(12, 1, 8))]);
    for from in RuntimeClient::ALL {
        assert_eq!(rig.take(), []);
        rig.report_from(from, Report::NotKnown { id: id(8).into() });
    }
    let out = rig.take();
    assert_eq!(out[0].state, State::Pending);
}

#[test]
fn forged_podman_records_do_not_touch_other_containers() {
    let runtime = RuntimeChoice::Auto;
    let mut rig = Rig::with(ContainerOptions { runtime, ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.report_name(7, "web");
    for forged in [
        Report::Container(Box::new(named(7, "forged"))),
        Report::Renamed { id: id(7), name: "forged".into() },
        Report::Removed { id: id(7) },
    ] {
        rig.report_from(RuntimeClient::Podman, forged);
        rig.handle(0, vec![act(process(10, 1, 7))]);
        assert_eq!(rig.summary(), ["resolved web"]);
    }
    // Nor while its own runtime has not spoken yet.
    rig.observe(vec![made(8, 8)]);
    rig.report_from(RuntimeClient::Podman, Report::Container(Box::new(named(8, "x"))));
    rig.report_name(8, "db");
    rig.handle(0, vec![act(process(11, 1, 8))]);
    assert_eq!(rig.summary(), ["resolved db"]);
}

#[test]
fn container_confirmed_after_its_cgroup_is_gone_has_its_events() {
    let mut rig = Rig::new();
    rig.observe(vec![made_at(7, format!("/mine/{}", id(7)))]);
    rig.handle(0, vec![act(process(10, 1, 7))]); // still among the host's mounts
    rig.observe(vec![removed(7)]);
    assert_eq!(rig.summary(), [""; 0]);
    rig.report_name(7, "task");
    rig.handle(0, vec![act(process(10, 1, 7))]);
    assert_eq!(rig.summary(), ["resolved task", "resolved task"]);
}
