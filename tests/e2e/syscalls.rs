//! System calls: counted exactly, in whichever container, and chosen ones one by one.

use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

#[test]
fn a_containers_calls_are_counted_exactly_and_chosen_ones_told_one_by_one() {
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
    for (told, state) in [(&inside, "resolved"), (&outside, "host")] {
        let stats = events("syscall.stats", state, "getppid");
        assert_eq!(told["getppid"].as_u64(), Some(sum(&stats, "count")), "{state}");
        assert_eq!(sum(&stats, "errors"), 0);
        let stats = events("syscall.stats", state, "rmdir");
        assert_eq!(told["rmdir"].as_u64(), Some(sum(&stats, "count")), "{state}");
        assert_eq!(told["rmdir"].as_u64(), Some(sum(&stats, "errors")), "{state}");
        for event in &stats {
            let types = &event.0["syscall"]["errors_by_type"];
            assert_eq!(types[0], format!("ENOENT={}", event.0["syscall"]["count"]));
            if state == "resolved" {
                assert_eq!(event.0["container"]["name"], "syscalls-e2e");
            }
        }
        let calls = events("syscall.call", state, "rmdir");
        assert_eq!(told["rmdir"].as_u64(), Some(calls.len() as u64), "{state}");
        for event in calls {
            assert_eq!(event.0["process"]["comm"], "workload");
            assert_eq!(event.0["syscall"]["result"], -2);
            assert_eq!(event.0["error"]["type"], "ENOENT");
            assert_eq!(event.0["syscall"]["arguments"].as_array().map(Vec::len), Some(6));
        }
        let sleeps = events("syscall.stats", state, "clock_nanosleep");
        let bucket = |event: &&Event| event.0["syscall"]["latency"]["histogram"].to_string();
        let found: Vec<_> = sleeps.iter().map(bucket).collect();
        assert!(found.iter().any(|text| text.contains("\"16777216=1\"")), "{found:?}");
    }
    finished.totals.assert_complete();
}
