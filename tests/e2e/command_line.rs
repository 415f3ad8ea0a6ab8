//! What the command line promises to people and scripts: exit codes, messages, pipes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use whalewatch_tests::{config, environment, output::Event, wait};

#[track_caller]
fn whalewatch(args: &[&str]) -> Output {
    Command::new(environment::program()).args(args).output().expect("the program can be started")
}

#[track_caller]
fn check(dir: &Path, text: &str) -> Output {
    let file = dir.join("config.toml");
    fs::write(&file, text).expect("the scratch folder can be written to");
    whalewatch(&["check", file.to_str().expect("a UTF-8 path")])
}

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[test]
fn check_reports_all_mistakes_with_places_and_hints() {
    let dir = environment::scratch("five-mistakes");
    let text = r#"[container]
hold = "100 lightyears"

[trackers.procs]
type = "proces"

[handlers.out]
type = "stdout"
format = "jsn"
colour = true

[[chains]]
from = ["procs"]
through = ["contianer", "out"]
"#;
    let done = check(&dir, text);
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(done.stdout.is_empty(), "what went wrong belongs on standard error");
    // Line and column of the mistake, and a word of the hint.
    let expected = [
        ("2:8", "100 lightyears"),
        ("5:8", "process"),
        ("9:10", "json"),
        ("10:1", "colo"),
        ("14:12", "container"),
    ];
    for (place, hint) in expected {
        assert!(said.contains(&format!("config.toml:{place}")), "no mistake at {place}: {said}");
        assert!(said.contains(hint), "no hint {hint:?}: {said}");
    }
}

#[test]
fn check_accepts_a_good_file_silently() {
    let dir = environment::scratch("good-file");
    let done = check(&dir, &config::json_chain(""));
    assert!(done.status.success(), "{}", stderr(&done));
}

#[test]
fn check_names_a_missing_file() {
    let done = whalewatch(&["check", "/nonexistent/chains.toml"]);
    assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
    assert!(stderr(&done).contains("/nonexistent/chains.toml"), "{}", stderr(&done));
}

#[test]
fn an_unknown_subcommand_is_bad_usage() {
    let done = whalewatch(&["tarce"]);
    assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
    assert!(stderr(&done).contains("trace"), "the nearest name is told: {}", stderr(&done));
}

#[test]
fn trace_without_privileges_fails_and_says_what_it_needs() {
    // The build folder may be closed to others, so they get a copy of their own.
    let dir = std::env::temp_dir().join(format!("whalewatch-e2e-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a temporary folder can be made");
    let program = dir.join("whalewatch");
    fs::copy(environment::program(), &program).expect("the program can be copied");
    for path in [&dir, &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own files");
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    let done = command.arg(&program).arg("trace").output().expect("setpriv can be started");
    fs::remove_dir_all(&dir).expect("our own folder");
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(done.stdout.is_empty());
    assert!(said.contains("root") || said.contains("CAP_BPF"), "says what it needs: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_closed_pipe_ends_trace_quietly() {
    let mut command = Command::new(environment::program());
    command.args(["trace", "--format", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    // Something must happen on the machine for a line to come, and again for the closed pipe to be
    // noticed.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let noise = std::thread::spawn(move || {
        while stopped
            .recv_timeout(Duration::from_millis(20))
            .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            Command::new("/bin/true").status().expect("/bin/true can be started");
        }
    });
    stdout.read_line(&mut line).expect("a line");
    drop(stdout);
    let status = wait::until("trace has ended", Duration::from_secs(20), || {
        child.try_wait().expect("our own child")
    });
    drop(stop);
    noise.join().expect("the noise ends");
    let said = std::io::read_to_string(child.stderr.take().expect("a pipe")).expect("UTF-8");
    assert!(status.success(), "{status}: {said}");
    assert!(!said.contains("panicked") && !said.to_lowercase().contains("broken pipe"), "{said}");
    assert!(
        Event(serde_json::from_str(&line).expect("one JSON line")).kind().contains('.'),
        "{line}"
    );
}

#[test]
fn trace_ends_after_its_duration() {
    let done = whalewatch(&["trace", "--format", "json", "--duration", "500ms"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stderr(&done).lines().any(|line| line.starts_with("watching: ")), "{}", stderr(&done));
}

#[test]
fn list_as_json_prints_only_json() {
    let done = whalewatch(&["list", "--format", "json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let list: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    for name in ["process", "container", "filter", "stdout", "null"] {
        assert!(list.to_string().contains(&format!("\"{name}\"")), "{name} is not in {list:#}");
    }
}

#[test]
fn doctor_finds_this_machine_fit() {
    let done = whalewatch(&["doctor"]);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{text}{}", stderr(&done));
    for word in ["BTF", "cgroup"] {
        assert!(text.contains(word), "no line about {word}: {text}");
    }
}

#[test]
fn graph_draws_the_chain() {
    let dir = environment::scratch("graph");
    let file = dir.join("config.toml");
    fs::write(&file, config::json_chain("")).expect("the scratch folder can be written to");
    let done = whalewatch(&["graph", file.to_str().expect("a UTF-8 path")]);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", stderr(&done));
    for name in ["procs", "container", "out"] {
        assert!(text.contains(name), "{name} is not drawn: {text}");
    }
}
