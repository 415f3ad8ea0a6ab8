//! `whalewatch query`: its results, its messages, and its exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use whalewatch_core::{Attribution, Batch, Evidence, Status, Timestamp};
use whalewatch_sqlite::{Sqlite, SqliteOptions};
use whalewatch_testing::{Bench, Ran, bare, example, named};

fn query(database: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whalewatch"));
    command.arg("query").arg("--db").arg(database).args(arguments);
    command.stdin(Stdio::null()).output().expect("the program starts")
}

#[track_caller]
fn answer(database: &Path, arguments: &[&str]) -> (String, String) {
    let done = query(database, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    (text(&done.stdout), text(&done.stderr))
}

#[track_caller]
fn refused(database: &Path, arguments: &[&str], expected: &str) {
    let done = query(database, arguments);
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
    assert!(done.stdout.is_empty(), "only data goes to standard output");
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).expect("it can be created");
    folder
}

/// Writes a history with events of a container with a name, of one without, and of the host. All
/// events are of 2026-11-23T13:46:20Z.
fn history(name: &str) -> PathBuf {
    let path = folder(name).join("history.db");
    let options = SqliteOptions {
        path: path.clone(),
        keep: whalewatch_core::HumanDuration(Duration::ZERO),
        ..SqliteOptions::default()
    };
    let mut bench = Bench::<Sqlite>::new::<Ran>(&options).expect("a handler");
    let web = named(&"e0d4".repeat(16), "web-1", "nginx:1", Status::Running);
    let exit = || Ran { kind: "process.exit", path: None, args: None, exit: Some(3), ..example() };
    for (events, attribution) in [
        (vec![example(), exit()], Attribution::container(web, Evidence::Cgroup)),
        (
            vec![example()],
            Attribution::container(bare(&"ab12".repeat(16)).into(), Evidence::Cgroup),
        ),
        (vec![exit()], Attribution::host(Evidence::Cgroup)),
    ] {
        let mut batch = Batch::new("procs".into(), events);
        batch.attribute(|_| attribution.clone());
        bench.handle(batch).expect("the batch is accepted");
    }
    bench.end().expect("all events are written");
    path
}

#[test]
fn events_are_shown_as_a_table_by_default() {
    let (out, messages) = answer(&history("table"), &["--container", "web*"]);
    let lines: Vec<&str> = out.lines().collect();
    let row = "2026-11-23 13:46:20.171 web-1                      19920   19901     0";
    let want = [
        "TIME (UTC)              CONTAINER                    PID    PPID  USER \
         KIND            COMM            DETAIL",
        &format!("{row} process.exec    true            /bin/true"),
        &format!("{row} process.exit    true            exit=3"),
    ];
    assert_eq!(lines, want);
    assert_eq!(messages, "");
}

#[test]
fn json_output_has_only_event_lines() {
    let (out, _) = answer(&history("json"), &["--format", "json", "--kind", "process.exec"]);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["container"]["name"], "web-1");
    assert_eq!(lines[0]["time"], "2026-11-23T13:46:20.171234567Z");
    assert_eq!(lines[1]["attribution"]["state"], "pending");
}

#[test]
fn options_select_events() {
    let path = history("filters");
    let count = |arguments: &[&str]| {
        let arguments = [&["--format", "json"], arguments].concat();
        answer(&path, &arguments).0.lines().count()
    };
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&["--on", "2026-11-23"]), 4);
    assert_eq!(count(&["--on", "2026-11-22"]), 0);
    assert_eq!(count(&["--since", "2026-11-23T13:46:20.2Z"]), 0);
    assert_eq!(count(&["--until", "2026-11-23T13:46:20.2Z"]), 4);
    assert_eq!(count(&["--since=-1000weeks"]), 4);
    assert_eq!(count(&["--until", "1000weeks ago"]), 0);
    assert_eq!(count(&["--attribution", "host"]), 1);
    assert_eq!(count(&["--pid", "19920", "--comm", "tr*", "--path", "/bin/*"]), 2);
    assert_eq!(count(&["--container", "ab12ab12ab12"]), 1);
    assert_eq!(count(&["--limit", "3"]), 3);
}

#[test]
fn counts_are_grouped_by_the_given_fields() {
    let path = history("counts");
    let (out, _) = answer(&path, &["--count-by", "kind,container.name"]);
    let want = "COUNT  KIND          CONTAINER.NAME\n\
                \x20   1  process.exec  -\n    1  process.exec  web-1\n\
                \x20   1  process.exit  -\n    1  process.exit  web-1\n";
    assert_eq!(out, want);
    let (out, _) = answer(&path, &["--count-by", "process.exit.code", "--format", "json"]);
    assert!(out.contains(r#"{"count":2,"process.exit.code":3}"#), "{out}");
    let (_, messages) = answer(&path, &["--count-by", "process.exit.cod"]);
    assert_eq!(messages, "note: none of the counted events has a field `process.exit.cod`\n");
    refused(
        &path,
        &["--count-by", "a b"],
        "\"a b\" is not a field: write for example container.name",
    );
}

#[test]
fn empty_result_succeeds_and_says_why() {
    let path = history("empty");
    for (arguments, why) in [
        (
            ["--container", "wbe"],
            "no container in the history matches --container: it has ab12ab12ab12, web-1",
        ),
        (
            ["--kind", "file"],
            "no event in the history has such a kind: it has process.exec, process.exit",
        ),
        (["--pid", "1"], "no event in the history matches all options"),
    ] {
        let (out, messages) = answer(&path, &arguments);
        assert_eq!(out, "");
        assert!(messages.contains(why), "{messages}");
    }
}

#[test]
fn invalid_query_is_refused_with_a_remedy() {
    let path = history("mistakes");
    refused(&path, &["--since", "soon"], "\"soon\" is not a time: write 2026-11-23T13:46:20Z");
    // clap takes `-2h` for an option: `--on` needs a day.
    refused(&path, &["--on", "-2h"], "unexpected argument '-2'");
    refused(&path, &["--on=-2h"], "\"-2h\" is not a day: write yesterday");
    refused(&path, &["--on", "noon"], "\"noon\" is not a day: write yesterday");
    refused(&path, &["--since", "today", "--until", "yesterday"], "--since is not before --until");
    refused(&path, &["--kind", "a["], "the [ is not closed");
    refused(&path, &["--container", "["], "--container: \"[\"");
    let folder = folder("none");
    let missing = folder.join("none.db");
    refused(&missing, &[], "there is no such database");
    assert_eq!(fs::read_dir(&folder).expect("it exists").count(), 0, "no file is created");
    refused(&folder, &[], "this is a folder");
    fs::write(&missing, "no database".repeat(200)).expect("it can be written");
    refused(&missing, &[], "name the database that the sqlite handler writes");
}

#[test]
fn closed_output_succeeds_and_full_disk_fails() {
    let path = history("pipe");
    let full = || fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_whalewatch"));
    let status = command.arg("query").arg("--db").arg(&path).stdout(full()).status();
    assert_eq!(status.expect("it starts").code(), Some(1));
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" query --db \"$1\"; echo $? >&2", env!("CARGO_BIN_EXE_whalewatch")]);
    let mut child =
        command.arg(&path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh");
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "0\n");
}

#[test]
fn now_is_read_from_the_clock() {
    let path = history("now");
    let (out, _) = answer(&path, &["--until", "now", "--format", "json"]);
    // If this host's clock is wrong, the example's time may be in the future.
    let past = Timestamp(1_795_441_580_171_234_567) < Timestamp::now();
    assert_eq!(out.lines().count(), if past { 4 } else { 0 });
}
