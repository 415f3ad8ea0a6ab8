//! System calls: counted exactly, in whichever container, and chosen ones one by one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment, wait};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

#[test]
fn calls_are_counted_exactly_and_selected_ones_reported() {
    let docker = Docker::at(&environment::docker_socket());
    let trackers = "[trackers.syscalls]\ntype = \"syscalls\"\ncalls = [\"rmdir\"]\n\
                    scope = { comms = [\"workload\"] }\n";
    let dir = environment::scratch("syscalls");
    let tracer = Tracer::run(&dir, &config::chain_of(docker.socket(), trackers, &["syscalls"]));
    let arguments = ["syscalls", "10000", "250"];
    let image = environment::image();
    let inside = WORKLOAD.in_container(&docker, &image, "syscalls-e2e", &[], &arguments);
    let outside = WORKLOAD.on_host(&arguments);
    let finished = tracer.stop();
    let events = |kind: &str, state: &str, name: &str| -> Vec<&Event> {
        let of_ours = |event: &&Event| {
            event.kind() == kind && event.state() == state && event.0["syscall"]["name"] == name
        };
        finished.events.iter().filter(of_ours).collect()
    };
    let sum = |events: &[&Event], field: &str| -> u64 {
        events.iter().filter_map(|event| event.0["syscall"][field].as_u64()).sum()
    };
    for (report, state) in [(&inside, "resolved"), (&outside, "host")] {
        let stats = events("syscall.stats", state, "getppid");
        assert_eq!(report["getppid"].as_u64(), Some(sum(&stats, "count")), "{state}");
        assert_eq!(sum(&stats, "errors"), 0);
        let stats = events("syscall.stats", state, "rmdir");
        assert_eq!(report["rmdir"].as_u64(), Some(sum(&stats, "count")), "{state}");
        assert_eq!(report["rmdir"].as_u64(), Some(sum(&stats, "errors")), "{state}");
        for event in &stats {
            let types = &event.0["syscall"]["errors_by_type"];
            assert_eq!(types[0], format!("ENOENT={}", event.0["syscall"]["count"]));
            if state == "resolved" {
                assert_eq!(event.0["container"]["name"], "syscalls-e2e");
            }
        }
        let calls = events("syscall.call", state, "rmdir");
        assert_eq!(report["rmdir"].as_u64(), Some(calls.len() as u64), "{state}");
        for event in calls {
            assert_eq!(event.0["process"]["comm"], "workload");
            assert_eq!(event.0["syscall"]["result"], -2);
            assert_eq!(event.0["error"]["type"], "ENOENT");
            assert_eq!(event.0["error"]["code"], 2);
            assert_eq!(event.0["syscall"]["number"], 84);
            assert!(event.0["syscall"]["latency_ns"].as_u64() > Some(0));
            assert_eq!(event.0["syscall"]["arguments"].as_array().map(Vec::len), Some(6));
        }
        let sleeps = events("syscall.stats", state, "clock_nanosleep");
        let bucket = |event: &&Event| event.0["syscall"]["latency"]["histogram"].to_string();
        let found: Vec<_> = sleeps.iter().map(bucket).collect();
        assert!(found.iter().any(|text| text.contains("\"16777216=1\"")), "{found:?}");
    }
    finished.totals.assert_complete();
}

/// The workload stops in a new cgroup before watching begins, and `strace` attaches to it there, so
/// that both see the same calls.
#[test]
fn counts_and_errors_equal_those_of_strace() {
    let docker = Docker::at(&environment::docker_socket());
    let root = whalewatch_tests::cgroup::mount_point().expect("a cgroup2 mount");
    let cgroup = root.join(format!("syscalls-e2e-{}", std::process::id()));
    fs::create_dir(&cgroup).expect("a cgroup");
    let id = fs::metadata(&cgroup).expect("the cgroup").ino();
    let script = "echo $$ > \"$0/cgroup.procs\"; kill -STOP $$; /bin/true; /bin/true; exec \"$@\"";
    let mut sh = Command::new("sh");
    sh.args(["-c", script]).arg(&cgroup).args([WORKLOAD.0, "syscalls", "5000", "500"]);
    let mut child = sh.stdout(Stdio::null()).spawn().expect("sh");
    let status = format!("/proc/{}/status", child.id());
    let until_it_says = |text: &str| {
        wait::until(text, Duration::from_secs(30), || {
            wait::when(fs::read_to_string(&status).expect("a status").contains(text))
        });
    };
    until_it_says("State:\tT");
    let dir = environment::scratch("syscalls-strace");
    let trackers = "[trackers.syscalls]\ntype = \"syscalls\"\n";
    let tracer = Tracer::run(&dir, &config::chain_of(docker.socket(), trackers, &["syscalls"]));
    let summary = std::env::temp_dir().join(format!("syscalls-e2e-{}.strace", std::process::id()));
    let pid = child.id().to_string();
    let mut strace = Command::new("strace");
    let mut strace =
        strace.args(["-c", "-f", "-p", &pid, "-o"]).arg(&summary).spawn().expect("strace");
    until_it_says(&format!("TracerPid:\t{}\n", strace.id()));
    let continued = Command::new("kill").args(["-CONT", &pid]).status().expect("kill");
    assert!(continued.success());
    assert!(child.wait().expect("the workload").success());
    assert!(strace.wait().expect("strace").success());
    let finished = tracer.stop();
    fs::remove_dir(&cgroup).expect("an empty cgroup");
    let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
    for event in finished.events.iter().filter(|e| e.0["cgroup"]["id"] == id) {
        let call = &event.0["syscall"];
        let sums: &mut (u64, u64) =
            ours.entry(call["name"].as_str().expect("a name").to_owned()).or_default();
        sums.0 += call["count"].as_u64().expect("a count");
        sums.1 += call["errors"].as_u64().expect("errors");
    }
    for line in fs::read_to_string(&summary).expect("a summary").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(Ok(count)) = words.get(3).map(|word| word.parse::<u64>()) else { continue };
        let (name, errors) = match words[4..] {
            [name] => (name, 0),
            [errors, name] => (name, errors.parse().expect("errors")),
            _ => continue,
        };
        if name != "total" {
            theirs.insert(name.to_owned(), (count, errors));
        }
    }
    drop(fs::remove_file(&summary));
    assert!(theirs["getppid"].0 >= 20_000);
    assert_eq!(ours, theirs);
}
