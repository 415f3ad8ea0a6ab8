//! Rules: what containers do out of the ordinary is told, with its container, and ordinary life is
//! not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whalewatch_tests::docker::{Container, Docker};
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::{environment, wait};

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// A chain of all trackers through the rules.
fn config(rules: &str) -> String {
    format!(
        r#"
[container]
endpoint = "unix://{}"
hold = "2s"

[handlers.detect]
type = "rules"
order = "2500ms"
{rules}

[handlers.out]
type = "stdout"
format = "json"

[[chains]]
from = ["process", "files", "network", "privilege", "mounts", "signals", "oom"]
through = ["container", "detect", "out"]
"#,
        docker().socket().display()
    )
}

/// Runs a command in a container; how it ends is its own affair.
#[track_caller]
fn exec(container: &Container, command: &[&str]) {
    let mut exec = docker().command();
    exec.args(["exec", "-i", &container.name]).args(command).stdin(Stdio::null());
    exec.output().expect("docker can be started");
}

/// The alerts about a container, in their order.
fn alerts<'a>(events: &'a [Event], container: &str) -> Vec<&'a Value> {
    let of = |event: &&Event| event.kind() == "alert" && event.container_name() == Some(container);
    events.iter().filter(of).map(|event| &event.0).collect()
}

fn rules(events: &[Event], container: &str) -> Vec<String> {
    let name = |alert: &&Value| alert["alert"]["rule"].as_str().unwrap_or_default().to_owned();
    alerts(events, container).iter().map(name).collect()
}

#[track_caller]
fn wait_for(tracer: &mut Tracer, container: &str, rule: &str) {
    let what = format!("{rule} is told of {container}");
    tracer.wait_for(&what, |events| {
        rules(events, container).iter().any(|told| told == rule).then_some(())
    });
}

/// A folder with a script that calls itself `nginx` and starts a shell.
fn server(dir: &Path) -> String {
    let folder = dir.join("srv");
    fs::create_dir(&folder).expect("the scratch folder can be written to");
    let script = folder.join("nginx");
    fs::write(&script, "#!/bin/sh\n/bin/sh -c 'echo $$'\ntrue\n").expect("it can be written to");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    format!("--volume={}:/srv", folder.display())
}

#[test]
fn unusual_actions_raise_their_alerts_and_no_others() {
    let dir = environment::scratch("rules-told");
    let mut tracer = Tracer::run(&dir, &config(""));
    let volume = server(&dir);
    let image = environment::image();
    let target = docker().start("rules-target", &image, &["sleep", "1000"]);
    let web = docker().start_with("rules-web", &[&volume], &image, &["sleep", "1000"]);
    let expected_of_web = [
        ("shell-from-server", &["/srv/nginx"][..]),
        ("shell-in-container", &["sh"]),
        ("write-below-etc", &["sh", "-c", "echo x > /etc/x"]),
        ("dropped-and-run", &["sh", "-c", "cp /bin/busybox /tool && exec /tool"]),
        ("setuid-bit-set", &["chmod", "4755", "/tool"]),
        (
            "reverse-shell",
            &[
                "sh",
                "-c",
                "nc -l -p 4445 </dev/null & until nc 127.0.0.1 4445 -e /bin/sh; do :; done",
            ],
        ),
        ("ports-scanned", &["sh", "-c", "for i in $(seq 100 130); do nc 127.0.0.1 $i; done"]),
        (
            "break-out-refused",
            &["sh", "-c", "mount -t tmpfs none /srv; unshare -m true; unshare -n true; true"],
        ),
    ];
    for (rule, command) in expected_of_web {
        exec(&web, command);
        wait_for(&mut tracer, "rules-web", rule);
    }

    let socket = format!("--volume={}:/run/docker.sock", docker().socket().display());
    // What a break-out needs of capabilities, and no confinement that would stop it.
    let privileged = [
        "--cap-add=SYS_ADMIN",
        "--cap-add=SYS_PTRACE",
        "--cap-add=SYS_CHROOT",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--pid=host",
        &socket,
    ];
    let escape = docker().start_with("rules-escape", &privileged, &image, &["sleep", "1000"]);
    // This test is a process of the host.
    let host = std::process::id().to_string();
    let signal = format!("kill -CONT {}", target.first_pid());
    let expected_of_escape = [
        ("runtime-socket-mounted", &["true"][..]),
        ("mount-in-container", &["sh", "-c", "mkdir /m && mount -t tmpfs none /m"]),
        ("host-namespace-entered", &["nsenter", "-t", &host, "-m", "true"]),
        ("signal-across-containers", &["sh", "-c", &signal]),
    ];
    for (rule, command) in expected_of_escape {
        exec(&escape, command);
        wait_for(&mut tracer, "rules-escape", rule);
    }
    drop((web, escape, target));
    let finished = tracer.stop();

    assert_eq!(rules(&finished.events, "rules-web"), expected_of_web.map(|(rule, _)| rule));
    assert_eq!(rules(&finished.events, "rules-escape"), expected_of_escape.map(|(rule, _)| rule));
    assert_eq!(rules(&finished.events, "rules-target"), Vec::<String>::new());
    assert_alerts_are_whole(&finished);
    finished.totals.assert_complete();
}

