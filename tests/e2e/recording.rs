//! Recordings, replays, and tests within a configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::{config, environment, wait};

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

fn config_in(dir: &Path, tests: &str) -> PathBuf {
    let file = dir.join("config.toml");
    let text = config::json_chain_with_docker(docker().socket()) + tests;
    fs::write(&file, text).expect("the configuration can be written");
    file
}

fn whalewatch(command: &str, arguments: &[&Path]) -> Command {
    let mut all = Command::new(environment::program());
    all.arg(command).args(arguments);
    all
}

#[track_caller]
fn done(mut command: Command) -> Output {
    let output = command.output().expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    output
}

fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Records while containers come and go: the recording, and what was printed meanwhile.
fn record(dir: &Path, config: &Path, containers: u32) -> (PathBuf, Vec<u8>) {
    let (recording, printed) = (dir.join("recording.jsonl"), dir.join("printed.json"));
    let mut command = whalewatch("record", &[&recording, Path::new("--config"), config]);
    let file = fs::File::create(&printed).expect("a file can be made");
    let stderr = fs::File::create(dir.join("said")).expect("a file can be made");
    let mut child = command.stdout(file).stderr(stderr).spawn().expect("it can be started");
    let said = || fs::read_to_string(dir.join("said")).unwrap_or_default();
    wait::until("it is watching", Duration::from_mins(1), || {
        wait::when(said().contains("watching: "))
    });
    for number in 0..containers {
        let name = format!("recorded-{number}");
        docker().ok(&["run", "--rm", "--name", &name, &environment::image(), "true"]);
    }
    wait::until("all are printed", Duration::from_mins(1), || {
        let text = fs::read_to_string(&printed).unwrap_or_default();
        let gone = |line: &&str| line.contains("container.gone") && line.contains("recorded-");
        wait::when(text.lines().filter(gone).count() == containers as usize)
    });
    Command::new("kill").arg(child.id().to_string()).status().expect("kill can be run");
    assert!(child.wait().expect("it can be waited for").success(), "{}", said());
    assert!(said().contains("recorded: "), "{}", said());
    (recording, fs::read(printed).expect("the file exists"))
}

#[test]
fn a_replay_prints_the_same_events_without_privileges() {
    let dir = environment::scratch("recording-replay");
    let config = config_in(&dir, "");
    let (recording, printed) = record(&dir, &config, 5);
    // The folders above belong to root alone.
    let open = tempfile_dir(&dir);
    for (file, name) in [(&recording, "r"), (&config, "c"), (&environment::program(), "w")] {
        fs::copy(file, open.join(name)).expect("a file can be copied");
    }
    let replay = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
        command.current_dir(&open).args(["./w", "replay", "r", "--config", "c"]);
        done(command).stdout
    };
    let (first, second) = (replay(), replay());
    fs::remove_dir_all(&open).expect("it can be removed");
    assert!(first == second, "each replay prints the same");
    // Events of trackers are in their order. The manager's own events and a container's state
    // depend on when the daemon reports, which may be before or after a tracker's event.
    let (printed, replayed) = (comparable(&lines(&printed)), comparable(&lines(&first)));
    assert_eq!(printed.0.len(), replayed.0.len());
    for (then, now) in printed.0.iter().zip(&replayed.0) {
        assert_eq!(then, now);
    }
    assert_eq!(printed.1, replayed.1);
}

/// Returns the trackers' events without containers' states, and the manager's own without times,
/// sorted.
fn comparable(events: &[Value]) -> (Vec<Value>, Vec<String>) {
    let (mut of_trackers, mut of_manager) = (Vec::new(), Vec::new());
    for event in events {
        let mut event = event.clone();
        if let Some(container) = event["container"].as_object_mut() {
            container.remove("status");
        }
        if event["kind"].as_str().is_some_and(|kind| kind.starts_with("container.")) {
            event["time"] = Value::Null;
            of_manager.push(event.to_string());
        } else {
            of_trackers.push(event);
        }
    }
    of_manager.sort();
    (of_trackers, of_manager)
}

/// A folder that every user can look into.
fn tempfile_dir(scratch: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let name = scratch.file_name().expect("a name").to_string_lossy().into_owned();
    let dir = std::env::temp_dir().join(format!("whalewatch-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a folder can be made");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("it is ours");
    dir
}

#[test]
fn tests_in_a_configuration_pass_and_fail() {
    let dir = environment::scratch("recording-tests");
    let config = config_in(
        &dir,
        r#"
[[tests]]
name = "containers are named from their first event on"
recording = "recording.jsonl"
expect = [
    { kind = "process.exec", "container.name" = "recorded-0", "process.executable.path" = "/bin/true" },
    { kind = "process.exit", container = { name = "recorded-0" } },
    { kind = "process.exec", "container.name" = "recorded-1" },
]

[[tests]]
name = "nobody is called so"
recording = "recording.jsonl"
expect = [{ "container.name" = "recorded-7" }]
"#,
    );
    record(&dir, &config, 2);
    let output = whalewatch("test", &[&config]).output().expect("the program can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("test containers are named from their first event on ... ok"), "{said}");
    assert!(said.contains("test nobody is called so ... FAILED"), "{said}");
    assert!(said.contains("no event matches expectation 1"), "{said}");
    assert!(said.ends_with("1 passed, 1 failed\n"), "{said}");
    let only = whalewatch("test", &[&config, Path::new("first event")]);
    assert!(done(only).stdout.ends_with(b"1 passed, 0 failed\n"));
}

#[test]
fn a_malformed_recording_is_refused_with_its_line() {
    let dir = environment::scratch("recording-mistakes");
    let config = config_in(&dir, "");
    let recording = dir.join("recording.jsonl");
    let header = r#"{"recording":2,"host":"h","at":1}"#;
    let event = r#"{"line":"event","at":2,"tracker":"procs","type":"process","event":"process","kind":"process.exec","time":2"#;
    for (text, expected) in [
        (String::new(), ":1: the file is empty: make a recording with `whalewatch record`"),
        (String::from("{}\n"), ":1: this is not a recording"),
        (
            header.replace(":2,", ":9,"),
            ":1: the recording has version 9, and this program reads version 2",
        ),
        (format!("{header}\n{event}}}\n\nrubbish\n"), ":4: expected value"),
        (
            format!("{header}\n{}}}\n", event.replace("process.exec", "process.jump")),
            ":2: unknown kind \"process.jump\" of process events: expected one of process.fork",
        ),
        (
            format!("{header}\n{event},\"fields\":{{\"process.exit.code\":\"x\"}}}}\n"),
            ":2: field process.exit.code: expected uint, found \"x\"",
        ),
        (
            format!(
                "{header}\n{}}}\n",
                event.replace("\"event\":\"process\"", "\"event\":\"other\"")
            ),
            ":2: this program has no tracker of \"other\" events",
        ),
    ] {
        fs::write(&recording, &text).expect("the recording can be written");
        let mut command = whalewatch("replay", &[&recording, Path::new("--config"), &config]);
        let output = command.stdout(Stdio::null()).output().expect("the program can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "no {expected:?} for {text:?}: {said}");
    }
}
