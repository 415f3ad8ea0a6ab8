//! The ten ways in which the original design fails, each with the proof that this one does not.
//!
//! What a daemon does wrong on its socket is shown in `runtimes/docker/tests.rs`, against a fake
//! daemon.

use std::sync::atomic::Ordering::Relaxed;

use whalewatch_core::{Container, Evidence, Namespaces, Process, ProcessKey, State, Status};

use crate::options::{ContainerOptions, RuntimeChoice, RuntimeWord};
use crate::request::{News, Request};
use crate::tests::rig::{
    HOST, Rig, Says, Scripted, act, event, id, inspect, made, made_host, moved, ms, options,
    process, removed,
};

const INNER: Namespaces = Namespaces { user: 1, pid: 92, mnt: 93, net: 94 };

fn forked(child: Process, parent: ProcessKey) -> Scripted {
    let child = Process { parent_pid: parent.pid, parent_start_time: parent.start_time, ..child };
    event(child, Says::Forked(parent))
}

#[test]
fn f01_a_hung_daemon_delays_nothing() {
    let mut rig = Rig::new(); // its helper takes requests and never answers
    rig.observe(vec![made(7, 7), made_host(1)]);
    for _ in 0..10 {
        rig.handle(0, vec![act(process(10, 1, 1)), act(process(11, 1, 7)), act(process(12, 1, 1))]);
        assert_eq!(rig.told(), ["host", "host"]); // at once, past those that wait
        rig.advance(5);
    }
    rig.advance(49);
    assert_eq!(rig.told(), [""; 0]);
    rig.advance(1); // the hold is over: with id, without name
    assert_eq!(rig.told(), ["pending 7"; 10]);
    rig.handle(0, vec![act(process(11, 1, 7))]);
    assert_eq!(rig.told(), ["pending 7"]); // and nothing more of it waits
    assert_eq!(rig.asked(), [inspect(7)]); // once
}

#[test]
fn f02_the_first_process_of_a_container_and_an_execed_one_are_its() {
    let mut rig = Rig::new();
    let runc = process(100, 1, 1);
    rig.observe(vec![made_host(1), event(runc, Says::Existing)]);
    rig.observe(vec![made(7, 7)]); // before any process runs in it
    rig.hear_name(7, "web");
    // runc's child is forked on the host, moves, and replaces its program in the container's
    // cgroup.
    rig.track(vec![forked(process(101, 2, 1), runc.key())]);
    let init = Process { namespaces: INNER, ..process(101, 2, 7) };
    rig.track(vec![event(init, Says::Executed), event(init, Says::Exited)]);
    // docker exec: a child of the host's, in the container's cgroup.
    let execed = Process { namespaces: INNER, ..process(102, 3, 7) };
    rig.track(vec![forked(execed, runc.key()), event(execed, Says::Executed)]);
    let out = rig.take();
    assert_eq!((out[0].state, out[0].evidence), (State::Host, Evidence::Cgroup));
    assert_eq!(out.len(), 5);
    for event in &out[1..] {
        assert_eq!((event.state, event.evidence), (State::Resolved, Evidence::Cgroup));
        assert_eq!(event.name.as_deref(), Some("web"));
    }
}

#[test]
fn f03_a_namespace_change_is_no_container_and_no_refresh_storm() {
    let mut rig = Rig::new();
    let shell = process(100, 1, 1);
    rig.observe(vec![made_host(1), event(shell, Says::Existing)]);
    rig.asked();
    for pid in 0..1000 {
        let sandboxed = Process { namespaces: INNER, ..process(1000 + pid, 2, 1) };
        rig.track(vec![forked(sandboxed, shell.key()), event(sandboxed, Says::Executed)]);
    }
    assert!(rig.told().iter().all(|told| told == "host"));
    assert_eq!(rig.asked(), []); // the cgroup answers: nobody is asked

    let mut rig = Rig::silent();
    rig.observe(vec![event(shell, Says::Existing)]);
    for pid in 0..1000 {
        let somewhere = Process { namespaces: INNER, ..process(1000 + pid, 2, 0) };
        rig.track(vec![forked(somewhere, shell.key())]);
    }
    assert_eq!(rig.asked(), [Request::Refresh { processes: true }]); // one for all of them
    rig.advance(10_000);
    assert_eq!(rig.asked().len(), 1); // and one for those that came after the first had begun
}

