//! Connections: both ends as each side sees them, every way to fail, and nothing that did not
//! happen.

mod namespaces;
mod sides;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use namespaces::{Link, Namespace};
use serde_json::{Value, json};
use sides::{Place, Side, check, check_error, ends, of_side, only, turned, with};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment, wait};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));
/// The program's path in containers, and files that both sides see.
const IN_CONTAINER: &str = "/workload";
const SHARED: &str = "/shared";
/// How long something that must come may take.
const LIMIT: Duration = Duration::from_secs(30);

const ECONNRESET: i64 = 104;
const EINVAL: i64 = 22;
const ENETUNREACH: i64 = 101;
const ETIMEDOUT: i64 = 110;
const ECONNREFUSED: i64 = 111;
const EINPROGRESS: i64 = 115;

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

fn trace(dir: &Path, options: &str) -> Tracer {
    let trackers = format!("[trackers.network]\ntype = \"network\"\n{options}\n");
    Tracer::run(dir, &config::chain_of(docker().socket(), &trackers, &["network"]))
}

/// Runs a part of the workload in a container without a network but its loopback, to its end.
fn in_container(name: &str, arguments: &[&str]) -> Value {
    let options = ["--network=none", "--sysctl=net.ipv6.conf.all.disable_ipv6=0"];
    WORKLOAD.in_container(&docker(), &environment::image(), name, &options, arguments)
}

/// What a workload printed.
#[track_caller]
fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"))
}

#[test]
fn both_ends_of_a_connection_report_their_own_view() {
    const CONNECTIONS: usize = 3;
    let docker = docker();
    let dir = environment::scratch("network-both");
    let name = "ww-network-both";
    let mut command: Vec<String> =
        ["run", "-d", "--name", name, "--network=none"].map(Into::into).into();
    command.extend(["--sysctl=net.ipv6.conf.all.disable_ipv6=0".into()]);
    command.extend(WORKLOAD.mounts());
    command.extend([environment::image(), "sleep".into(), "300".into()]);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let container = namespaces::Removed { docker: docker.clone(), name: name.into() };
    docker.ok(&command);
    let pid: u32 = docker.ok(&["inspect", "-f", "{{.State.Pid}}", name]).parse().expect("a pid");
    let inside = Namespace::of_process("ww-net-both", pid);
    let link = Link::to_host("wwnet0", "wwnet1", &inside);
    link.address(None, "198.18.7.1/30");
    link.address(None, "2001:db8:7::1/64");
    link.address(Some(&inside), "198.18.7.2/30");
    link.address(Some(&inside), "2001:db8:7::2/64");
    let mut tracer = trace(&dir, "");
    let mut rounds = Vec::new();
    for (address, kind) in [("198.18.7.2:7007", "ipv4"), ("[2001:db8:7::2]:7007", "ipv6")] {
        let server = thread::spawn({
            let docker = docker.clone();
            let count = CONNECTIONS.to_string();
            move || {
                WORKLOAD.exec(&docker, name, &["network", "serve", address, &count, "70000", "3"])
            }
        });
        tracer.wait_for("the server listens", |events| {
            events.iter().find(|event| {
                event.kind() == "network.listen" && event.0["network"]["type"] == kind
            })?;
            Some(())
        });
        let count = CONNECTIONS.to_string();
        let client = WORKLOAD.on_host(&["network", "call", address, &count, "70000", "3"]);
        rounds.push((kind, server.join().expect("the server ends in peace"), client));
    }
    let finished = tracer.stop();
    drop((link, inside, container));
    finished.totals.assert_complete();
    for (kind, server, client) in &rounds {
        let outer = Side { place: Place::Host, report: client };
        let inner = Side { place: Place::Container(name), report: server };
        let listen = only(&finished, inner, "network.listen");
        let expected =
            json!({"transport": "tcp", "type": kind, "local": server["local"], "backlog": 7});
        check(listen, &expected, &[]);
        let (calls, answers) = (&client["connections"], &server["connections"]);
        let sides = [
            (outer, "network.connect", calls, ("/connect/latency_ns", [70_000, 3])),
            (inner, "network.accept", answers, ("/accept/queued_ns", [3, 70_000])),
        ];
        for (side, opens, connections, (waited, [sent, received])) in sides {
            let (opened, closed) =
                (of_side(&finished, side, opens), of_side(&finished, side, "network.close"));
            assert_eq!([opened.len(), closed.len()], [CONNECTIONS; 2], "{side:?}");
            for connection in connections.as_array().expect("connections") {
                let both = ends("tcp", kind, connection);
                let of = |events: &[&Event]| {
                    let ports = |event: &&&Event| {
                        event.0["network"]["local"]["port"] == connection["local"]["port"]
                            && event.0["network"]["peer"]["port"] == connection["peer"]["port"]
                    };
                    (*events.iter().find(ports).expect("an event with these ports")).clone()
                };
                let (open, close) = (of(&opened), of(&closed));
                check(&open, &both, &[(waited, &side.report["elapsed"])]);
                let bytes = json!({"sent_bytes": sent, "received_bytes": received,
                                   "retransmitted_bytes": 0});
                check(&close, &with(both, &bytes), &[("/duration_ns", &side.report["elapsed"])]);
                if matches!(side.place, Place::Host) {
                    assert_eq!(open.0["process"]["tid"], connection["tid"], "{}", open.0);
                    assert_ne!(open.0["process"]["tid"], open.0["process"]["pid"], "a thread");
                }
                assert_eq!((&open.0["error"], &close.0["error"]), (&Value::Null, &Value::Null));
            }
        }
        // What one side calls its own end, the other calls its peer.
        for (call, answer) in
            calls.as_array().into_iter().flatten().zip(answers.as_array().into_iter().flatten())
        {
            assert_eq!(turned(call)["local"], answer["local"]);
        }
    }
}

