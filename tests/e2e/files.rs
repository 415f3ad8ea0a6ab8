//! Files: true paths, every change, sums, and nothing lost.

use std::path::Path;

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn tracer(dir: &Path, options: &str) -> Tracer {
    let trackers = format!("[trackers.files]\ntype = \"files\"\n{options}\n");
    Tracer::run(dir, &config::chain_of(docker().socket(), &trackers, &["files"]))
}

/// Returns the reported events of the workload's files, in the form of its report.
fn reported(finished: &Finished, state: &str, part: &str) -> Vec<Value> {
    let ours = |event: &&Event| {
        let file = &event.0["file"];
        let any = |path: &Value| path.as_str().is_some_and(|path| path.contains(part));
        event.state() == state
            && event.0["process"]["comm"] == "workload"
            && (any(&file["path"]) || any(&file["to"]["path"]) || file["path_truncated"] == true)
    };
    finished.events.iter().filter(ours).map(|event| event.0.clone()).collect()
}

/// Compares the workload's report with the reported events, field by field.
#[track_caller]
fn check(done: &Value, reported: &[Value]) {
    let done = done["done"].as_array().expect("a list of what was done");
    let brief = |events: &[Value]| {
        let line = |e: &Value| format!("{} {}\n", e["kind"], e["file"]["path"]);
        events.iter().map(line).collect::<String>()
    };
    assert_eq!(done.len(), reported.len(), "reported:\n{}", brief(reported));
    for (done, reported) in done.iter().zip(reported) {
        check_one(done, reported);
    }
}

#[track_caller]
fn check_one(done: &Value, reported: &Value) {
    let file = &reported["file"];
    let same = |key: &str, found: &Value| {
        if let Some(expected) = done.get(key) {
            assert_eq!(expected, found, "{key} of {reported}");
        }
    };
    same("kind", &reported["kind"]);
    let path =
        (done["path"].as_str().unwrap_or_default(), file["path"].as_str().unwrap_or_default());
    if done["truncated"] == true {
        // The end of the path, whole names.
        assert_eq!(file["path_truncated"], true, "{reported}");
        assert!(path.1.len() > 3800 && path.0.ends_with(path.1), "{reported}");
    } else {
        assert_eq!(path.0, path.1, "{reported}");
        assert_eq!(file["path_truncated"], Value::Null, "{reported}");
    }
    same("source", &file["path_source"]);
    same("access", &file["access"]);
    same("inode", &file["inode"]);
    same(
        "device",
        &Value::from(vec![file["device"]["major"].clone(), file["device"]["minor"].clone()]),
    );
    same("create", &file["create"]);
    same("truncate", &file["truncate"]);
    same("mode", &file["mode"]);
    same("flags", &file["flags"]);
    same("to", &file["to"]["path"]);
    same("owner", &Value::from(vec![file["owner"]["id"].clone(), file["group"]["id"].clone()]));
    same(
        "error",
        &Value::from(vec![reported["error"]["code"].clone(), reported["error"]["type"].clone()]),
    );
    for (key, found) in [
        ("deleted", &file["deleted"]),
        ("symbolic", &file["symbolic_link"]),
        ("directory", &file["directory"]),
    ] {
        assert_eq!(done.get(key).unwrap_or(&Value::Null), found, "{key} of {reported}");
    }
    if done.get("error").is_none() {
        assert_eq!(reported["error"], Value::Null, "{reported}");
    }
}

#[test]
fn file_operations_on_the_host_are_reported_exactly() {
    let dir = environment::scratch("files-host");
    let tracer = tracer(&dir, "");
    let done = WORKLOAD.on_host(&["files", "tour", dir.to_str().expect("text")]);
    let finished = tracer.stop();
    let reported = reported(&finished, "host", "files-host/tour");
    check(&done, &reported);
    let threads = done["done"].as_array().into_iter().flatten().zip(&reported);
    for (done, reported) in threads {
        if let Some(tid) = done.get("tid") {
            assert_eq!(&reported["process"]["tid"], tid, "{reported}");
        }
    }
    assert!(reported.iter().all(|event| event["process"]["pid"] == done["pid"]));
    finished.totals.assert_complete();
}

