//! The `file` handler: lines are in the file whole, once and in order, whatever happens to the
//! program, the file or the disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::marks::{Marks, marks};
use whalewatch_tests::output::{Event, Output};
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::{environment, wait};

const LIMIT: Duration = Duration::from_mins(1);

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// Process events of everything to a file, with these options.
fn chain(path: &Path, options: &str) -> String {
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[trackers.procs]
type = "process"

[handlers.log]
type = "file"
path = "{}"
{options}

[[chains]]
from = ["procs"]
through = ["container", "log"]
"#,
        docker().socket().display(),
        path.display()
    )
}

#[track_caller]
fn start_marks(name: &str, first: u32, last: u32) -> Marks {
    Marks::start(&docker(), &environment::image(), name, first, last)
}

/// All events of a file whose last line must be whole.
#[track_caller]
fn events_in(path: &Path) -> Vec<Event> {
    Output::open(path).finish()
}

#[track_caller]
fn parse(text: &str) -> Vec<Event> {
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| Event(serde_json::from_str(line).expect("JSON"))).collect()
}

/// The files that were put aside from `path`, in their order.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().expect("a name").to_str().expect("UTF-8");
    let folder = path.parent().expect("a folder");
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    let ours = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|n| n.starts_with(&format!("{name}.")))
    };
    let mut files: Vec<PathBuf> = entries.filter(ours).collect();
    files.sort();
    files
}

/// Every event that the handler counted as delivered is there, and none was lost on the way.
#[track_caller]
fn assert_all_there(finished: &Finished, events: &[Event]) {
    finished.totals.assert_nothing_vanished("procs", &["container", "log"]);
    let count = u64::try_from(events.len()).expect("fits");
    assert_eq!(finished.totals.handler("log", "out"), count, "{}", finished.stderr);
}

/// Waits until the last mark stands in the file.
#[track_caller]
fn wait_for_mark(path: &Path, container: &str, last: u32) {
    wait::until(&format!("mark {last} is in the file"), LIMIT, || {
        let text = fs::read_to_string(path).ok()?;
        let whole = &text[..=text.rfind('\n')?];
        wait::when(marks(&parse(whole), container).last() == Some(&last))
    });
}

