//! Tests of the whole handler, with real files.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use whalewatch_core::{HumanDuration, HumanSize};
use whalewatch_testing::{Bench, Ran, example};

use super::*;
use crate::rotated::Form;

type Tested = Bench<JsonFile>;

fn options(path: &Path) -> FileOptions {
    FileOptions { wait_at_most: HumanDuration(Duration::ZERO), ..FileOptions::new(path) }
}

#[track_caller]
fn bench(options: &FileOptions) -> Tested {
    Bench::new::<Ran>(options).unwrap()
}

/// Events that differ in their pid.
fn batch(pids: std::ops::Range<u32>) -> Batch {
    let event = |pid| {
        let mut event = example();
        event.process.pid = pid;
        event
    };
    Batch::new("procs".into(), pids.map(event).collect())
}

fn pids_in(text: &str) -> Vec<u32> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no newline");
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["process"]["pid"].as_u64().unwrap() as u32
    };
    text.lines().map(line).collect()
}

fn pids(path: &Path) -> Vec<u32> {
    pids_in(&fs::read_to_string(path).unwrap())
}

/// The pids in the rotated files, the oldest first, and then in the file itself.
fn all_pids(path: &Path) -> Vec<u32> {
    let mut all = Vec::new();
    for file in rotated::list(path).unwrap() {
        let bytes = fs::read(file.form.of(&file.plain)).unwrap();
        let bytes = match file.form {
            Form::Plain => bytes,
            Form::Compressed => zstd::decode_all(&bytes[..]).unwrap(),
            Form::Partial => panic!("{file:?} was left"),
        };
        all.extend(pids_in(std::str::from_utf8(&bytes).unwrap()));
    }
    all.extend(pids(path));
    all
}

fn upto(end: u32) -> Vec<u32> {
    (0..end).collect()
}

#[test]
fn events_count_as_delivered_when_they_are_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/events.jsonl");
    let mut bench = bench(&options(&path));
    bench.handle(batch(0..3)).unwrap();
    assert_eq!((bench.count(|c| &c.output), pids(&path)), (0, vec![]));
    bench.flush().unwrap();
    assert_eq!((bench.count(|c| &c.output), pids(&path)), (3, upto(3)));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    bench.handle(batch(3..2000)).unwrap();
    bench.end().unwrap();
    assert_eq!(pids(&path), upto(2000));
    assert!(bench.adds_up());
}

#[test]
fn no_line_crosses_a_page_with_batches_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut bench = bench(&options(&path));
    let mut next = 0;
    for count in (1..60).chain([700, 1, 900, 2]) {
        bench.handle(batch(next..next + count)).unwrap();
        bench.flush().unwrap();
        next += count;
    }
    assert_eq!(pids(&path), upto(next));
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.chunks_exact(4096).all(|page| page.ends_with(b"\n")));
}

#[test]
fn lines_have_no_spaces_between_them_without_padding() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut bench = bench(&FileOptions { pad: false, ..options(&path) });
    bench.handle(batch(0..1000)).unwrap();
    bench.end().unwrap();
    assert_eq!(pids(&path), upto(1000));
    assert!(!fs::read_to_string(&path).unwrap().contains(' '));
}

#[test]
fn size_rotates_the_file_and_keep_bounds_rotated_files() {
    for (pad, compress) in [(true, Compress::None), (false, Compress::Zstd)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let size = Some(HumanSize(20_000));
        let rotate = Rotate { size, age: None };
        let mut bench = bench(&FileOptions { pad, compress, rotate, keep: 4, ..options(&path) });
        for next in 0..100 {
            bench.handle(batch(next * 10..next * 10 + 10)).unwrap();
            bench.flush().unwrap();
        }
        bench.end().unwrap();
        assert!(bench.adds_up());
        assert_eq!(bench.count(|c| &c.output), 1000);
        let all = all_pids(&path);
        assert_eq!(
            all,
            (1000 - all.len() as u32..1000).collect::<Vec<_>>(),
            "the newest events, in order"
        );
        assert_eq!(rotated::list(&path).unwrap().len(), 4);
        assert!(fs::metadata(&path).unwrap().len() <= 20_000);
        if compress == Compress::None {
            for file in rotated::list(&path).unwrap() {
                assert!((12_000..=20_000).contains(&fs::metadata(file.plain).unwrap().len()));
            }
        }
    }
}