#[test]
fn refused_connections_are_reported_once_with_error_and_latency() {
    let dir = environment::scratch("network-refused");
    let tracer = trace(&dir, "");
    let name = "ww-network-refused";
    let mut report = Vec::new();
    // The first port, which nobody listens on.
    for (to, kind, address) in [("127.0.0.1:1", "ipv4", "127.0.0.1"), ("[::1]:1", "ipv6", "::1")] {
        report.push((Place::Host, kind, address, WORKLOAD.on_host(&["network", "fail", to])));
        let inside = in_container(name, &["network", "fail", to]);
        report.push((Place::Container(name), kind, address, inside));
    }
    let finished = tracer.stop();
    for (place, kind, address, report) in &report {
        assert_eq!(report["error"], ECONNREFUSED);
        let event = only(&finished, Side { place: *place, report }, "network.connect");
        check_error(event, ECONNREFUSED, "ECONNREFUSED");
        let mut network = event.clone();
        let port = network.0["network"]["local"]["port"].take();
        assert!(port.as_u64().is_some_and(|port| port > 1024), "{}", event.0);
        let expected = json!({
            "transport": "tcp", "type": kind,
            "local": {"address": address, "port": null},
            "peer": {"address": address, "port": 1},
        });
        check(&network, &expected, &[("/connect/latency_ns", &report["elapsed"])]);
    }
    assert!(
        !finished
            .events
            .iter()
            .any(|event| event.kind() == "network.close" && event.container_name() == Some(name)),
        "what never came about does not end"
    );
    finished.totals.assert_complete();
}