#[test]
fn f04_a_reused_pid_is_another_process() {
    let mut rig = Rig::silent();
    rig.observe(vec![event(process(50, 1_000, 0), Says::Existing)]);
    let seen = crate::proc::Seen { key: process(60, 2_000, 0).key(), parent: 1, namespaces: INNER };
    rig.hear_name(7, "web");
    rig.hear(News::Processes { id: id(7), seen: vec![seen] });
    let inner = |start| Process { namespaces: INNER, ..process(60, start, 0) };
    rig.handle(0, vec![act(inner(2_000))]);
    assert_eq!(rig.told(), ["resolved web"]);
    // The number again, on the host, while the first still lingers: each event finds its own.
    rig.track(vec![forked(process(60, 900_000_000, 0), process(50, 1_000, 0).key())]);
    rig.handle(0, vec![act(inner(2_000)), act(process(60, 900_000_000, 0))]);
    assert_eq!(rig.told(), ["host", "resolved web", "host"]);
}

#[test]
fn f05_events_after_exit_are_still_the_containers() {
    let mut rig = Rig::new();
    let inner = Process { namespaces: INNER, ..process(60, 5, 7) };
    rig.observe(vec![made(7, 7)]);
    rig.hear_name(7, "web");
    rig.track(vec![event(inner, Says::Exited)]);
    rig.observe(vec![removed(7)]);
    rig.hear(News::Removed { id: id(7) });
    rig.take();
    let no_cgroup = Process { cgroup_id: 0, ..inner };
    rig.handle(0, vec![act(inner), act(no_cgroup)]);
    let out = rig.take();
    assert_eq!(out[0].evidence, Evidence::Cgroup);
    assert_eq!(out[1].evidence, Evidence::Pid);
    assert!(out.iter().all(|o| o.name.as_deref() == Some("web")), "{out:?}");
    rig.advance(20_000); // after the grace period nothing of it is left, and no timer runs
    rig.handle(0, vec![act(no_cgroup)]);
    assert_eq!(rig.told(), ["unknown"]);
    assert_eq!((rig.manager.sizes(), rig.timers()), ((0, 0, 0, 0), 0));
}

#[test]
fn f06_the_snapshot_does_not_race() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.hear_name(7, "web");
    // While running processes are read, one ends and one forks: the tracepoints are live, so both
    // are told before.
    let ended = process(60, 5, 7);
    let child = process(61, 6, 7);
    rig.observe(vec![event(ended, Says::Exited), forked(child, ended.key())]);
    rig.observe(vec![event(ended, Says::Existing), event(child, Says::Existing)]);
    rig.advance(20_000);
    assert_eq!(rig.manager.sizes().1, 1); // what had ended did not come to life again
    rig.handle(0, vec![act(Process { cgroup_id: 0, ..child })]);
    assert_eq!(rig.told(), ["resolved web"]);
}

#[test]
fn f07_unknown_never_reads_as_host() {
    // Nothing answers: neither cgroup nor pid nor parent, and the namespaces are not the host's.
    let mut rig = Rig::silent();
    let stranger = Process { namespaces: INNER, ..process(60, 5, 0) };
    let blank = Process { namespaces: Namespaces::default(), ..process(61, 5, 0) };
    rig.track(vec![act(stranger), act(blank), forked(stranger, process(9, 9, 0).key())]);
    assert_eq!(rig.told(), ["unknown"; 3]);
    // Its parent was on the host, but it has other namespaces.
    rig.observe(vec![event(process(9, 9, 0), Says::Existing)]);
    rig.track(vec![forked(Process { pid: 62, ..stranger }, process(9, 9, 0).key())]);
    assert_eq!(rig.told(), ["unknown"]);
    // A cgroup that nobody ever tells of: it waits, and is then not called host.
    let mut rig = Rig::new();
    rig.handle(0, vec![act(Process { cgroup_id: 77, ..stranger })]);
    assert_eq!(rig.told(), [""; 0]);
    rig.advance(100);
    assert_eq!(rig.told(), ["unknown"]);
    // No room for the container.
    let mut rig = Rig::with(ContainerOptions { max_containers: 1, ..options() }, true);
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.handle(0, vec![act(Process { cgroup_id: 8, ..stranger })]);
    assert_eq!(rig.told(), ["unknown"]);
    // The idle task is the kernel's own.
    rig.handle(0, vec![act(process(0, 0, 0))]);
    assert_eq!(rig.told(), ["host"]);
}