#[test]
fn numbers_continue_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let rotate = Rotate { size: Some(HumanSize(4096)), age: None };
    for run in 0..3 {
        let mut bench =
            bench(&FileOptions { rotate: rotate.clone(), keep: 1000, ..options(&path) });
        bench.handle(batch(run * 100..run * 100 + 100)).unwrap();
        bench.end().unwrap();
    }
    assert_eq!(all_pids(&path), upto(300));
    let numbers: Vec<u64> = rotated::list(&path).unwrap().iter().map(|file| file.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn age_rotates_an_idle_file_but_not_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let hour = Duration::from_hours(1);
    let rotate = Rotate { size: None, age: Some(HumanDuration(hour)) };
    let mut bench = bench(&FileOptions { rotate, ..options(&path) });
    bench.flush().unwrap();
    bench.advance(2 * hour).unwrap();
    assert_eq!(rotated::list(&path).unwrap(), []);
    bench.handle(batch(0..5)).unwrap();
    bench.flush().unwrap();
    bench.advance(hour / 2).unwrap();
    assert_eq!(rotated::list(&path).unwrap(), []);
    bench.advance(hour / 2).unwrap();
    assert_eq!(rotated::list(&path).unwrap().len(), 1);
    bench.advance(5 * hour).unwrap();
    bench.handle(batch(5..6)).unwrap();
    bench.end().unwrap();
    assert_eq!((rotated::list(&path).unwrap().len(), all_pids(&path)), (1, upto(6)));
}

#[test]
fn a_new_file_is_started_when_the_file_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("a"), dir.path().join("a.1"));
    let mut bench = bench(&options(&path));
    bench.handle(batch(0..5)).unwrap();
    bench.flush().unwrap();
    fs::rename(&path, &aside).unwrap();
    bench.handle(batch(5..7)).unwrap();
    bench.flush().unwrap();
    assert_eq!((pids(&aside), pids(&path)), (upto(5), vec![5, 6]));
    fs::remove_file(&path).unwrap();
    bench.handle(batch(7..9)).unwrap();
    bench.end().unwrap();
    assert_eq!(pids(&path), [7, 8]);
}

#[test]
fn lines_start_at_the_beginning_of_a_truncated_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut bench = bench(&options(&path));
    bench.handle(batch(0..500)).unwrap();
    bench.flush().unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    bench.handle(batch(500..1000)).unwrap();
    bench.end().unwrap();
    assert_eq!(pids(&path), (500..1000).collect::<Vec<_>>());
}

/// Set in the process that this test kills: the path of the file to write to without a pause.
const VICTIM: &str = "WHALEWATCH_FILE_TEST_VICTIM";