#[test]
fn unanswered_connections_time_out_and_unroutable_ones_fail() {
    let dir = environment::scratch("network-timeout");
    let near = Namespace::new("ww-net-near");
    near.ip(&["link", "set", "lo", "up"]);
    let tracer = trace(&dir, "");
    let unreachable = report(&near.exec(WORKLOAD.0, &["network", "fail", "198.18.8.2:80"]));
    let far = Namespace::new("ww-net-far");
    let link = Link::between("wwnet2", &near, "wwnet3", &far);
    link.address(Some(&near), "198.18.8.1/30");
    link.lose(&near, "198.18.8.2");
    near.sysctl("net/ipv4/tcp_syn_retries", "1");
    let timed_out = report(&near.exec(WORKLOAD.0, &["network", "fail", "198.18.8.2:80"]));
    let abandoned = report(&near.exec(WORKLOAD.0, &["network", "abandon", "198.18.8.2:80"]));
    let finished = tracer.stop();
    drop((link, far, near));

    let peer = json!({"address": "198.18.8.2", "port": 80});
    let side = Side { place: Place::Host, report: &unreachable };
    assert_eq!(unreachable["error"], ENETUNREACH);
    let event = only(&finished, side, "network.connect");
    check_error(event, ENETUNREACH, "ENETUNREACH");
    check(event, &json!({"transport": "tcp", "type": "ipv4", "peer": peer}), &[]);

    let side = Side { place: Place::Host, report: &timed_out };
    assert_eq!(timed_out["error"], ETIMEDOUT);
    let event = only(&finished, side, "network.connect");
    check_error(event, ETIMEDOUT, "ETIMEDOUT");
    let local = event.0["network"]["local"].clone();
    assert_eq!(local["address"], "198.18.8.1");
    let both = json!({"transport": "tcp", "type": "ipv4", "local": local, "peer": peer});
    check(event, &both, &[("/connect/latency_ns", &timed_out["elapsed"])]);
    let latency = event.0["network"]["connect"]["latency_ns"].as_u64();
    assert!(latency > Some(1_000_000_000), "a second at least: {}", event.0);
    let again = of_side(&finished, side, "network.retransmit");
    assert!(!again.is_empty(), "the request was sent again");
    for event in again {
        let state = json!({"connection": {"state": "syn_sent"}});
        check(event, &with(both.clone(), &state), &[]);
    }

    let side = Side { place: Place::Host, report: &abandoned };
    assert_eq!(abandoned["error"], EINPROGRESS);
    let event = only(&finished, side, "network.connect");
    assert_eq!(event.0["network"]["connect"]["abandoned"], true, "{}", event.0);
    assert_eq!((&event.0["network"]["peer"], &event.0["error"]), (&peer, &Value::Null));
    finished.totals.assert_complete();
}

#[test]
fn a_nonblocking_connection_is_reported_once() {
    let dir = environment::scratch("network-later");
    let tracer = trace(&dir, "");
    let name = "ww-network-later";
    let outside = WORKLOAD.on_host(&["network", "later", "127.0.0.1:0"]);
    let inside = in_container(name, &["network", "later", "[::1]:0"]);
    let finished = tracer.stop();
    for (place, kind, report) in
        [(Place::Host, "ipv4", outside), (Place::Container(name), "ipv6", inside)]
    {
        let errors = json!([EINPROGRESS, null, EINPROGRESS, ECONNREFUSED]);
        assert_eq!(report["errors"], errors);
        let side = Side { place, report: &report };
        let events = of_side(&finished, side, "network.connect");
        let [open, refused] = events[..] else { panic!("not two: {events:#?}") };
        let latency = [("/connect/latency_ns", &report["elapsed"])];
        check(open, &ends("tcp", kind, &report["open"]), &latency);
        check_error(refused, ECONNREFUSED, "ECONNREFUSED");
        assert_eq!(refused.0["network"]["peer"], report["open"]["peer"]);
    }
    finished.totals.assert_complete();
}