#[test]
fn f08_a_late_restarted_or_renaming_daemon_sets_names_right() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.handle(0, vec![act(process(60, 5, 7)), act(process(61, 5, 8))]);
    rig.handle(1, vec![act(process(60, 5, 7))]);
    rig.advance(100);
    assert_eq!(rig.told(), ["pending 7", "pending 7", "pending 8"]);
    rig.asked();
    // The daemon comes late: each chain that got an event without the name is told once.
    rig.hear_name(7, "web");
    let told: Vec<_> = rig.take().iter().map(|o| (o.kind, o.chain, o.name.clone())).collect();
    let resolved = |chain| ("container.resolved", chain, Some("web".to_owned()));
    assert_eq!(told, [resolved(0), resolved(1)]);
    rig.hear_name(7, "web");
    assert_eq!(rig.told(), [""; 0]);
    // Its list lacks one that has a cgroup: that one is asked for again.
    rig.hear(News::Refreshed { running: vec![id(7)] });
    assert_eq!(rig.asked(), [inspect(8)]);
    // A rename holds from the next event on; so does a list with another name, from a daemon that
    // came back.
    rig.hear(News::Renamed { id: id(7), name: "web2".into() });
    rig.handle(0, vec![act(process(60, 5, 7))]);
    rig.hear_name(7, "web3");
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.told(), ["resolved web2", "resolved web3"]);
    // The container is started again: another cgroup, the same container.
    rig.observe(vec![removed(7), made(70, 7)]);
    rig.advance(60_000);
    rig.handle(0, vec![act(process(63, 5, 70))]);
    assert_eq!(rig.told(), ["resolved web3"]);
}

#[test]
fn f09_memory_stays_flat_over_a_hundred_thousand_containers() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    let mut most = (0, 0, 0, 0);
    for n in 1..=100_000_u32 {
        let cgroup = u64::from(n);
        let inner =
            Process { namespaces: INNER, ..process(n % 30_000 + 2, cgroup * 1_000, cgroup) };
        rig.observe(vec![made(cgroup, n)]);
        if n % 3 != 0 {
            rig.hear_name(n, "short"); // of every third the name never comes
        }
        rig.track(vec![event(inner, Says::Executed), event(inner, Says::Exited)]);
        rig.observe(vec![removed(cgroup)]);
        if n % 5 != 0 {
            rig.hear(News::Removed { id: id(n) }); // every fifth stays, stopped
        }
        rig.advance(10); // a hundred a second, 5 s of grace: 500 at once and a little
        let (containers, processes, cgroups, held) = rig.manager.sizes();
        most =
            (most.0.max(containers), most.1.max(processes), most.2.max(cgroups), most.3.max(held));
        rig.take();
        rig.asked();
    }
    assert!(most.0 < 600 && most.1 < 600 && most.2 < 600 && most.3 < 100, "{most:?}");
    rig.advance(20_000);
    assert_eq!((rig.manager.sizes(), rig.timers()), ((0, 0, 0, 0), 0));
}

