use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::record::{example, take};

const MAX: u64 = 1 << 20;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn list(numbers: Range<u64>) -> Vec<u64> {
    numbers.collect()
}

/// Numbers of the records from `place` on.
fn numbers(spool: &mut Spool, place: u64) -> Vec<u64> {
    let (mut found, mut at) = (Vec::new(), place);
    loop {
        match spool.read(at) {
            None => return found,
            Some(Read::Damage(to)) => at = to,
            Some(Read::Chunk(chunk)) => {
                assert_eq!(chunk.first, at);
                let mut offset = 0;
                while let Some((record, next)) = take(&chunk.bytes, offset) {
                    let id = str::from_utf8(&record.id).expect("text");
                    found.push(id.rsplit('-').next().expect("a number").parse().expect("a number"));
                    offset = next;
                }
                at = chunk.end();
            }
        }
    }
}

fn fill(spool: &mut Spool, numbers: impl IntoIterator<Item = u64>, payload: usize) {
    for number in numbers {
        spool.append(&example(number, payload), 1).expect("room on the disk");
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("a folder").flatten();
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("text");
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(read).collect()
}

fn segments(dir: &Path) -> usize {
    files(dir).keys().filter(|name| name.ends_with(".segment")).count()
}

#[test]
fn a_spool_continues_after_it_was_closed() {
    let dir = folder();
    let mut first = open(dir.path(), MAX).expect("a spool").spool;
    fill(&mut first, 1..=10, 100);
    first.settle(4);
    first.close(4);
    drop(first);
    let mut opened = open(dir.path(), MAX).expect("a spool");
    assert_eq!((opened.settled, opened.spool.end(), opened.cut), (4, 10, 0));
    fill(&mut opened.spool, 11..=12, 100);
    assert_eq!(numbers(&mut opened.spool, 4), list(5..13));
    opened.spool.settle(12);
    opened.spool.close(12);
    assert_eq!(segments(dir.path()), 0, "no segment is left when every record is settled");
    drop(opened);
    let opened = open(dir.path(), MAX).expect("a spool");
    assert_eq!((opened.settled, opened.spool.end()), (0, 0));
}

#[test]
fn a_spool_has_one_user() {
    let dir = folder();
    let opened = open(dir.path(), MAX).expect("a spool");
    let error = open(dir.path(), MAX).expect_err("the spool is in use");
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("spool.dir"), "{error}");
    drop(opened);
    open(dir.path(), MAX).expect("the spool is free again");
}

#[test]
fn an_error_names_a_folder_that_cannot_be_created() {
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let error = open(&file.join("spool"), MAX).expect_err("no folder").to_string();
    assert!(error.contains("file/spool") && error.contains("spool.dir"), "{error}");
}

#[test]
fn settled_segments_are_removed_and_the_size_is_bounded() {
    let dir = folder();
    let mut spool = open(dir.path(), MAX).expect("a spool").spool;
    for number in 0..10_000 {
        let record = example(number, 1000);
        while !spool.fits(record.len()) {
            spool.remove_oldest().expect("something to remove");
        }
        spool.append(&record, 1).expect("room on the disk");
    }
    let on_disk: usize = files(dir.path()).values().map(Vec::len).sum();
    assert!((MAX as usize * 3 / 4..MAX as usize + 200).contains(&on_disk), "{on_disk}");
    let first = spool.first();
    assert_eq!(numbers(&mut spool, first), list(first..10_000));
    spool.settle(9_990);
    assert!(segments(dir.path()) <= 1);
    assert_eq!(numbers(&mut spool, 9_990), list(9_990..10_000));
}

#[test]
fn damage_loses_the_rest_of_its_segment_only() {
    let dir = folder();
    let mut spool = open(dir.path(), MAX).expect("a spool").spool;
    fill(&mut spool, 0..400, 1000);
    drop(spool);
    let path = files::segment(dir.path(), 1);
    let mut bytes = fs::read(&path).expect("a segment");
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(&path, &bytes).expect("a segment");
    let mut opened = open(dir.path(), MAX).expect("a spool");
    assert!(opened.cut > 0);
    let found = numbers(&mut opened.spool, 0);
    assert!(found.len() > 300 && found.len() < 400, "{}", found.len());
    assert!(found.is_sorted() && found.ends_with(&[398, 399]));
    // Damage while the spool is open is noticed when it is read.
    let path = files::segment(dir.path(), 2);
    fs::write(&path, vec![7; 50_000]).expect("a segment");
    assert!(numbers(&mut opened.spool, 0).len() < found.len());
}

