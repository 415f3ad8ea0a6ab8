//! Privileges: every call with what was before and after, against what the process itself reads in
//! `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::{Value, json};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::workload::{Workload, report};
use whalewatch_tests::{config, environment};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));
/// Capabilities by number, as far as the workload takes and loses them.
const CAPABILITIES: [(u32, &str); 2] = [(0, "CAP_CHOWN"), (5, "CAP_KILL")];

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn tracer(test: &str, options: &str) -> Tracer {
    let trackers = format!("[trackers.privilege]\ntype = \"privilege\"\n{options}\n");
    let dir = environment::scratch(test);
    Tracer::run(&dir, &config::chain_of(docker().socket(), &trackers, &["privilege"]))
}

/// Returns the privilege events of the reporting process, in their order. In a container it knows
/// its pid there.
fn events_of(finished: &Finished, done: &Value, container: Option<&str>) -> Vec<Value> {
    let ours = finished.events.iter().filter(|event| {
        let pid = if container.is_some() { "vpid" } else { "pid" };
        event.kind().starts_with("privilege.")
            && event.0["process"][pid] == done["pid"]
            && event.container_name() == container
            // In a container it was the runtime's program before.
            && event.0["process"]["comm"] == "workload"
            && event.0["process"]["start_time"].as_u64().map(|ns| ns / 10_000_000)
                == done["start_time"].as_u64()
    });
    // The event of the process's creation is in the parent's child.
    ours.filter(|event| event.0["privilege"]["call"] != "execve")
        .map(|event| event.0.clone())
        .collect()
}

/// The numbers in a state, by dotted names.
fn leaves(state: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
        let Value::Object(parts) = value else {
            out.insert(path.to_owned(), value.clone());
            return;
        };
        for (name, part) in parts {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(&path, part, out);
        }
    }
    let mut out = BTreeMap::new();
    if !state.is_null() {
        walk("", state, &mut out);
    }
    out
}

/// Asserts that everything in `expected` is in `found`.
#[track_caller]
fn assert_contains(found: &Value, expected: &Value, event: &Value) {
    for (name, value) in leaves(expected) {
        let path = format!("/{}", name.replace('.', "/"));
        assert_eq!(found.pointer(&path), Some(&value), "{name} in {event}");
    }
}

/// Asserts that an event agrees with the process's own report of a step.
#[track_caller]
fn assert_step(event: &Value, step: &Value) {
    let privilege = &event["privilege"];
    assert_eq!((&event["kind"], &privilege["call"]), (&step["kind"], &step["call"]), "{event}");
    assert_contains(event, &step["expected"], event);
    let result = step["result"].as_i64().expect("a result");
    // `setfsuid` gives what was before.
    if result < 0 {
        assert_eq!(event["error"]["code"].as_i64(), Some(-result), "{event}");
        assert!(
            event["error"]["type"].as_str().is_some_and(|name| name.starts_with('E')),
            "{event}"
        );
    } else {
        assert_eq!(event["error"], Value::Null, "{event}");
    }
    let (before, after) = (leaves(&step["before"]), leaves(&step["after"]));
    let (told_before, told_after) = (leaves(&privilege["before"]), leaves(&privilege["after"]));
    let about = |name: &String| {
        step["about"].as_array().is_some_and(|names| names.iter().any(|about| about == name))
    };
    let expected = before.keys().filter(|name| about(name) || before[*name] != after[*name]);
    let expected: Vec<&String> = expected.collect();
    assert_eq!(told_before.keys().collect::<Vec<_>>(), expected, "{event} {step}");
    assert_eq!(told_after.keys().collect::<Vec<_>>(), expected, "{event} {step}");
    for name in expected {
        assert_eq!(told_before[name], before[name], "{name} before: {event}");
        if after[name].is_null() {
            // A pid namespace that has no process yet cannot be looked at.
            assert_ne!(told_after[name], before[name], "{name} after: {event}");
        } else {
            assert_eq!(told_after[name], after[name], "{name} after: {event}");
        }
    }
    if step["before"].is_null() || step["call"] == "setgroups" {
        return;
    }
    assert_eq!(privilege["changed"], Value::from(before != after), "{event}");
    let effective = |state: &BTreeMap<String, Value>| state["capabilities.effective"].as_u64();
    let (before, after) = (effective(&before).unwrap(), effective(&after).unwrap());
    for (number, name) in CAPABILITIES {
        let listed = |list: &str| {
            privilege[list].as_array().is_some_and(|names| names.iter().any(|known| known == name))
        };
        assert_eq!(listed("gained"), (after & !before) >> number & 1 != 0, "{name} in {event}");
        assert_eq!(listed("lost"), (before & !after) >> number & 1 != 0, "{name} in {event}");
    }
    let count = |list: &str| privilege[list].as_array().map_or(0, Vec::len) as u32;
    assert_eq!(count("gained"), (after & !before).count_ones(), "{event}");
    assert_eq!(count("lost"), (before & !after).count_ones(), "{event}");
}

