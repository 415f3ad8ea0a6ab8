//! The ten hazards of attribution, each with the proof that the manager survives it.
//!
//! A daemon that misbehaves on its socket is in `runtimes/docker/tests.rs`, against a fake daemon.

use std::sync::atomic::Ordering::Relaxed;

use whalewatch_core::{Evidence, Namespaces, Owner, Process, State};

use crate::options::ContainerOptions;
use crate::proc::ProcEntry;
use crate::protocol::{Report, Request};
use crate::tests::rig::{
    Effect, INNER, Rig, act, event, forked, id, inspect, made, made_host, options, process, removed,
};

#[test]
fn f01_hung_daemon_delays_nothing() {
    let mut rig = Rig::new(); // its runtimes take requests and never answer
    rig.observe(vec![made(7, 7), made_host(1)]);
    for _ in 0..10 {
        rig.handle(0, vec![act(process(10, 1, 1)), act(process(11, 1, 7)), act(process(12, 1, 1))]);
        assert_eq!(rig.summary(), ["host", "host"]); // at once, past the waiting ones
        rig.advance(5);
    }
    rig.advance(49);
    assert_eq!(rig.summary(), [""; 0]);
    rig.advance(1); // the hold is over: with id, without name
    assert_eq!(rig.summary(), ["pending 7"; 10]);
    rig.handle(0, vec![act(process(11, 1, 7))]);
    assert_eq!(rig.summary(), ["pending 7"]); // and nothing else waits for it
    assert_eq!(rig.requests(), [inspect(7)]); // once
}

#[test]
fn f02_first_and_execed_processes_are_in_the_container() {
    let mut rig = Rig::new();
    let runc = process(100, 1, 1);
    rig.observe(vec![made_host(1), event(runc, Effect::Existing)]);
    rig.observe(vec![made(7, 7)]); // before any process runs in it
    rig.report_name(7, "web");
    // runc's child is forked on the host, moves, and replaces its program in the container's
    // cgroup.
    rig.track(vec![forked(process(101, 2, 1), runc.key())]);
    let init = Process { namespaces: INNER, ..process(101, 2, 7) };
    rig.track(vec![event(init, Effect::Executed), event(init, Effect::Exited)]);
    // docker exec: a child of the host's, in the container's cgroup.
    let execed = Process { namespaces: INNER, ..process(102, 3, 7) };
    rig.track(vec![forked(execed, runc.key()), event(execed, Effect::Executed)]);
    let out = rig.take();
    assert_eq!((out[0].state, out[0].evidence), (State::Host, Evidence::Cgroup));
    assert_eq!(out.len(), 5);
    for event in &out[1..] {
        assert_eq!((event.state, event.evidence), (State::Resolved, Evidence::Cgroup));
        assert_eq!(event.name.as_deref(), Some("web"));
    }
}

#[test]
fn f03_new_namespaces_cause_neither_a_container_nor_a_refresh_storm() {
    let mut rig = Rig::new();
    let shell = process(100, 1, 1);
    rig.observe(vec![made_host(1), event(shell, Effect::Existing)]);
    rig.requests();
    for pid in 0..1000 {
        let sandboxed = Process { namespaces: INNER, ..process(1000 + pid, 2, 1) };
        rig.track(vec![forked(sandboxed, shell.key()), event(sandboxed, Effect::Executed)]);
    }
    assert!(rig.summary().iter().all(|event| event == "host"));
    assert_eq!(rig.requests(), []); // the cgroup answers, so no runtime is asked

    let mut rig = Rig::without_cgroups();
    rig.observe(vec![event(shell, Effect::Existing)]);
    for pid in 0..1000 {
        let somewhere = Process { namespaces: INNER, ..process(1000 + pid, 2, 0) };
        rig.track(vec![forked(somewhere, shell.key())]);
    }
    assert_eq!(rig.requests(), [Request::Refresh { processes: true }]); // one for all of them
    rig.advance(10_000);
    assert_eq!(rig.requests().len(), 1); // and one for those after the first had begun
}

