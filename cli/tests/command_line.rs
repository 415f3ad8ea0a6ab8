//! The command line where nothing but the program is needed: what it says, and its exit codes.

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
fn refused(arguments: &[&str], said: &str) {
    let done = run(arguments);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
    assert!(done.stdout.is_empty(), "only data goes to standard output");
}

#[test]
fn a_full_standard_error_changes_no_exit_code() {
    let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
    let status = whalewatch(&["check", "/nowhere.toml"]).stderr(full()).status();
    assert_eq!(status.expect("it starts").code(), Some(2));
    let done = whalewatch(&["list"]).stderr(full()).output().expect("it starts");
    assert_eq!(done.status.code(), Some(0));
}

#[test]
fn a_configuration_without_end_is_refused() {
    refused(&["check", "/dev/zero"], "/dev/zero cannot be read: it has more than 4 MiB");
}

#[test]
fn what_cannot_be_read_is_told_with_how_to_mend_it() {
    refused(&["check", "/"], "name a file in it");
    refused(&["check", "/nowhere.toml"], "is the path right?");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("latin-1.toml");
    std::fs::write(&path, b"a = 1\nb = \"\xfc\"\n").expect("it can be written");
    let path = path.to_str().expect("the target folder's path is UTF-8");
    refused(&["check", path], "line 2 is not UTF-8: save the file as UTF-8");
}

#[test]
fn totals_that_have_nowhere_to_go_are_told_before_anything_is_watched() {
    refused(
        &["trace", "--duration", "1s", "--stats-file", "/nowhere/stats.json"],
        "totals cannot be written to /nowhere/stats.json",
    );
}

#[test]
fn a_printed_configuration_is_a_valid_one() {
    refused(&["trace", "--print-config", "--when", "kind =="], "when");
    let done = run(&["trace", "--print-config", "--container", "web*", "--format", "json"]);
    assert_eq!(done.status.code(), Some(0));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("containers = [\"web*\"]"), "{text}");
}

#[test]
fn a_handler_that_trace_cannot_go_through_is_told() {
    refused(&["trace", "--through", "nul"], "no handler is called \"nul\"");
    refused(
        &["trace", "--through", "null", "--container", "web*", "--when", "kind == 'x'"],
        "handler \"null\" passes nothing on",
    );
}

#[test]
fn a_new_handler_is_refused_with_what_to_do_and_nothing_is_written() {
    refused(&["new", "handler", "filter"], "choose another name");
    refused(&["new", "handler", "Geo"], "use lower-case letters");
    refused(&["new", "handler", "geo", "--path", "/"], "/ is there already");
}

#[test]
fn a_duration_that_is_none_is_told_as_such() {
    refused(&["trace", "--duration", "-1s"], "is not a duration");
}

#[test]
fn completions_are_for_the_program() {
    let done = run(&["completions", "bash"]);
    assert_eq!(done.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&done.stdout).contains("_whalewatch"));
}

#[test]
fn a_tracker_with_options_that_leave_nothing_out_is_shared_with_the_handler_that_needs_it() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/two-chains.toml");
    let done = run(&["check", example]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("trackers: groups, procs\n"), "{said}");
}

/// Writes a configuration to check.
fn configuration(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("it can be written");
    path.to_str().expect("the target folder's path is UTF-8").to_owned()
}

#[test]
fn a_scope_of_containers_that_nobody_knows_is_refused() {
    let chain = |scope: &str, through: &str| {
        format!(
            "[trackers.opens]\ntype = \"files\"\nscope = {scope}\n\n\
             [[chains]]\nfrom = [\"opens\"]\nthrough = [{through}]\n"
        )
    };
    let alone = configuration("scope-alone.toml", &chain("{ containers = [\"a\"] }", "\"null\""));
    refused(&["check", &alone], "no chain has a part that knows containers");
    refused(&["check", &alone], "scope-alone.toml:3:");
    for (scope, through) in
        [("{ containers = [\"a\"] }", "\"container\", \"null\""), ("{ uids = [0] }", "\"null\"")]
    {
        let file = configuration("scope.toml", &chain(scope, through));
        let done = run(&["check", &file]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn every_mistake_in_a_tracker_s_options_is_told_at_its_place() {
    let text = "[trackers.opens]\ntype = \"files\"\nopens = false\nchanges = false\n\
                scope = { containers = [\"[\"] }\nbudget = { burst = 5 }\n\n\
                [trackers.sent]\ntype = \"signals\"\nsignals = [\"SIGNOPE\"]\n\n\
                [[chains]]\nfrom = [\"opens\", \"sent\"]\nthrough = [\"container\", \"null\"]\n";
    let file = configuration("mistakes.toml", text);
    for said in [
        "all kinds of events are disabled",
        "scope.containers: \"[\": unclosed character class",
        "budget.burst: burst is set, but events_per_second is not",
        "\"SIGNOPE\" is not a signal",
    ] {
        refused(&["check", &file], said);
    }
}

#[test]
fn a_replay_depends_on_the_recording_and_the_configuration_alone() {
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
    // The manager's own events have the recording's time, too, and the daemon's names.
    let gone = first.lines().filter(|line| line.contains("container.gone")).collect::<Vec<_>>();
    assert_eq!(gone.len(), 2, "{first}");
    assert!(gone.iter().all(|line| line.starts_with("{\"time\":\"2026-11-24T13:14:4")), "{gone:?}");
    assert!(gone[0].contains("\"name\":\"works\"") && gone[1].contains("\"name\":\"fails\""));
}
