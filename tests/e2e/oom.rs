//! Memory that runs out: who is killed, in which container, and at which limit.

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::memory::Cgroup;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::{config, environment};

const LIMIT: u64 = 32 << 20;

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn tracer(test: &str) -> Tracer {
    let trackers = "[trackers.oom]\ntype = \"oom\"\n";
    let dir = environment::scratch(test);
    Tracer::run(&dir, &config::chain_of(docker().socket(), trackers, &["oom"]))
}

#[track_caller]
fn only_kill(finished: &Finished) -> Value {
    let kills: Vec<_> = finished.events.iter().filter(|e| e.kind() == "oom.kill").collect();
    assert_eq!(kills.len(), 1, "{kills:?}");
    finished.totals.assert_complete();
    kills[0].0.clone()
}

/// What is told of a `tail /dev/zero`, which keeps in memory what it reads: all of it is its own.
#[track_caller]
fn check(event: &Value) {
    let oom = &event["oom"];
    let bytes = |key: &str| oom[key].as_u64().unwrap_or_default();
    assert_eq!(event["process"]["comm"], "tail", "{event}");
    assert_eq!(bytes("limit_bytes"), LIMIT, "{event}");
    // All that counts for the limit is used, but for what other CPUs have taken in advance.
    assert!(bytes("usage_bytes") > LIMIT - (2 << 20) && bytes("usage_bytes") <= LIMIT, "{event}");
    // What the kernel keeps for it counts as well: its page tables, the pages of its files.
    let own = bytes("anonymous_bytes");
    assert!(own > LIMIT * 6 / 10 && own <= LIMIT, "{event}");
    assert!(bytes("total_bytes") > own, "{event}");
    assert_eq!(bytes("shared_bytes") + bytes("swap_bytes"), 0, "{event}");
    assert!(bytes("file_bytes") < 4 << 20, "{event}");
    assert_eq!(oom["score_adjustment"], 0, "{event}");
    assert_eq!(oom["trigger"]["comm"], "tail", "{event}");
    assert_eq!(oom["trigger"]["pid"], event["process"]["pid"], "{event}");
}

#[test]
fn a_container_beyond_its_memory_limit_is_reported() {
    let tracer = tracer("oom-inside");
    let image = environment::image();
    let limit = format!("--memory={LIMIT}");
    let run = ["run", "--rm", "--name", "oom-inside", &limit, "--memory-swap", &LIMIT.to_string()];
    let run = [&run[..], &[&image, "tail", "/dev/zero"]].concat();
    assert!(docker().run(&run).is_err(), "it is killed");
    let event = only_kill(&tracer.stop());
    check(&event);
    assert_eq!(event["container"]["name"], "oom-inside");
    assert_eq!(event["attribution"]["state"], "resolved");
    assert_eq!(event["process"]["vpid"], 1);
}

#[test]
fn a_host_process_beyond_its_memory_limit_is_reported() {
    let tracer = tracer("oom-host");
    let cgroup = Cgroup::make("whalewatch-test-oom", LIMIT).expect("a memory cgroup");
    let mut child = cgroup.hog().spawn().expect("busybox");
    let pid = child.id();
    assert!(!child.wait().expect("our own child").success(), "it is killed");
    let event = only_kill(&tracer.stop());
    check(&event);
    assert_eq!(event["process"]["pid"], pid);
    assert_eq!(event["attribution"]["state"], "host");
}