#[test]
fn f04_reused_pid_is_another_process() {
    let mut rig = Rig::without_cgroups();
    rig.observe(vec![event(process(50, 1_000, 0), Effect::Existing)]);
    let seen = ProcEntry { key: process(60, 2_000, 0).key(), parent: 1, namespaces: INNER };
    rig.report_name(7, "web");
    rig.report(Report::Processes { id: id(7), processes: vec![seen] });
    let inner = |start| Process { namespaces: INNER, ..process(60, start, 0) };
    rig.handle(0, vec![act(inner(2_000))]);
    assert_eq!(rig.summary(), ["resolved web"]);
    // The same pid on the host, while the first process is remembered: each event finds its own.
    rig.track(vec![forked(process(60, 900_000_000, 0), process(50, 1_000, 0).key())]);
    rig.handle(0, vec![act(inner(2_000)), act(process(60, 900_000_000, 0))]);
    assert_eq!(rig.summary(), ["host", "resolved web", "host"]);
}

#[test]
fn f05_late_events_are_attributed_after_exit() {
    let mut rig = Rig::new();
    let inner = Process { namespaces: INNER, ..process(60, 5, 7) };
    rig.observe(vec![made(7, 7)]);
    rig.report_name(7, "web");
    rig.track(vec![event(inner, Effect::Exited)]);
    rig.observe(vec![removed(7)]);
    rig.report(Report::Removed { id: id(7) });
    rig.take();
    let no_cgroup = Process { cgroup_id: 0, ..inner };
    rig.handle(0, vec![act(inner), act(no_cgroup)]);
    let out = rig.take();
    assert_eq!(out[0].evidence, Evidence::Cgroup);
    assert_eq!(out[1].evidence, Evidence::Pid);
    assert!(out.iter().all(|o| o.name.as_deref() == Some("web")), "{out:?}");
    rig.advance(20_000); // after the grace period nothing of it is left, and no timer runs
    rig.handle(0, vec![act(no_cgroup)]);
    assert_eq!(rig.summary(), ["unknown"]);
    assert_eq!((rig.manager().sizes(), rig.timers()), ((0, 0, 0, 0), 0));
}

#[test]
fn f06_snapshot_of_processes_does_not_race() {
    let mut rig = Rig::new();
    rig.observe(vec![made_host(1), made(7, 7)]);
    rig.report_name(7, "web");
    // While running processes are read, one ends and one forks. The tracepoints are live, so both
    // are reported first.
    let ended = process(60, 5, 7);
    let child = process(61, 6, 7);
    rig.observe(vec![event(ended, Effect::Exited), forked(child, ended.key())]);
    rig.observe(vec![event(ended, Effect::Existing), event(child, Effect::Existing)]);
    rig.advance(20_000);
    assert_eq!(rig.manager().sizes().1, 1); // the ended one was not revived
    rig.handle(0, vec![act(Process { cgroup_id: 0, ..child })]);
    assert_eq!(rig.summary(), ["resolved web"]);
}

#[test]
fn f07_unknown_never_reads_as_host() {
    // Nothing answers: neither cgroup nor pid nor parent, and the namespaces are not the host's.
    let mut rig = Rig::without_cgroups();
    let stranger = Process { namespaces: INNER, ..process(60, 5, 0) };
    let blank = Process { namespaces: Namespaces::default(), ..process(61, 5, 0) };
    rig.track(vec![act(stranger), act(blank), forked(stranger, process(9, 9, 0).key())]);
    assert_eq!(rig.summary(), ["unknown"; 3]);
    // Its parent was on the host, but it has other namespaces.
    rig.observe(vec![event(process(9, 9, 0), Effect::Existing)]);
    rig.track(vec![forked(Process { pid: 62, ..stranger }, process(9, 9, 0).key())]);
    assert_eq!(rig.summary(), ["unknown"]);
    // The path of its cgroup never comes: the event waits, and is not host after that.
    let mut rig = Rig::new();
    rig.handle(0, vec![act(Process { cgroup_id: 77, ..stranger })]);
    assert_eq!(rig.summary(), [""; 0]);
    rig.advance(100);
    assert_eq!(rig.summary(), ["unknown"]);
    // No room for the container.
    let mut rig = Rig::with(ContainerOptions { max_containers: 1, ..options() }, true);
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.handle(0, vec![act(Process { cgroup_id: 8, ..stranger })]);
    assert_eq!(rig.summary(), ["unknown"]);
    // The idle task is the kernel's own.
    rig.handle(0, vec![act(process(0, 0, 0))]);
    assert_eq!(rig.summary(), ["host"]);
}