#[track_caller]
fn assert_tour(finished: &Finished, done: &Value, container: Option<&str>) {
    let steps = done["done"].as_array().expect("a list of steps");
    let events = events_of(finished, done, container);
    for (event, step) in events.iter().zip(steps) {
        assert_step(event, step);
    }
    assert_eq!(events.len(), steps.len(), "{events:#?}");
    let state = if container.is_some() { "resolved" } else { "host" };
    assert!(events.iter().all(|event| event["attribution"]["state"] == state));
    // Who is reached into, or made, is in the same container.
    for event in events.iter().filter(|event| !event["privilege"]["target"].is_null()) {
        assert_eq!(event["target"]["container"]["name"].as_str(), container, "{event}");
        assert!(
            event["privilege"]["target"]["cgroup_id"] == event["process"]["cgroup_id"],
            "{event}"
        );
        assert!(
            event["privilege"]["target"]["tid"] == event["privilege"]["target"]["pid"],
            "{event}"
        );
        assert!(
            event["privilege"]["target"]["start_time"]
                .as_u64()
                .is_some_and(|time| { time >= event["process"]["start_time"].as_u64().unwrap() })
        );
    }
    // Threads, of which only the first has the process's id.
    assert!(events.iter().any(|event| event["process"]["tid"] != event["process"]["pid"]));
}

/// How a step of this call ended.
fn result(done: &Value, call: &str) -> i64 {
    let steps = done["done"].as_array().expect("a list of steps");
    let step = steps.iter().find(|step| step["call"] == call).expect("such a step");
    step["result"].as_i64().expect("a result")
}

#[test]
fn privilege_calls_report_before_and_after_everywhere() {
    let (docker, image) = (docker(), environment::image());
    let tracer = tracer("privilege-tour", "");
    let host = WORKLOAD.on_host(&["privilege", "tour"]);
    let name = "privilege-refused";
    let refused = WORKLOAD.in_container(&docker, &image, name, &[], &["privilege", "tour"]);
    let name = "privilege-allowed";
    // Not `--privileged`: that asks for capabilities which the machine itself may lack.
    let options =
        ["--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--security-opt=seccomp=unconfined"];
    let allowed = WORKLOAD.in_container(&docker, &image, name, &options, &["privilege", "tour"]);
    let finished = tracer.stop();
    for call in ["unshare", "setns", "clone3", "bpf"] {
        assert!(result(&host, call) >= 0 && result(&allowed, call) >= 0, "{call}");
        // A container's system call filter may say that there is no such call.
        assert!(result(&refused, call) < 0, "{call}");
    }
    assert_tour(&finished, &host, None);
    assert_tour(&finished, &refused, Some("privilege-refused"));
    assert_tour(&finished, &allowed, Some("privilege-allowed"));
    finished.totals.assert_complete();
}

#[test]
fn a_user_namespace_grants_every_capability_in_it() {
    let tracer = tracer("privilege-user", "credentials = false");
    let mut command = WORKLOAD.command(&["privilege", "user-namespace"]);
    let output = command.uid(1000).gid(1000).output().expect("the workload can be started");
    let done = report(&["privilege", "user-namespace"], &output);
    let finished = tracer.stop();
    let events = events_of(&finished, &done, None);
    assert_eq!(events.len(), 1, "{events:?}");
    let privilege = &events[0]["privilege"];
    let step = &done["done"][0];
    assert_eq!(step["result"], 0);
    let sets = ["effective", "permitted"].map(|set| &step["after"]["capabilities"][set]);
    assert_eq!(sets.map(Value::as_u64), [Some((1 << 41) - 1); 2]);
    // In there it has no ids that anyone has mapped; the event has the host's.
    for state in ["before", "after"] {
        let number = &privilege[state]["namespaces"]["user"];
        assert_eq!(number, &step[state]["namespaces"]["user"]);
        for set in ["effective", "permitted"] {
            let bits = &privilege[state]["capabilities"][set];
            assert_eq!(bits, &step[state]["capabilities"][set], "{set} {state}");
        }
    }
    assert_eq!(privilege["gained"].as_array().map(Vec::len), Some(41));
    assert_eq!(privilege["after"].get("uid"), None, "{privilege}");
    assert_eq!(events[0]["process"]["user"]["id"], 1000);
}

