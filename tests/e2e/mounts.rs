//! Mounts: what is mounted where, moved and unmounted, on the host and in a container.

use std::process::Command;

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::workload::{self, Workload};
use whalewatch_tests::{config, environment};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn tracer(test: &str) -> Tracer {
    let trackers = "[trackers.mounts]\ntype = \"mounts\"\n";
    let dir = environment::scratch(test);
    Tracer::run(&dir, &config::chain_of(docker().socket(), trackers, &["mounts"]))
}

/// Compares what the workload did with what was told, field by field.
#[track_caller]
fn check(done: &Value, finished: &Finished, state: &str) -> Vec<Value> {
    let ours = finished.events.iter().filter(|event| {
        event.kind().starts_with("mount.") && event.0["process"]["comm"] == "workload"
    });
    let told: Vec<Value> = ours.map(|event| event.0.clone()).collect();
    let done = done["done"].as_array().expect("a list of what was done");
    assert_eq!(done.len(), told.len(), "{told:?}");
    for (done, told) in done.iter().zip(&told) {
        let mount = &told["mount"];
        assert_eq!(done["kind"], told["kind"], "{told}");
        assert_eq!(told["attribution"]["state"], state, "{told}");
        for key in ["operation", "target", "source", "type", "flags"] {
            if let Some(expected) = done.get(key) {
                assert_eq!(expected, &mount[key], "{key} of {told}");
            }
        }
        let error = match &told["error"] {
            Value::Null => Value::Null,
            error => Value::from(vec![error["code"].clone(), error["type"].clone()]),
        };
        assert_eq!(done.get("error").unwrap_or(&Value::Null), &error, "{told}");
        assert_eq!(mount["target_truncated"], Value::Null, "{told}");
    }
    finished.totals.assert_complete();
    told
}

#[test]
fn mounts_on_the_host_are_reported_exactly() {
    let tracer = tracer("mounts-host");
    let dir = environment::scratch("mounts-host-dir");
    let mut command = Command::new("unshare");
    command.args(["--mount", WORKLOAD.0, "mounts"]).arg(&dir);
    let done = workload::report(&["mounts"], &command.output().expect("unshare can be started"));
    let told = check(&done, &tracer.stop(), "host");
    assert!(told.iter().all(|event| event["process"]["pid"] == done["pid"]));
}

#[test]
fn mounts_in_a_container_belong_to_the_container() {
    let tracer = tracer("mounts-inside");
    let options = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"];
    let options = [&options[..], &["--security-opt=apparmor=unconfined"]].concat();
    let image = environment::image();
    let done =
        WORKLOAD.in_container(&docker(), &image, "mounts-inside", &options, &["mounts", "/tmp"]);
    let told = check(&done, &tracer.stop(), "resolved");
    assert!(told.iter().all(|event| event["container"]["name"] == "mounts-inside"));
    assert!(told.iter().all(|event| event["process"]["vpid"] == done["pid"]));
}