/// What every alert tells, and what some of them do.
#[track_caller]
fn assert_alerts_are_whole(finished: &Finished) {
    let web = alerts(&finished.events, "rules-web");
    let escape = alerts(&finished.events, "rules-escape");
    for event in web.iter().chain(&escape) {
        let alert = &event["alert"];
        assert_eq!(event["attribution"]["state"], "resolved", "{event}");
        assert!(event["process"]["pid"].as_u64().is_some_and(|pid| pid > 1), "{event}");
        let list = |name: &str| alert[name].as_array().map_or(&[][..], Vec::as_slice);
        let lines = list("events");
        assert_eq!(lines.len(), list("event_kinds").len(), "{event}");
        assert_eq!(lines.len(), list("event_pids").len(), "{event}");
        for ((line, kind), time) in lines.iter().zip(list("event_kinds")).zip(list("event_times")) {
            let cause: Value = serde_json::from_str(line.as_str().expect("text")).expect("JSON");
            assert_eq!((&cause["kind"], &cause["time"]), (kind, time), "{event}");
            assert_eq!(cause["container"]["id"], event["container"]["id"], "{event}");
        }
        assert_eq!(list("event_times").last(), Some(&event["time"]), "{event}");
    }
    let of = |rule: &str| {
        let found = web.iter().chain(&escape).find(|event| event["alert"]["rule"] == rule);
        found.unwrap_or_else(|| panic!("no alert of {rule}"))
    };
    let server = of("shell-from-server");
    assert_eq!(server["parent"]["comm"], "nginx", "{server}");
    assert_eq!(server["process"]["executable"]["path"], "/bin/sh", "{server}");
    assert_eq!(
        (&server["alert"]["severity"], &server["alert"]["level"]),
        (&"high".into(), &4.into())
    );
    let reverse = of("reverse-shell");
    let kinds: Value = ["network.connect", "process.exec"].into_iter().collect();
    assert_eq!(reverse["alert"]["event_kinds"], kinds, "{reverse}");
    let description = reverse["alert"]["description"].as_str().unwrap_or_default();
    assert!(description.starts_with("nc connected to 127.0.0.1 port 4445"), "{reverse}");
    assert_eq!(of("ports-scanned")["alert"]["count"], 25);
    let dropped = of("dropped-and-run")["alert"]["description"].as_str().unwrap_or_default();
    assert!(dropped.contains("wrote /tool"), "{dropped}");
    assert_eq!(of("signal-across-containers")["target"]["container"]["name"], "rules-target");
}

#[test]
fn ordinary_actions_raise_no_alert() {
    let dir = environment::scratch("rules-ordinary");
    let tracer = Tracer::run(&dir, &config(""));
    let image = environment::image();
    let health = ["--health-cmd", "ls / && true", "--health-interval", "1s"];
    let web = docker().start_with("rules-calm", &health, &image, &["sleep", "1000"]);
    wait::until("the container is healthy", Duration::from_mins(1), || {
        let state = docker().ok(&["inspect", "-f", "{{.State.Health.Status}}", &web.id]);
        wait::when(state == "healthy")
    });
    for _ in 0..5 {
        exec(&web, &["ls", "/"]);
        exec(&web, &["sh", "-c", "cat /etc/hosts > /dev/null; echo a > /a; rm /a"]);
        docker().ok(&["run", "--rm", "--name", "rules-short", &image, "sh", "-c", "exit 0"]);
    }
    docker().ok(&["restart", "-t", "0", &web.id]);
    docker().ok(&["stop", "-t", "0", &web.id]);
    drop(web);
    let finished = tracer.stop();
    for name in ["rules-calm", "rules-short"] {
        let told = alerts(&finished.events, name);
        assert!(told.is_empty(), "{told:#?}");
    }
    assert!(finished.totals.handler("detect", "in") > 100, "{:?}", finished.totals);
    finished.totals.assert_complete();
}

