//! Output and exit codes of commands that need nothing but the program.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn whalewatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whalewatch"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    whalewatch(arguments).output().expect("the program starts")
}

#[track_caller]
fn assert_refused(arguments: &[&str], expected: &str) {
    let done = run(arguments);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
    assert!(done.stdout.is_empty(), "only data goes to standard output");
}

#[test]
fn full_standard_error_does_not_change_the_exit_code() {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
    let status = whalewatch(&["check", "/nowhere.toml"]).stderr(full()).status();
    assert_eq!(status.expect("it starts").code(), Some(2));
    let done = whalewatch(&["list"]).stderr(full()).output().expect("it starts");
    assert_eq!(done.status.code(), Some(0));
}

#[test]
fn endless_configuration_is_refused() {
    assert_refused(&["check", "/dev/zero"], "cannot read /dev/zero: it is larger than 4 MiB");
}

#[test]
fn unreadable_configuration_is_reported_with_a_remedy() {
    assert_refused(&["check", "/"], "name a file in it");
    assert_refused(&["check", "/nowhere.toml"], "check the path");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("latin-1.toml");
    std::fs::write(&path, b"a = 1\nb = \"\xfc\"\n").expect("it can be written");
    let path = path.to_str().expect("the target folder's path is UTF-8");
    assert_refused(&["check", path], "line 2 is not UTF-8: save the file as UTF-8");
}

#[test]
fn bad_stats_file_is_reported_before_watching_starts() {
    assert_refused(
        &["trace", "--duration", "1s", "--stats-file", "/nowhere/stats.json"],
        "cannot write the totals to /nowhere/stats.json",
    );
}

#[test]
fn printed_configuration_is_checked_and_has_the_arguments() {
    assert_refused(&["trace", "--print-config", "--when", "kind =="], "when");
    let done = run(&["trace", "--print-config", "--container", "web*", "--format", "json"]);
    assert_eq!(done.status.code(), Some(0));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("containers = [\"web*\"]"), "{text}");
}

#[test]
fn trace_refuses_a_handler_that_cannot_be_in_its_chain() {
    assert_refused(&["trace", "--through", "nul"], "no handler is called \"nul\"");
    assert_refused(
        &["trace", "--through", "null", "--container", "web*", "--when", "kind == 'x'"],
        "handler \"null\" does not pass events on",
    );
}

#[test]
fn new_handler_refuses_bad_names_and_existing_folders() {
    assert_refused(&["new", "handler", "filter"], "choose another name");
    assert_refused(&["new", "handler", "Geo"], "use lower-case letters");
    assert_refused(&["new", "handler", "geo", "--path", "/"], "/ exists already");
}

#[test]
fn invalid_duration_is_refused() {
    assert_refused(&["trace", "--duration", "-1s"], "is not a duration");
}

#[test]
fn completion_script_names_the_program() {
    let done = run(&["completions", "bash"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&done.stdout).contains("_whalewatch"));
}

#[test]
fn complete_tracker_also_serves_the_handler_that_needs_it() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/two-chains.toml");
    let done = run(&["check", example]);
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(output.contains("trackers: groups, procs\n"), "{output}");
}

/// Writes a configuration to check.
fn configuration(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("it can be written");
    path.to_str().expect("the target folder's path is UTF-8").to_owned()
}

#[test]
fn container_scope_without_a_container_manager_is_refused() {
    let chain = |scope: &str, through: &str| {
        format!(
            "[trackers.opens]\ntype = \"files\"\nscope = {scope}\n\n\
             [[chains]]\nfrom = [\"opens\"]\nthrough = [{through}]\n"
        )
    };
    let alone = configuration("scope-alone.toml", &chain("{ containers = [\"a\"] }", "\"null\""));
    assert_refused(&["check", &alone], "no chain has a handler that identifies them");
    assert_refused(&["check", &alone], "scope-alone.toml:3:");
    for (scope, through) in
        [("{ containers = [\"a\"] }", "\"container\", \"null\""), ("{ uids = [0] }", "\"null\"")]
    {
        let file = configuration("scope.toml", &chain(scope, through));
        let done = run(&["check", &file]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn all_mistakes_in_tracker_options_are_reported() {
    let text = "[trackers.opens]\ntype = \"files\"\nopens = false\nchanges = false\n\
                scope = { containers = [\"[\"] }\nbudget = { burst = 5 }\n\n\
                [trackers.sent]\ntype = \"signals\"\nsignals = [\"SIGNOPE\"]\n\n\
                [[chains]]\nfrom = [\"opens\", \"sent\"]\nthrough = [\"container\", \"null\"]\n";
    let file = configuration("mistakes.toml", text);
    for expected in [
        "all kinds of events are disabled",
        "scope.containers: \"[\": unclosed character class",
        "budget.burst: burst is set, but events_per_second is not",
        "\"SIGNOPE\" is not a signal",
    ] {
        assert_refused(&["check", &file], expected);
    }
}

#[test]
fn replay_is_reproducible() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let recording = format!("{root}/recordings/two-containers.jsonl");
    let config = format!("{root}/json-lines.toml");
    let replay = || {
        let done = run(&["replay", &recording, "--config", &config]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("JSON is UTF-8")
    };
    let (first, second) = (replay(), replay());
    assert_eq!(first, second);
    // Events that the manager adds have times of the recording too, and names from Docker.
    let gone = first.lines().filter(|line| line.contains("container.gone")).collect::<Vec<_>>();
    assert_eq!(gone.len(), 2, "{first}");
    assert!(gone.iter().all(|line| line.starts_with("{\"time\":\"2026-11-24T13:14:4")), "{gone:?}");
    assert!(gone[0].contains("\"name\":\"works\"") && gone[1].contains("\"name\":\"fails\""));
}