#[test]
fn f10_every_event_that_comes_in_goes_out_or_is_held_and_none_is_lost_at_the_end() {
    // (Over random scripts: see hold.rs.)
    let mut rig = Rig::with(ContainerOptions { max_held: 5, ..options() }, true);
    rig.observe(vec![made(7, 7), made(8, 8), made_host(1)]);
    let burst = |cgroup| (0..4).map(|_| act(process(60, 5, cgroup))).collect::<Vec<_>>();
    rig.handle(0, burst(7));
    rig.handle(1, burst(8)); // more than may wait: the oldest go on without their name
    assert_eq!(rig.told(), ["pending 7"; 4]);
    rig.handle(0, burst(1));
    rig.handle(0, burst(99)); // of a cgroup that nobody has told of; and again too many
    assert_eq!(
        rig.told(),
        ["host", "host", "host", "host", "pending 8", "pending 8", "pending 8", "pending 8"]
    );
    rig.end(1);
    rig.end(0);
    assert_eq!(rig.told(), ["host"; 4]); // by their namespaces
    assert_eq!(rig.manager.sizes().3, 0);
    let counts = rig.counters.containers();
    let host = counts["host"].events;
    let all: u64 = counts.values().map(|c| c.events).sum();
    assert_eq!((host, all), (8, 16)); // by container: all 16 that came in
    assert_eq!(rig.counters.added.load(Relaxed), 0);
}

#[test]
fn found_and_gone_are_told_in_every_chain_behind_the_containers_other_events() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.told(), [""; 0]);
    rig.hear_name(7, "web");
    assert_eq!(rig.told(), ["found: resolved web", "found: resolved web", "resolved web"]);
    rig.observe(vec![removed(7)]);
    rig.hear(News::Removed { id: id(7) });
    assert_eq!(rig.told(), ["gone: resolved web", "gone: resolved web"]);
    assert_eq!(rig.counters.added.load(Relaxed), 4);
    // One chain has ended: nothing more goes there.
    rig.end(1);
    rig.observe(vec![made(8, 8)]);
    rig.advance(100);
    rig.hear_name(8, "db");
    assert_eq!(rig.told(), ["found: pending 8", "resolved: resolved db"]);
}

#[test]
fn without_a_runtime_nothing_waits_for_a_name_that_cannot_come() {
    let none = ContainerOptions { runtime: RuntimeChoice::Word(RuntimeWord::None), ..options() };
    let mut rig = Rig::with(none, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.told(), ["pending 7"]);
    assert_eq!(rig.asked(), []);
    // Nor does with Docker what another runtime's cgroup holds, or what Docker does not know.
    let mut rig = Rig::new();
    let podman = format!("/machine.slice/libpod-{}.scope", id(8));
    let made_podman = Scripted::new(None, Says::Made(8, podman));
    rig.observe(vec![made_podman, made(9, 9)]);
    rig.handle(0, vec![act(process(61, 5, 8)), act(process(62, 5, 9))]);
    assert_eq!(rig.told(), ["pending 8"]);
    rig.hear(News::NotKnown { id: id(9).into() });
    assert_eq!(rig.told(), ["pending 9"]);
    assert_eq!(rig.asked(), [inspect(9)]);
}

#[test]
fn an_event_that_is_ahead_of_its_cgroups_waits_for_it() {
    let mut rig = Rig::new();
    rig.handle(0, vec![act(process(60, 5, 7)), act(process(61, 5, 1))]);
    rig.advance(50);
    assert_eq!(rig.told(), [""; 0]);
    rig.observe(vec![made_host(1)]);
    assert_eq!(rig.told(), ["host"]);
    rig.observe(vec![made(7, 7)]); // and then, as long as is left, for the name
    rig.advance(49);
    assert_eq!(rig.told(), [""; 0]);
    rig.hear_name(7, "web");
    assert_eq!(rig.told(), ["resolved web"]);
}

