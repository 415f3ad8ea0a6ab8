//! Loads the programs into the running kernel. The tests need root and fail without it:
//! `cargo test -p whalewatch-trackers --features kernel-tests --test kernel`.
#![cfg(feature = "kernel-tests")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{Directory, Drain, Event, Namespaces, Source, Texts};
use whalewatch_trackers::process::What;
use whalewatch_trackers::{
    CgroupEvent, CgroupOptions, CgroupTracker, Kernel, LoadError, ProcessEvent, ProcessOptions,
    ProcessTracker, open,
};

fn open_processes() -> Box<dyn Source<ProcessEvent>> {
    let options = ProcessOptions { include_own: true, ..ProcessOptions::default() };
    Box::new(
        open::<ProcessTracker>(&options, &Directory::default()).unwrap_or_else(|e| panic!("{e}")),
    )
}

/// Detaches, drains all events, and checks that the counts add up.
fn finish<E: Event>(mut source: Box<dyn Source<E>>) -> Vec<E> {
    source.detach();
    let mut events = Vec::new();
    let begun = Instant::now();
    while source.drain(&mut events, 256).expect("the source is intact") != Drain::Ended {
        assert!(begun.elapsed() < Duration::from_secs(5), "a detached source ends");
    }
    let counts = source.counts();
    assert_eq!((counts.lost, counts.invalid), (0, 0));
    assert_eq!(counts.generated, events.len() as u64, "generated = delivered");
    events
}

fn of(events: &[ProcessEvent], pid: u32) -> Vec<&ProcessEvent> {
    events.iter().filter(|event| event.process.pid == pid).collect()
}

fn wait(mut child: Child) -> u32 {
    child.wait().expect("a child can be waited for");
    child.id()
}

fn run(command: &str) -> u32 {
    wait(Command::new("/bin/sh").args(["-c", command]).spawn().expect("/bin/sh is there"))
}

#[test]
fn a_process_is_reported_from_fork_to_exit() {
    let source = open_processes();
    let pid = run("exit 3");
    let events = finish(source);
    let events = of(&events, pid);
    let kinds: Vec<_> = events.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, ["process.fork", "process.exec", "process.exit"]);
    assert!(events.is_sorted_by_key(|event| event.time));
    for event in &events {
        assert_eq!(event.process.parent_pid, std::process::id());
        assert_eq!(event.process.key(), events[0].process.key());
        assert_eq!(event.process.parent_key(), events[0].process.parent_key());
    }
    let What::Executed(executed) = &events[1].what else { panic!("{:?}", events[1]) };
    assert_eq!(&executed.path[..], b"/bin/sh");
    let args: Vec<_> = Texts(&executed.args).iter().collect();
    assert_eq!(args, [&b"/bin/sh"[..], b"-c", b"exit 3"]);
    assert_eq!((executed.args_count, events[1].process.comm()), (3, &b"sh"[..]));
    assert_eq!((events[2].exit_code(), events[2].exit_signal()), (Some(3), None));
}

#[test]
fn an_exit_by_a_signal_is_reported() {
    let source = open_processes();
    let pid = run("kill -9 $$");
    let events = finish(source);
    let last = of(&events, pid).last().copied().expect("the process exited");
    assert_eq!((last.exit_signal(), last.exit_code()), (Some(9), None));
}

#[test]
fn long_arguments_are_cut_and_flagged() {
    let source = open_processes();
    let long = "x".repeat(10_000);
    let pid = wait(Command::new("/bin/true").arg(&long).spawn().expect("/bin/true is there"));
    let events = finish(source);
    let exec = of(&events, pid).into_iter().find_map(|event| match &event.what {
        What::Executed(executed) => Some(executed.clone()),
        _ => None,
    });
    let exec = exec.expect("the program was executed");
    assert!(exec.args_truncated && !exec.path_truncated);
    assert_eq!((exec.args.len(), exec.args_total), (4096, 10_000 + 11));
}

#[test]
fn threads_are_not_processes() {
    let source = open_processes();
    let own = std::process::id();
    for _ in 0..20 {
        thread::spawn(|| ()).join().expect("it does nothing");
    }
    let child = run("exit 0");
    let events = finish(source);
    assert!(!of(&events, child).is_empty(), "children of this process are reported");
    assert!(of(&events, own).is_empty(), "threads are not reported as processes");
}