#[test]
fn f08_names_are_corrected_by_late_and_restarted_daemons() {
    let mut rig = Rig::new();
    rig.observe(vec![made(7, 7), made(8, 8)]);
    rig.handle(0, vec![act(process(60, 5, 7)), act(process(61, 5, 8))]);
    rig.handle(1, vec![act(process(60, 5, 7))]);
    rig.advance(100);
    assert_eq!(rig.summary(), ["pending 7", "pending 7", "pending 8"]);
    rig.requests();
    // The daemon comes late: each chain that got an event without the name gets it once.
    rig.report_name(7, "web");
    let found: Vec<_> = rig.take().iter().map(|o| (o.kind, o.chain, o.name.clone())).collect();
    let resolved = |chain| ("container.resolved", chain, Some("web".to_owned()));
    assert_eq!(found, [resolved(0), resolved(1)]);
    rig.report_name(7, "web");
    assert_eq!(rig.summary(), [""; 0]);
    // Its list lacks one that has a cgroup: that one is asked for again.
    rig.report(Report::Refreshed { running: vec![id(7)] });
    assert_eq!(rig.requests(), [inspect(8)]);
    // A rename holds from the next event on; so does a list with another name, from a daemon that
    // came back.
    rig.report(Report::Renamed { id: id(7), name: "web2".into() });
    rig.handle(0, vec![act(process(60, 5, 7))]);
    rig.report_name(7, "web3");
    rig.handle(0, vec![act(process(60, 5, 7))]);
    assert_eq!(rig.summary(), ["resolved web2", "resolved web3"]);
    // The container is started again: another cgroup, the same container.
    rig.observe(vec![removed(7), made(70, 7)]);
    rig.advance(60_000);
    rig.handle(0, vec![act(process(63, 5, 70))]);
    assert_eq!(rig.summary(), ["resolved web3"]);
}

#[test]
fn f09_memory_stays_flat_over_100_000_containers() {
    let mut rig = Rig::with(ContainerOptions { lifecycle: true, ..options() }, true);
    let mut most = (0, 0, 0, 0);
    for n in 1..=100_000_u32 {
        let cgroup = u64::from(n);
        let inner =
            Process { namespaces: INNER, ..process(n % 30_000 + 2, cgroup * 1_000, cgroup) };
        rig.observe(vec![made(cgroup, n)]);
        if n % 3 != 0 {
            rig.report_name(n, "short"); // every third name never comes
        }
        rig.track(vec![event(inner, Effect::Executed), event(inner, Effect::Exited)]);
        rig.observe(vec![removed(cgroup)]);
        if n % 5 != 0 {
            rig.report(Report::Removed { id: id(n) }); // every fifth is stopped, not removed
        }
        rig.advance(10); // a hundred a second, 5 s of grace: 500 at once and a little
        let (containers, processes, cgroups, held) = rig.manager().sizes();
        most =
            (most.0.max(containers), most.1.max(processes), most.2.max(cgroups), most.3.max(held));
        rig.take();
        rig.requests();
    }
    assert!(most.0 < 600 && most.1 < 600 && most.2 < 600 && most.3 < 100, "{most:?}");
    rig.advance(20_000);
    assert_eq!((rig.manager().sizes(), rig.timers()), ((0, 0, 0, 0), 0));
}

#[test]
fn f10_every_event_goes_out_or_is_held() {
    // (Over random scripts: see hold.rs.)
    let mut rig = Rig::with(ContainerOptions { max_held: 5, ..options() }, true);
    rig.observe(vec![made(7, 7), made(8, 8), made_host(1)]);
    let burst = |cgroup| (0..4).map(|_| act(process(60, 5, cgroup))).collect::<Vec<_>>();
    rig.handle(0, burst(7));
    rig.handle(1, burst(8)); // too many wait: the oldest go on without their name
    assert_eq!(rig.summary(), ["pending 7"; 4]);
    rig.handle(0, burst(1));
    rig.handle(0, burst(99)); // of a cgroup without a known path; again too many
    assert_eq!(
        rig.summary(),
        ["host", "host", "host", "host", "pending 8", "pending 8", "pending 8", "pending 8"]
    );
    rig.end(1);
    rig.end(0);
    assert_eq!(rig.summary(), ["host"; 4]); // by their namespaces
    assert_eq!(rig.manager().sizes().3, 0);
    let counts = rig.counters.containers();
    let host = counts[&Owner::Host].events;
    let all: u64 = counts.values().map(|c| c.events).sum();
    assert_eq!((host, all), (8, 16)); // by container: all 16 that came in
    assert_eq!(rig.counters.added.load(Relaxed), 0);
}