#[test]
fn where_cgroups_do_not_answer_pid_parent_namespace_and_runtime_do() {
    let mut rig = Rig::silent();
    rig.hear_name(7, "web");
    let seen =
        |pid| crate::proc::Seen { key: process(pid, 5_000, 0).key(), parent: 1, namespaces: INNER };
    rig.hear(News::Processes { id: id(7), seen: vec![seen(60)] });
    let init = crate::tests::rig::named(8, "db");
    let init = Container { init_pid: Some(80), ..init };
    rig.hear(News::Container(Box::new(init)));
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
fn a_container_runs_as_soon_as_a_program_does_whatever_the_daemon_still_says() {
    let mut rig = Rig::new();
    let created = Container { status: Status::Created, ..crate::tests::rig::named(7, "web") };
    rig.hear(News::Container(Box::new(created.clone())));
    rig.observe(vec![made(7, 7)]);
    let status = |rig: &Rig| rig.manager.status(&id(7)).unwrap();
    assert_eq!(status(&rig), Status::Created);
    rig.track(vec![event(process(60, 5, 7), Says::Executed)]);
    assert_eq!(status(&rig), Status::Running);
    rig.hear(News::Container(Box::new(created))); // an answer from before
    assert_eq!(status(&rig), Status::Running);
    rig.hear(News::Status { id: id(7), status: Status::Paused });
    assert_eq!(status(&rig), Status::Paused);
}

#[test]
fn a_full_table_of_cgroups_names_no_container_host() {
    let mut rig = Rig::with(ContainerOptions { max_cgroups: 1, ..options() }, true);
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.hear_name(8, "web");
    rig.handle(0, vec![act(Process { namespaces: INNER, ..process(60, 5, 8) })]);
    rig.advance(100);
    assert_eq!(rig.told(), ["unknown"]);
}

#[test]
fn a_hold_of_zero_holds_nothing() {
    let mut rig = Rig::with(ContainerOptions { hold: ms(0), ..options() }, true);
    rig.observe(vec![made(7, 7)]);
    rig.handle(0, vec![act(process(60, 5, 7)), act(process(61, 5, 99))]);
    assert_eq!(rig.told(), ["pending 7", "host"]);
    rig.hear_name(7, "web");
    assert_eq!(rig.told(), ["resolved: resolved web"]);
}

#[test]
fn a_process_that_moves_is_where_it_went() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made(7, 7), made_host(8)]);
    rig.hear_name(7, "web");
    let at_first = process(60, 5, 8);
    rig.track(vec![event(at_first, Says::Existing)]);
    rig.track(vec![moved(&at_first, 7)]);
    assert_eq!(rig.told().pop().as_deref(), Some("resolved web"), "the move is the new cgroup's");
    // An event that knows its process and not its cgroup goes by the pid map, and that has moved
    // too.
    let unknown_cgroup = Process { cgroup_id: 0, ..at_first };
    rig.handle(0, vec![act(unknown_cgroup)]);
    assert_eq!(rig.told(), ["resolved web"]);
    rig.track(vec![moved(&at_first, 8)]);
    rig.handle(0, vec![act(unknown_cgroup)]);
    assert_eq!(rig.told().pop().as_deref(), Some("host"));
}

#[test]
fn a_cgroup_named_after_another_container_is_its_makers() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.hear_name(7, "victim");
    rig.hear_name(8, "maker");
    let path = |inner| format!("/docker/{}/{}", id(8), id(inner));
    let said = |cgroup, path| Scripted::new(None, Says::Made(cgroup, path));
    rig.observe(vec![said(9, path(7)), said(10, path(99))]);
    rig.handle(0, vec![act(process(60, 5, 9))]);
    assert_eq!(rig.told(), ["resolved maker"]);
    // One that nobody knows otherwise may run in there: containers in containers.
    rig.handle(0, vec![act(process(61, 6, 10))]);
    rig.end(0);
    let out = rig.take();
    assert_eq!((out[0].state, out[0].id.clone()), (State::Pending, Some(id(99))));
    assert_eq!(out[0].parents, [id(8)], "and it shows who made it");
}

#[test]
fn nothing_is_forgotten_while_a_slow_reader_holds_events_up() {
    let mut rig = Rig::with(options(), true);
    rig.observe(vec![made(7, 7)]);
    rig.hear_name(7, "web");
    rig.observe(vec![removed(7)]);
    rig.hear(News::Removed { id: id(7) });
    rig.set_behind(true);
    rig.advance(600_000);
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.told(), ["resolved web"], "ten minutes late, and still known");
    rig.set_behind(false);
    rig.advance(600_000);
    assert_eq!(rig.manager.sizes().0, 0);
    let counts = rig.manager.counts();
    let former = &counts[&*id(7)];
    assert_eq!((former.name.as_deref(), former.events), (Some("web"), 1), "its counts stay");
    assert_eq!(former.cgroups, [7]);
}