#[test]
fn existing_processes_are_listed_as_in_proc() {
    let child = Command::new("/bin/sleep").arg("30").spawn().expect("/bin/sleep is there");
    let mut child = Kill(child);
    let pid = child.0.id();
    // The child has this name from its exec on.
    while fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm != "sleep\n") {
        thread::sleep(Duration::from_millis(1));
    }
    let mut source = open_processes();
    let mut events = Vec::new();
    source.existing(&mut events).expect("root can list");
    let found = of(&events, pid);
    assert_eq!(found.len(), 1);
    let process = found[0].process;
    let namespace = |name: &str| {
        fs::metadata(format!("/proc/{pid}/ns/{name}")).expect("/proc is readable").ino() as u32
    };
    let namespaces = Namespaces {
        user: namespace("user"),
        pid: namespace("pid"),
        mnt: namespace("mnt"),
        net: namespace("net"),
    };
    assert_eq!(process.namespaces, namespaces);
    assert_eq!((process.parent_pid, process.comm()), (std::process::id(), &b"sleep"[..]));
    assert_eq!(process.cgroup_id, cgroup_of(pid));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc is readable");
    let ticks: u64 = stat.split(' ').nth(21).and_then(|t| t.parse().ok()).expect("a number");
    assert_eq!(process.start_time / 10_000_000, ticks);
    child.0.kill().expect("a child can be killed");
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Where the default hierarchy is mounted.
fn cgroup_root() -> String {
    let mounts = fs::read_to_string("/proc/mounts").expect("/proc is mounted");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    line.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted").to_owned()
}

fn cgroup_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("/proc is readable");
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).expect("a default hierarchy");
    fs::metadata(format!("{}{path}", cgroup_root())).expect("it is there").ino()
}

#[test]
fn a_cgroup_is_reported_from_mkdir_to_rmdir() {
    let source: Box<dyn Source<CgroupEvent>> = Box::new(
        open::<CgroupTracker>(&CgroupOptions::default(), &Directory::default())
            .unwrap_or_else(|e| panic!("{e}")),
    );
    let processes = open_processes();
    let name = format!("whalewatch-test-{}", std::process::id());
    let folder = format!("{}/{name}", cgroup_root());
    fs::create_dir(&folder).expect("root can make cgroups");
    let id = fs::metadata(&folder).expect("just made").ino();
    let pid = run(&format!("echo $$ > {folder}/cgroup.procs"));
    let removed = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(10));
        fs::remove_dir(&folder).is_ok()
    });
    assert!(removed, "an empty cgroup can be removed");
    let events = finish(source);
    let found: HashMap<_, _> =
        events.iter().filter(|event| event.id == id).map(|event| (event.kind(), event)).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(&found["cgroup.mkdir"].path[..], format!("/{name}").as_bytes());
    assert_eq!(found["cgroup.rmdir"].level, 1);
    let processes = finish(processes);
    let last = of(&processes, pid).last().copied().expect("the process exited");
    let moved = whalewatch_core::Change::Moved { process: last.process.key(), to: id };
    assert_eq!(found["cgroup.attach"].change(), Some(moved));
    assert_eq!(last.process.cgroup_id, id);
}

#[test]
fn a_full_ring_counts_every_loss() {
    let options = ProcessOptions { ring_kib: 64, include_own: true, ..ProcessOptions::default() };
    let mut source =
        open::<ProcessTracker>(&options, &Directory::default()).unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..400 {
        wait(Command::new("/bin/true").spawn().expect("/bin/true is there"));
    }
    source.detach();
    let mut events = Vec::new();
    while source.drain(&mut events, 256).expect("the source is intact") != Drain::Ended {}
    let counts = source.counts();
    assert!(counts.lost > 0, "64 KiB is too small for 1200 records");
    assert_eq!(counts.generated, events.len() as u64 + counts.lost);
    assert_eq!(counts.lost_by_cgroup.values().sum::<u64>(), counts.lost);
}

#[test]
fn two_trackers_open_quickly() {
    let begun = Instant::now();
    let kernel: Result<Arc<Kernel>, LoadError> = Kernel::shared();
    let process = open::<ProcessTracker>(&ProcessOptions::default(), &Directory::default());
    let cgroup = open::<CgroupTracker>(&CgroupOptions::default(), &Directory::default());
    let took = begun.elapsed();
    let errors = [kernel.err(), process.err(), cgroup.err()];
    assert!(errors.iter().all(Option::is_none), "{errors:?}");
    // A release build takes a tenth of a second. A test build is slower, and other tests may run.
    assert!(took < Duration::from_secs(3), "{took:?}");
}