#[test]
fn udp_sockets_are_reported_when_connected() {
    let dir = environment::scratch("network-udp");
    let tracer = trace(&dir, "");
    let name = "ww-network-udp";
    let mut report = Vec::new();
    for (to, kind) in [("127.0.0.1:9", "ipv4"), ("[::1]:9", "ipv6")] {
        report.push((Place::Host, kind, WORKLOAD.on_host(&["network", "udp", to])));
        report.push((Place::Container(name), kind, in_container(name, &["network", "udp", to])));
    }
    let finished = tracer.stop();
    for (place, kind, report) in &report {
        let event = only(&finished, Side { place: *place, report }, "network.connect");
        check(event, &ends("udp", kind, report), &[]);
        assert_eq!(event.0["error"], Value::Null);
    }
    finished.totals.assert_complete();
}

#[test]
fn connections_closed_before_accept_are_reported_at_accept() {
    let dir = environment::scratch("network-queue");
    let tracer = trace(&dir, "");
    let name = "ww-network-queue";
    let unaccepted = [
        (Place::Host, WORKLOAD.on_host(&["network", "unaccepted", "127.0.0.1:0"])),
        (Place::Container(name), in_container(name, &["network", "unaccepted", "127.0.0.1:0"])),
    ];
    let reset = [
        (Place::Host, WORKLOAD.on_host(&["network", "reset", "127.0.0.1:0"])),
        (Place::Container(name), in_container(name, &["network", "reset", "127.0.0.1:0"])),
    ];
    let finished = tracer.stop();
    for (place, report) in &unaccepted {
        let side = Side { place: *place, report };
        only(&finished, side, "network.listen");
        only(&finished, side, "network.connect");
        assert!(of_side(&finished, side, "network.accept").is_empty());
        let close = only(&finished, side, "network.close");
        assert_eq!(close.0["network"]["local"], report["local"], "the one that connected");
    }
    for (place, report) in &reset {
        let side = Side { place: *place, report };
        let accept = only(&finished, side, "network.accept");
        assert_eq!(accept.0["network"]["peer"], report["local"]);
        let closes = of_side(&finished, side, "network.close");
        let [connected, accepted] = closes[..] else { panic!("not two: {closes:#?}") };
        assert_eq!(connected.0["network"]["sent_bytes"], 4);
        assert_eq!(accepted.0["network"]["received_bytes"], 4);
        assert_eq!(accepted.0["network"]["local"], report["peer"]);
        check_error(accepted, ECONNRESET, "ECONNRESET");
        assert!(accepted.0["network"]["duration_ns"].as_u64() > Some(0), "{}", accepted.0);
    }
    finished.totals.assert_complete();
}

#[test]
fn failed_only_reports_only_failures() {
    let dir = environment::scratch("network-failed");
    let tracer = trace(&dir, "scope = { results = \"failed\" }");
    let misuse = WORKLOAD.on_host(&["network", "misuse"]);
    let refused = WORKLOAD.on_host(&["network", "fail", "127.0.0.1:1"]);
    let finished = tracer.stop();
    assert_eq!((&misuse["listen"], &misuse["accept"]), (&json!(EINVAL), &json!(EINVAL)));
    let side = Side { place: Place::Host, report: &misuse };
    for kind in ["network.listen", "network.accept"] {
        let event = only(&finished, side, kind);
        check_error(event, EINVAL, "EINVAL");
        let local = &misuse["ends"]["local"];
        check(event, &json!({"transport": "tcp", "type": "ipv4", "local": local}), &[]);
    }
    for kind in ["network.connect", "network.close"] {
        assert_eq!(of_side(&finished, side, kind).len(), 0, "{kind}");
    }
    let refused = Side { place: Place::Host, report: &refused };
    check_error(only(&finished, refused, "network.connect"), ECONNREFUSED, "ECONNREFUSED");
    finished.totals.assert_complete();
}