#[test]
fn paths_are_the_containers_also_through_bind_mounts() {
    let dir = environment::scratch("files-inside");
    let tracer = tracer(&dir, "");
    let data = dir.join("data");
    std::fs::create_dir(&data).expect("the scratch folder can be written to");
    let mount = format!("--volume={}:/mnt/data", data.display());
    let image = environment::image();
    let name = "files-inside";
    let done =
        WORKLOAD.in_container(&docker(), &image, name, &[&mount], &["files", "tour", "/mnt/data"]);
    let finished = tracer.stop();
    let reported = reported(&finished, "resolved", "/mnt/data/tour");
    check(&done, &reported);
    assert!(reported.iter().all(|event| event["container"]["name"] == name));
    assert!(reported.iter().all(|event| event["process"]["vpid"] == done["pid"]));
    finished.totals.assert_complete();
}

#[test]
fn a_path_continues_above_the_root_of_a_process() {
    let dir = environment::scratch("files-chroot");
    let tracer = tracer(&dir, "");
    let done = WORKLOAD.on_host(&["files", "chroot", dir.to_str().expect("text")]);
    let finished = tracer.stop();
    let mut reported = reported(&finished, "host", "files-chroot/root/etc/inside");
    reported.retain(|event| event["file"]["access"] == "read");
    check(&done, &reported);
}

#[test]
fn opens_by_eight_threads_are_all_accounted_for() {
    let dir = environment::scratch("files-threads");
    let file = dir.join("opened-by-threads");
    std::fs::write(&file, "").expect("the scratch folder can be written to");
    let tracer = tracer(&dir, "changes = false\nscope = { comms = [\"workload\"] }");
    let path = file.to_str().expect("text");
    let done = WORKLOAD.on_host(&["files", "open-threads", path, "8", "12500"]);
    let finished = tracer.stop();
    let opens = |path: &str| {
        let of = |event: &&Event| event.0["file"]["path"] == path;
        finished.events.iter().filter(of).count() as u64
    };
    assert_eq!(done["opens"].as_u64(), Some(100_000));
    let total = |counter| finished.totals.tracker("files", counter);
    let delivered = finished.events.len() as u64;
    assert_eq!(total("generated"), delivered + total("lost") + total("refused"));
    // Beside these, the program and its libraries were opened, and what the C library reads of the
    // machine. Each of all these is delivered, or lost and counted.
    let others = (delivered + total("lost")).checked_sub(100_000).expect("every open is counted");
    assert!(others < 100, "{others}");
    assert!(delivered - opens(path) <= others, "no open is reported twice");
}

#[test]
fn a_closed_descriptor_leaves_the_requested_path() {
    let dir = environment::scratch("files-race");
    let file = dir.join("raced-for");
    std::fs::write(&file, "").expect("the scratch folder can be written to");
    let link = dir.join("asked-for");
    std::os::unix::fs::symlink(&file, &link).expect("a link can be made");
    let tracer = tracer(&dir, "changes = false\nscope = { comms = [\"workload\"] }");
    let done = WORKLOAD.on_host(&["files", "race", link.to_str().expect("text"), "500"]);
    let finished = tracer.stop();
    let reported = reported(&finished, "host", "files-race/");
    assert_eq!(Some(reported.len() as u64), done["opens"].as_u64(), "each open is reported once");
    let by = |source: &str| {
        reported.iter().filter(|event| event["file"]["path_source"] == source).collect::<Vec<_>>()
    };
    // Each of the two is the truth that could be had, and is marked as what it is.
    assert!(by("kernel").iter().all(|event| event["file"]["path"] == file.to_str().expect("text")));
    assert!(by("asked").iter().all(|event| event["file"]["path"] == link.to_str().expect("text")));
    assert_eq!(by("kernel").len() + by("asked").len(), reported.len());
    println!("{} of {} were closed before they were resolved", by("asked").len(), reported.len());
    finished.totals.assert_complete();
}

#[test]
fn bytes_are_summed_for_each_process_and_file() {
    let dir = environment::scratch("files-io");
    let file = dir.join("summed");
    let tracer = tracer(&dir, "io = true\nopens = false\nchanges = false\ninterval = \"200ms\"");
    let path = file.to_str().expect("text");
    let done = WORKLOAD.on_host(&["files", "io", path]);
    let finished = tracer.stop();
    let events = reported(&finished, "host", "files-io/summed");
    assert!(!events.is_empty(), "nothing was summed");
    for key in ["written_bytes", "writes", "read_bytes", "reads"] {
        let sum: u64 = events.iter().filter_map(|e| e["file"]["io"][key].as_u64()).sum();
        assert_eq!(Some(sum), done[key].as_u64(), "{key}");
    }
    assert!(events.iter().all(|e| e["kind"] == "file.io" && e["process"]["pid"] == done["pid"]));
    finished.totals.assert_complete();
}
