//! How containers come, get their names, run, go and are forgotten.

use std::sync::atomic::Ordering::Relaxed;

use whalewatch_core::{Container, Owner, Status};

use crate::options::{ContainerOptions, RuntimeChoice};
use crate::protocol::Report;
use crate::tests::rig::{
    Effect, Rig, Scripted, act, event, id, inspect, made, made_host, ms, named, options, process,
    removed,
};

#[test]
fn found_and_gone_follow_other_events_in_every_chain() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.summary(), [""; 0]);
    rig.report_name(7, "web");
    assert_eq!(rig.summary(), ["found: resolved web", "found: resolved web", "resolved web"]);
    rig.observe(vec![removed(7)]);
    rig.report(Report::Removed { id: id(7) });
    assert_eq!(rig.summary(), ["gone: resolved web", "gone: resolved web"]);
    assert_eq!(rig.counters.added.load(Relaxed), 4);
    // One chain has ended: nothing more goes there.
    rig.end(1);
    rig.observe(vec![made(8, 8)]);
    rig.advance(100);
    rig.report_name(8, "db");
    assert_eq!(rig.summary(), ["found: pending 8", "resolved: resolved db"]);
}

#[test]
fn nothing_waits_for_a_name_that_cannot_come() {
    let none = ContainerOptions { runtime: RuntimeChoice::None, ..options() };
    let mut rig = Rig::with(none, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.summary(), ["pending 7"]);
    assert_eq!(rig.requests(), []);
    // With Docker alone, neither do containers of another runtime, nor those that Docker does not
    // know.
    let mut rig = Rig::new();
    let podman = format!("/machine.slice/libpod-{}.scope", id(8));
    let made_podman = Scripted::new(None, Effect::Made(8, podman));
    rig.observe(vec![made_podman, made(9, 9)]);
    rig.handle(0, vec![act(process(61, 5, 8)), act(process(62, 5, 9))]);
    assert_eq!(rig.summary(), ["pending 8"]);
    rig.report(Report::NotKnown { id: id(9).into() });
    assert_eq!(rig.summary(), ["pending 9"]);
    assert_eq!(rig.requests(), [inspect(9)]);
}

#[test]
fn event_ahead_of_its_cgroup_waits_for_the_path() {
    let mut rig = Rig::new();
    rig.handle(0, vec![act(process(60, 5, 7)), act(process(61, 5, 1))]);
    rig.advance(50);
    assert_eq!(rig.summary(), [""; 0]);
    rig.observe(vec![made_host(1)]);
    assert_eq!(rig.summary(), ["host"]);
    rig.observe(vec![made(7, 7)]); // and then, as long as is left, for the name
    rig.advance(49);
    assert_eq!(rig.summary(), [""; 0]);
    rig.report_name(7, "web");
    assert_eq!(rig.summary(), ["resolved web"]);
}

#[test]
fn hold_of_zero_holds_nothing() {
    let mut rig = Rig::with(ContainerOptions { hold: ms(0), ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7)), act(process(61, 5, 99))]);
    assert_eq!(rig.summary(), ["pending 7", "host"]);
    rig.report_name(7, "web");
    assert_eq!(rig.summary(), ["resolved: resolved web"]);
}

#[test]
fn container_runs_as_soon_as_a_program_does() {
    let mut rig = Rig::new();
    let created = Container { status: Status::Created, ..named(7, "web") };
    rig.report(Report::Container(Box::new(created.clone())));
    rig.observe(vec![made(7, 7)]);
    let status = |rig: &Rig| rig.manager().status(&id(7)).unwrap();
    assert_eq!(status(&rig), Status::Created);
    rig.track(vec![event(process(60, 5, 7), Effect::Executed)]);
    assert_eq!(status(&rig), Status::Running);
    rig.report(Report::Container(Box::new(created))); // an answer from before
    assert_eq!(status(&rig), Status::Running);
    rig.report(Report::Status { id: id(7), status: Status::Paused });
    assert_eq!(status(&rig), Status::Paused);
}

#[test]
fn nothing_is_forgotten_while_a_reader_is_slow() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made(7, 7)]);
    rig.report_name(7, "web");
    rig.observe(vec![removed(7)]);
    rig.report(Report::Removed { id: id(7) });
    rig.set_behind(true);
    rig.advance(600_000);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.summary(), ["resolved web"], "ten minutes late, and still known");
    rig.set_behind(false);
    rig.advance(600_000);
    assert_eq!(rig.manager().sizes().0, 0);
    let counts = rig.manager().counts();
    let former = &counts[&Owner::Container(id(7).into())];
    assert_eq!((former.name.as_deref(), former.events), (Some("web"), 1), "its counts stay");
    assert_eq!(former.cgroups, [7]);
}

#[test]
fn counts_of_an_evicted_container_are_kept() {
    let mut rig = Rig::with(ContainerOptions { max_containers: 1, ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    rig.advance(100);
    assert_eq!(rig.summary(), ["pending 7"]);
    rig.observe(vec![removed(7), made(8, 8)]); // no room for both
    let counts = rig.manager().counts();
    assert_eq!(counts[&Owner::Container(id(7).into())].events, 1);
    assert_eq!(rig.manager().sizes().0, 1);
}