#[test]
fn an_earlier_connection_closes_with_container_but_no_process() {
    let docker = docker();
    let dir = environment::scratch("network-older");
    let name = "ww-network-older";
    let shared = format!("--volume={}:{SHARED}", dir.display());
    let mut command = docker.command();
    command.args(["run", "--rm", "--network=none", "--name", name, &shared]);
    command.args(WORKLOAD.mounts()).arg(environment::image()).arg(IN_CONTAINER);
    command.args(["network", "hold", "127.0.0.1:0", "500", "/shared/ready", "/shared/go"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker");
    wait::until("the connection stands", LIMIT, || wait::when(dir.join("ready").exists()));
    let tracer = trace(&dir, "");
    fs::write(dir.join("go"), "").expect("the scratch folder can be written to");
    let held = report(&child.wait_with_output().expect("docker ends"));
    let finished = tracer.stop();
    let closes: Vec<&Event> = finished
        .events
        .iter()
        .filter(|event| {
            event.kind() == "network.close" && event.0["network"]["namespace"] == held["namespace"]
        })
        .collect();
    assert_eq!(closes.len(), 2, "{closes:#?}");
    let bytes = |sent: u64, received: u64| {
        json!({"sent_bytes": sent, "received_bytes": received,
        "retransmitted_bytes": 0})
    };
    for (both, bytes) in [
        (ends("tcp", "ipv4", &held), bytes(500, 0)),
        (ends("tcp", "ipv4", &turned(&held)), bytes(0, 500)),
    ] {
        let close = closes.iter().find(|event| event.0["network"]["local"] == both["local"]);
        let close = close.expect("an event of each end");
        check(close, &with(both, &bytes), &[]);
        assert_eq!(close.container_name(), Some(name), "{}", close.0);
        assert_eq!(close.0["process"], Value::Null, "{}", close.0);
    }
    finished.totals.assert_complete();
}

#[test]
fn retransmitted_segments_belong_to_their_sender() {
    const BYTES: usize = 1000;
    let dir = environment::scratch("network-again");
    let (near, far) = (Namespace::new("ww-net-from"), Namespace::new("ww-net-to"));
    let link = Link::between("wwnet4", &near, "wwnet5", &far);
    link.address(Some(&near), "198.18.9.1/30");
    link.address(Some(&far), "198.18.9.2/30");
    let mut tracer = trace(&dir, "");
    let receive = BYTES.to_string();
    let server =
        far.command(WORKLOAD.0, &["network", "serve", "198.18.9.2:7009", "1", &receive, "0"]);
    let server = spawn(server);
    tracer.wait_for("the server listens", |events| {
        events.iter().find(|e| e.0["network"]["local"]["port"] == 7009).map(|_| ())
    });
    let go = dir.join("go");
    let go_text = go.display().to_string();
    let client =
        near.command(WORKLOAD.0, &["network", "send", "198.18.9.2:7009", &receive, &go_text]);
    let client = spawn(client);
    tracer.wait_for("the connection stands", |events| {
        let accepted = |event: &&Event| {
            event.kind() == "network.accept" && event.0["network"]["local"]["port"] == 7009
        };
        events.iter().find(accepted).map(|_| ())
    });
    link.lose(&near, "198.18.9.2");
    fs::write(&go, "").expect("the scratch folder can be written to");
    tracer.wait_for("a segment was sent again", |events| {
        events.iter().find(|event| event.kind() == "network.retransmit").map(|_| ())
    });
    link.find(&near, "198.18.9.2");
    let sent = report(&client.wait_with_output().expect("the client ends"));
    let served = report(&server.wait_with_output().expect("the server ends"));
    let finished = tracer.stop();
    drop((link, near, far));
    let side = Side { place: Place::Host, report: &sent };
    let both = ends("tcp", "ipv4", &sent);
    let again = of_side(&finished, side, "network.retransmit");
    assert!(!again.is_empty());
    for event in again {
        let mut event = event.clone();
        let state = event.0["network"]["connection"]["state"].take();
        // The client has said that it sends no more as soon as it had sent.
        assert!(state == "fin_wait_1" || state == "established", "{state}");
        check(&event, &with(both.clone(), &json!({"connection": {"state": null}})), &[]);
    }
    let close = only(&finished, side, "network.close");
    assert_eq!(close.0["network"]["sent_bytes"], BYTES, "each once: {}", close.0);
    let more = close.0["network"]["retransmitted_bytes"].as_u64();
    assert!(more >= Some(BYTES as u64), "{}", close.0);
    let served = Side { place: Place::Host, report: &served };
    assert_eq!(only(&finished, served, "network.close").0["network"]["received_bytes"], BYTES);
    finished.totals.assert_complete();
}

#[test]
fn retransmitted_answers_belong_to_the_listener() {
    let dir = environment::scratch("network-answer");
    let (near, far) = (Namespace::new("ww-net-asks"), Namespace::new("ww-net-hears"));
    let link = Link::between("wwnet6", &near, "wwnet7", &far);
    link.address(Some(&near), "198.18.10.1/30");
    link.address(Some(&far), "198.18.10.2/30");
    near.sysctl("net/ipv4/tcp_syn_retries", "1");
    let mut tracer = trace(&dir, "");
    let at = "198.18.10.2:7010";
    let mut server = spawn(far.command(WORKLOAD.0, &["network", "serve", at, "1", "1", "0"]));
    tracer.wait_for("the server listens", |events| {
        events.iter().find(|e| e.0["network"]["local"]["port"] == 7010).map(|_| ())
    });
    link.lose(&far, "198.18.10.1");
    let asked = report(&near.exec(WORKLOAD.0, &["network", "fail", at]));
    // By then the server has answered twice: to a request, and to the same once more, or by itself.
    let again = tracer.wait_for("the answer was sent again", |events| {
        let of_server = |event: &&Event| {
            event.kind() == "network.retransmit" && event.0["process"]["pid"] == server.id()
        };
        events.iter().find(of_server).cloned()
    });
    server.kill().expect("our own child can be killed");
    server.wait().expect("our own child");
    let finished = tracer.stop();
    drop((link, near, far));
    assert_eq!(asked["error"], ETIMEDOUT);
    let connect =
        only(&finished, Side { place: Place::Host, report: &asked }, "network.connect").clone();
    let ends = turned(&connect.0["network"]);
    let expected = json!({
        "transport": "tcp", "type": "ipv4", "local": ends["local"], "peer": ends["peer"],
        "connection": {"state": "syn_received"},
    });
    check(&again, &expected, &[]);
    assert_eq!(again.state(), "host");
    let accepted = |event: &&Event| event.0["network"]["local"]["port"] == 7010;
    let kinds: Vec<&str> = finished.events.iter().filter(accepted).map(Event::kind).collect();
    assert!(!kinds.contains(&"network.accept") && !kinds.contains(&"network.close"), "{kinds:?}");
    finished.totals.assert_complete();
}

#[test]
fn a_scope_of_containers_excludes_the_host() {
    let dir = environment::scratch("network-scope");
    let name = "ww-network-scope";
    let tracer = trace(&dir, &format!("scope = {{ containers = [\"{name}\"] }}"));
    let outside = WORKLOAD.on_host(&["network", "later", "127.0.0.1:0"]);
    let another = in_container("ww-network-another", &["network", "later", "127.0.0.1:0"]);
    let inside = in_container(name, &["network", "later", "127.0.0.1:0"]);
    let finished = tracer.stop();
    let kinds = |event: &Event| event.kind().starts_with("network.");
    let all = finished.events.iter().filter(|event| kinds(event)).count();
    let inside = Side { place: Place::Container(name), report: &inside };
    let of_inside = |kind| of_side(&finished, inside, kind).len();
    assert_eq!(
        [of_inside("network.listen"), of_inside("network.connect"), of_inside("network.close")],
        [1, 2, 1]
    );
    assert_eq!(all, 4, "nothing of {} and {}", outside["pid"], another["pid"]);
    finished.totals.assert_complete();
}

fn spawn(mut command: Command) -> std::process::Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the workload can be started")
}