#[test]
fn a_kill_during_a_write_leaves_no_partial_line() {
    if let Some(path) = std::env::var_os(VICTIM) {
        let rotate = Rotate { size: Some(HumanSize(16 << 20)), age: None };
        let options = FileOptions { rotate, keep: 1, ..options(Path::new(&path)) };
        let mut bench = bench(&options);
        loop {
            // Not a multiple of anything, so that some writes begin in the middle of a page.
            bench.handle(batch(0..251)).unwrap();
            bench.flush().unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    for round in 0..30 {
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["--exact", "tests::a_kill_during_a_write_leaves_no_partial_line"]);
        victim.env(VICTIM, &path).stdout(Stdio::null()).stderr(Stdio::null());
        let mut victim = victim.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        // Kills at another size of the file in each round.
        while fs::metadata(&path).map_or(0, |file| file.len()) < 500_000 + 10_007 * round {
            assert!(Instant::now() < deadline, "the process writes too little");
            std::thread::sleep(Duration::from_micros(100));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "round {round}");
        fs::remove_file(&path).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[test]
fn a_partial_line_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut first = bench(&options(&path));
    first.handle(batch(0..10)).unwrap();
    first.end().unwrap();
    drop(first);
    let whole = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(whole - 7).unwrap();
    let mut second = bench(&options(&path));
    assert_eq!(pids(&path), upto(9));
    second.handle(batch(9..12)).unwrap();
    second.end().unwrap();
    assert_eq!(pids(&path), upto(12));
}

#[test]
fn a_second_handler_on_the_same_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let first = bench(&options(&path));
    let problems = Bench::<JsonFile>::new::<Ran>(&options(&path)).err().unwrap();
    assert!(problems[0].message.contains("another handler"), "{problems:?}");
    drop(first);
    bench(&options(&path));
}

#[test]
fn a_path_that_is_not_a_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (path, why) in [(dir.path(), "directory"), (Path::new("/dev/null"), "not a regular file")] {
        let problems = Bench::<JsonFile>::new::<Ran>(&options(path)).err().unwrap();
        let message = problems[0].message.to_lowercase();
        assert!(message.contains(why) && message.contains("cannot write to"), "{message}");
    }
}

/// Moves the folder away and puts a file in its place, so that not even root can write to it.
fn break_folder(dir: &Path) -> PathBuf {
    let aside = dir.with_extension("aside");
    fs::rename(dir, &aside).unwrap();
    File::create(dir).unwrap();
    aside
}

fn repair_folder(dir: &Path, aside: &Path) {
    fs::remove_file(dir).unwrap();
    fs::rename(aside, dir).unwrap();
}

#[test]
fn events_are_dropped_and_counted_during_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("logs");
    let path = folder.join("a");
    let mut bench = bench(&options(&path));
    bench.handle(batch(0..5)).unwrap();
    bench.flush().unwrap();
    let aside = break_folder(&folder);
    bench.handle(batch(5..500)).unwrap();
    bench.flush().unwrap();
    assert_eq!((bench.count(|c| &c.output), bench.count(|c| &c.dropped)), (5, 495));
    repair_folder(&folder, &aside);
    bench.handle(batch(500..510)).unwrap();
    bench.end().unwrap();
    assert_eq!(pids(&path), upto(5).into_iter().chain(500..510).collect::<Vec<_>>());
    assert!(bench.adds_up());
}

#[test]
fn no_event_is_dropped_when_an_outage_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("logs");
    let path = folder.join("a");
    let patient = HumanDuration(Duration::from_mins(1));
    let mut bench = bench(&FileOptions { wait_at_most: patient, ..options(&path) });
    let aside = break_folder(&folder);
    bench.handle(batch(0..5)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| repair_folder(&folder, &aside));
        bench.flush().unwrap();
    });
    bench.end().unwrap();
    assert_eq!((pids(&path), bench.count(|c| &c.dropped)), (upto(5), 0));
}

#[test]
fn sync_option_decides_when_lines_are_synced() {
    let dir = tempfile::tempdir().unwrap();
    for (sync, after_flush) in [
        (Sync::Never, true),
        (Sync::Flush, false),
        (Sync::Every(HumanDuration(Duration::from_secs(5))), true),
    ] {
        let path = dir.path().join(String::from(sync));
        let mut bench = bench(&FileOptions { sync, ..options(&path) });
        bench.handle(batch(0..1)).unwrap();
        bench.flush().unwrap();
        assert_eq!(bench.handler().output.unsynced(), after_flush, "{sync:?}");
        bench.advance(Duration::from_secs(5)).unwrap();
        assert_eq!(bench.handler().output.unsynced(), sync == Sync::Never, "{sync:?}");
    }
}