#[test]
fn rotated_and_compressed_files_have_every_event_in_order() {
    let dir = environment::scratch("file-rotation");
    let path = dir.join("events.jsonl");
    let options = "rotate = { size = \"64 KiB\" }\nkeep = 1000\ncompress = \"zstd\"";
    let tracer = Tracer::run(&dir, &chain(&path, options));
    start_marks("file-rotation", 1, 2000).finish();
    let finished = tracer.stop();
    finished.totals.assert_complete();

    let files = rotated(&path);
    assert!(files.len() > 10, "{files:?}");
    assert!(files.iter().all(|file| file.extension().is_some_and(|e| e == "zst")), "{files:?}");
    let done = Command::new("zstd").arg("-dc").args(&files).output().expect("zstd can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut events = parse(std::str::from_utf8(&done.stdout).expect("UTF-8"));
    events.extend(events_in(&path));
    assert_all_there(&finished, &events);
    assert_eq!(marks(&events, "file-rotation"), (1..=2000).collect::<Vec<_>>());
}

#[test]
fn files_are_rotated_by_age_and_the_oldest_deleted() {
    let dir = environment::scratch("file-age");
    let path = dir.join("events.jsonl");
    let tracer = Tracer::run(&dir, &chain(&path, "rotate = { age = \"100ms\" }\nkeep = 2"));
    let marks = start_marks("file-age", 1, 1000);
    let third = wait::until("the third is put aside", LIMIT, || {
        rotated(&path).into_iter().find(|file| file.to_string_lossy().contains(".000003-"))
    });
    wait::until("it is deleted", LIMIT, || wait::when(!third.exists()));
    marks.finish();
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert!(rotated(&path).len() <= 2, "{:?}", rotated(&path));
}

#[test]
fn rename_and_copytruncate_of_logrotate_lose_nothing() {
    let dir = environment::scratch("file-logrotate");
    let path = dir.join("events.jsonl");
    let aside = dir.join("renamed");
    let tracer = Tracer::run(&dir, &chain(&path, ""));
    let making = start_marks("file-logrotate", 1, 1000);
    wait::until("marks come", LIMIT, || {
        wait::when(fs::metadata(&path).is_ok_and(|file| file.len() > 50_000))
    });
    fs::rename(&path, &aside).expect("our own folder");
    wait::until("a new file is begun", LIMIT, || wait::when(path.exists()));
    making.finish();
    wait_for_mark(&path, "file-logrotate", 1000);

    // What is written between the copy and the cut is lost to everybody, so it is done while
    // nothing is written.
    let copy = dir.join("copied");
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    loop {
        let before = size(&path);
        fs::copy(&path, &copy).expect("our own folder");
        if size(&path) == before && size(&copy) == before {
            File::options().write(true).truncate(true).open(&path).expect("our own file");
            break;
        }
    }
    start_marks("file-logrotate", 1001, 1100).finish();
    let finished = tracer.stop();
    finished.totals.assert_complete();
    let mut events = events_in(&aside);
    events.extend(events_in(&copy));
    events.extend(events_in(&path));
    assert_eq!(marks(&events, "file-logrotate"), (1..=1100).collect::<Vec<_>>());
    assert_all_there(&finished, &events);
}

#[test]
fn sigkill_at_any_moment_leaves_only_whole_lines() {
    let dir = environment::scratch("file-sigkill");
    let path = dir.join("events.jsonl");
    let making = start_marks("file-sigkill", 1, 100_000);
    for round in 0..8 {
        let before = fs::metadata(&path).map_or(0, |file| file.len());
        let tracer = Tracer::run(&dir, &chain(&path, ""));
        wait::until("lines come", LIMIT, || {
            let now = fs::metadata(&path).map_or(0, |file| file.len());
            // Some way into it, another one each time.
            wait::when(now > before + 20_000 + 7_001 * round)
        });
        let pid = Pid::from_raw(tracer.pid().cast_signed()).expect("no pid is 0");
        kill_process(pid, Signal::KILL).expect("our own child can be signalled");
        drop(tracer);
        events_in(&path);
    }
    // As a write would leave it that a machine's end has cut, or a line longer than a page.
    let whole = events_in(&path).len();
    let mut file = File::options().append(true).open(&path).expect("our own file");
    file.write_all(b"{\"time\":\"2026-11-24T12:00:00.000000000Z\",\"kind\":\"process.ex")
        .expect("room");
    let tracer = Tracer::run(&dir, &chain(&path, ""));
    docker().ok(&["rm", "-f", "file-sigkill"]);
    drop(making);
    let finished = tracer.stop();
    assert!(finished.stderr.contains("half a line"), "{}", finished.stderr);
    let last = usize::try_from(finished.totals.handler("log", "out")).expect("fits");
    assert_eq!(events_in(&path).len(), whole + last);
}

/// Size of a small disk: more than the whole machine brings about during a test.
const DISK: usize = 64 << 20;

/// A disk of that size.
struct SmallDisk(PathBuf);

impl SmallDisk {
    #[track_caller]
    fn mount(dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("the scratch folder can be written to");
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), Some(c"size=64m"))
            .expect("root may mount");
        Self(dir.to_owned())
    }

    /// Leaves only so many bytes free.
    #[track_caller]
    fn fill(&self, free: u64) -> PathBuf {
        let filler = self.0.join("filler");
        fs::write(&filler, vec![0; DISK - usize::try_from(free).expect("fits")]).expect("room");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

#[test]
fn a_disk_that_is_full_for_a_short_time_loses_nothing() {
    let dir = environment::scratch("file-full-short");
    let disk = SmallDisk::mount(&dir.join("disk"));
    let path = dir.join("disk/events.jsonl");
    let filler = disk.fill(100_000);
    let tracer = Tracer::run(&dir, &chain(&path, "wait_at_most = \"60s\""));
    let making = start_marks("file-full-short", 1, 500);
    wait_for_told(&tracer, "cannot write to the file");
    // Half of what did not fit has been taken away again.
    events_in(&path);
    fs::remove_file(filler).expect("our own file");
    making.finish();
    let finished = tracer.stop();
    finished.totals.assert_complete();
    let events = events_in(&path);
    assert_all_there(&finished, &events);
    assert_eq!(marks(&events, "file-full-short"), (1..=500).collect::<Vec<_>>());
    assert!(finished.stderr.contains("can be written to again"), "{}", finished.stderr);
}

#[test]
fn a_disk_that_stays_full_drops_and_counts_events() {
    let dir = environment::scratch("file-full-long");
    let disk = SmallDisk::mount(&dir.join("disk"));
    let path = dir.join("disk/events.jsonl");
    let filler = disk.fill(100_000);
    let tracer = Tracer::run(&dir, &chain(&path, "wait_at_most = \"200ms\""));
    start_marks("file-full-long", 1, 500).finish();
    wait_for_told(&tracer, "cannot write to the file");
    fs::remove_file(filler).expect("our own file");
    start_marks("file-full-long", 501, 600).finish();
    wait_for_mark(&path, "file-full-long", 600);
    let finished = tracer.stop();
    let (given, out) =
        (finished.totals.handler("log", "in"), finished.totals.handler("log", "out"));
    let dropped = finished.totals.handler("log", "dropped");
    assert!(dropped > 0, "{}", finished.stderr);
    assert_eq!(given, out + dropped);
    let events = events_in(&path);
    assert_eq!(events.len() as u64, out);
    let seen = marks(&events, "file-full-long");
    assert!(seen.is_sorted_by(|a, b| a < b) && seen.ends_with(&(560..=600).collect::<Vec<_>>()));
    assert!(finished.stderr.contains(&format!("dropped={dropped}")), "{}", finished.stderr);
}

#[test]
fn two_handlers_on_one_file_are_refused() {
    let dir = environment::scratch("file-twice");
    let path = dir.join("events.jsonl");
    let twice = chain(&path, "").replace(
        "[[chains]]",
        &format!("[handlers.again]\ntype = \"file\"\npath = \"{}\"\n\n[[chains]]", path.display()),
    ) + "\n[[chains]]\nfrom = [\"procs\"]\nthrough = [\"container\", \"again\"]\n";
    let config = dir.join("config.toml");
    fs::write(&config, twice).expect("the scratch folder can be written to");
    let mut command = Command::new(environment::program());
    let done = command.args(["run", "--config"]).arg(&config).output().expect("it can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("another handler") && said.contains("events.jsonl"), "{said}");
}

#[track_caller]
fn wait_for_told(tracer: &Tracer, text: &str) {
    wait::until(&format!("it says {text:?}"), LIMIT, || wait::when(tracer.said().contains(text)));
}