#[test]
fn rules_of_a_file_raise_alerts_beside_the_events() {
    let dir = environment::scratch("rules-file");
    let file = dir.join("own.toml");
    let own = r#"
[[rules]]
name = "first-run"
severity = "info"
description = "{process.executable.path} ran in {container.image.name} for the first time"
when = "kind == 'process.exec' && container.name.startsWith('rules-own') && process.comm.matches('^(true|false)$')"
first = true
by = ["container.image.name", "process.comm"]

[[rules]]
name = "removals"
when = "kind == 'file.delete' && container.name.startsWith('rules-own') && process.comm == 'rm'"
count = 5
within = "1m"
cooldown = "0s"
"#;
    fs::write(&file, own).expect("the scratch folder can be written to");
    let options = format!("pack = false\npass = true\nfiles = [\"{}\"]", file.display());
    let mut tracer = Tracer::run(&dir, &config(&options));
    let container = docker().start("rules-own", &environment::image(), &["sleep", "1000"]);
    for command in ["true", "false", "true"] {
        exec(&container, &[command]);
    }
    let touch = "cd / && for i in 1 2 3 4 5 6 7 8 9 10 11; do echo > f$i; rm f$i; done";
    exec(&container, &["sh", "-c", touch]);
    exec(&container, &["sh", "-c", "exec false"]);
    tracer.wait_for("both counts are told", |events| {
        (rules(events, "rules-own").iter().filter(|rule| *rule == "removals").count() == 2)
            .then_some(())
    });
    drop(container);
    let finished = tracer.stop();
    let want = ["first-run", "first-run", "removals", "removals"];
    assert_eq!(rules(&finished.events, "rules-own"), want);
    let passed = finished.events.iter().filter(|event| event.is_exec_of(&["true"])).count();
    assert!(passed >= 2, "the events themselves pass on");
    assert_eq!(finished.totals.handler("detect", "filtered"), 0);
    finished.totals.assert_complete();
}

#[test]
fn a_faulty_rules_file_fails_the_start_with_its_place() {
    let dir = environment::scratch("rules-wrong");
    let (rules, file) = (dir.join("own.toml"), dir.join("config.toml"));
    fs::write(&rules, "[[rules]]\nname = 'a'\nwhen = \"file.pth == 'x'\"\n").expect("a file");
    fs::write(&file, config(&format!("files = [\"{}\"]", rules.display()))).expect("a file");
    let run = |verb: &[&str]| {
        let mut command = Command::new(environment::program());
        command.args(verb).arg(&file).output().expect("the program can be started")
    };
    assert!(run(&["check"]).status.success(), "a check touches no file");
    let done = run(&["run", "--config"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("own.toml: rule \"a\": when") && said.contains("did you mean `file.path`?"),
        "{said}"
    );
}

#[test]
fn check_locates_a_faulty_rule() {
    let dir = environment::scratch("rules-place");
    let file = dir.join("config.toml");
    let wrong = "[[handlers.detect.rules]]\nname = 'a'\nwhen = \"\"\"\nkind == 'file.open'\n&& file.pth == 'x'\"\"\"";
    let text = config(wrong);
    fs::write(&file, &text).expect("the scratch folder can be written to");
    let mut command = Command::new(environment::program());
    let done = command.arg("check").arg(&file).output().expect("the program can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    let line = text.lines().position(|line| line.contains("file.pth")).expect("it is there") + 1;
    assert!(said.contains(&format!("config.toml:{line}:4: ")), "{said}");
    assert!(said.contains("rules[0].when: no incoming event has a field `file.pth`"), "{said}");
}