#[test]
fn a_large_record_is_read_whole() {
    let dir = folder();
    let mut spool = open(dir.path(), MAX).expect("a spool").spool;
    fill(&mut spool, [1], 10);
    fill(&mut spool, [2], READ + 1000);
    fill(&mut spool, [3], 10);
    assert_eq!(numbers(&mut spool, 0), [1, 2, 3]);
    assert_eq!(numbers(&mut spool, 1), [2, 3]);
    assert_eq!(numbers(&mut spool, 2), [3]);
}

#[test]
fn epochs_increase_whatever_the_clock_says() {
    let dir = folder();
    let first = epoch(Some(dir.path())).expect("an epoch");
    assert!(epoch(Some(dir.path())).expect("an epoch") > first);
    let late = u64::MAX >> 1;
    fs::write(dir.path().join("epoch"), format!("{late:x}\n")).expect("a file");
    assert_eq!(epoch(Some(dir.path())).expect("an epoch"), late + 1);
    fs::write(dir.path().join("epoch"), "nonsense").expect("a file");
    assert!(epoch(Some(dir.path())).expect("an epoch") > first);
    assert!(epoch(None).expect("an epoch") > first);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a crash leaves at the end of the last segment, the spool has all whole records
    /// before it, in order, and can be used.
    #[test]
    fn a_crash_at_any_byte_leaves_whole_records(
        count in 1..40_u64,
        settled in 0..40_u64,
        payload in 0..3000_usize,
        cut: prop::sample::Index,
        garbage in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let dir = folder();
        let mut spool = open(dir.path(), MAX).expect("a spool").spool;
        let mut ends = Vec::new();
        for number in 0..count {
            fill(&mut spool, [number], payload);
            let newest = spool.segments.back().expect("a segment");
            ends.push((newest.number, newest.bytes));
        }
        let settled = settled.min(count);
        spool.settle(settled);
        let newest = spool.segments.back().expect("a segment");
        let (path, number) = (newest.path.clone(), newest.number);
        // Copies the files while the spool is open, as a crash would leave them.
        let left = folder();
        for (name, bytes) in files(dir.path()) {
            fs::write(left.path().join(name), bytes).expect("a file");
        }
        let torn = left.path().join(path.file_name().expect("a name"));
        let mut bytes = fs::read(&torn).expect("a segment");
        let cut = cut.index(bytes.len() + 1);
        bytes.truncate(cut);
        bytes.extend(&garbage);
        fs::write(&torn, &bytes).expect("a segment");

        let mut opened = open(left.path(), MAX).expect("a spool");
        let from = opened.settled;
        let found = numbers(&mut opened.spool, from);
        let is_whole = |(of, end): &&(u64, u64)| *of < number || *end <= cut as u64;
        let whole = ends.iter().filter(is_whole).count() as u64;
        prop_assert_eq!(found, list(settled.min(whole)..whole));
        fill(&mut opened.spool, [1000], payload);
        let found = numbers(&mut opened.spool, from);
        prop_assert_eq!(found.last(), Some(&1000));
    }

    /// A spool can be opened whatever its small files contain.
    #[test]
    fn small_files_may_contain_anything(
        settled in prop::collection::vec(any::<u8>(), 0..80),
        epoch_text: Vec<u8>,
    ) {
        let dir = folder();
        let mut spool = open(dir.path(), MAX).expect("a spool").spool;
        fill(&mut spool, 0..5, 10);
        drop(spool);
        fs::write(dir.path().join("settled"), &settled).expect("a file");
        fs::write(dir.path().join("epoch"), &epoch_text).expect("a file");
        let mut opened = open(dir.path(), MAX).expect("a spool");
        prop_assert_eq!(numbers(&mut opened.spool, opened.settled), [0, 1, 2, 3, 4]);
        epoch(Some(dir.path())).expect("an epoch");
    }
}