#[test]
fn a_host_process_that_enters_a_container_stays_on_the_host() {
    let container = docker().start("privilege-entered", &environment::image(), &["sleep", "600"]);
    let pid = container.first_pid();
    let tracer = tracer("privilege-enter", "");
    let done = WORKLOAD.on_host(&["privilege", "enter", &pid.to_string()]);
    let finished = tracer.stop();
    let events = events_of(&finished, &done, None);
    let steps = done["done"].as_array().expect("a list of steps");
    assert_eq!((events.len(), steps.len()), (3, 3), "{events:?}");
    for ((event, step), kind) in events.iter().zip(steps).zip(["uts", "net", "ipc"]) {
        assert_step(event, step);
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("the container runs");
        let number = &event["privilege"]["requested"]["namespace"];
        assert_eq!(link.to_str(), Some(&*format!("{kind}:[{number}]")));
        assert_eq!(&event["privilege"]["after"]["namespaces"][kind], number);
        assert_eq!(event["container"], Value::Null);
    }
}

#[test]
fn a_setuid_program_is_reported_when_it_runs() {
    let tracer = tracer("privilege-exec", "namespaces = false");
    // Where every user may go.
    let dir = environment::scratch("privilege-program");
    let program = dir.join("privileged");
    fs::copy(WORKLOAD.0, &program).expect("the program can be copied");
    let (owner, all) = (fs::Permissions::from_mode(0o4755), fs::Permissions::from_mode(0o755));
    fs::set_permissions(&program, owner).expect("its permissions can be set");
    fs::set_permissions(&dir, all).expect("its folder's permissions can be set");
    let output = Command::new(&program).args(["privilege", "state"]).uid(1000).gid(1000).output();
    let done = report(&["privilege", "state"], &output.expect("the program can be run"));
    let finished = tracer.stop();
    assert_eq!((&done["state"]["uid"], &done["state"]["euid"]), (&json!(1000), &json!(0)));
    let mut runs = finished.events.iter().filter(|event| {
        event.0["privilege"]["call"] == "execve" && event.0["process"]["pid"] == done["pid"]
    });
    let event = &runs.next().expect("an event").0;
    let privilege = &event["privilege"];
    assert_eq!((&event["kind"], &privilege["changed"]), (&json!("privilege.setuid"), &json!(true)));
    let ids = json!({"euid": 1000, "suid": 1000, "fsuid": 1000});
    assert_contains(&privilege["before"], &ids, event);
    let after = leaves(&done["state"]);
    for (name, value) in leaves(&privilege["after"]) {
        assert_eq!(after[&name], value, "{name} in {event}");
    }
    for name in ["euid", "suid", "fsuid", "capabilities.effective", "capabilities.permitted"] {
        assert!(leaves(&privilege["after"]).contains_key(name), "{name} in {event}");
    }
    assert_eq!(privilege["after"].get("uid"), None, "the real user id is the same: {event}");
    let effective = after["capabilities.effective"].as_u64().map(u64::count_ones);
    let gained = privilege["gained"].as_array().map(|names| names.len() as u32);
    assert_eq!((gained, runs.next().is_none()), (effective, true));
}

#[test]
fn only_selected_kinds_are_reported() {
    let options = "namespaces = false\ncredentials = false\nmodules = false\n\
                   ptrace = \"attach\"\nbpf = \"none\"\nscope.results = \"failed\"";
    let tracer = tracer("privilege-options", options);
    let done = WORKLOAD.on_host(&["privilege", "tour"]);
    let finished = tracer.stop();
    let events = events_of(&finished, &done, None);
    // A process cannot trace its own threads.
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["privilege"]["request"], "PTRACE_SEIZE");
    assert_eq!(events[0]["privilege"]["target_pid"], done["pid"]);
    assert_eq!(events[0]["error"]["type"], "EPERM");
}
