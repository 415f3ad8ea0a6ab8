//! The records as user space knows them, against the type information inside the compiled objects.
//! An object that was built from other records fails here, instead of yielding wrong events.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSection as _};
use whalewatch_trackers::LAYOUTS;
use whalewatch_trackers::btf::Btf;
use whalewatch_trackers_common as common;

/// The folder of objects: the committed ones, or those that `cargo xtask ebpf --check` rebuilt.
fn objects() -> PathBuf {
    env::var_os("WHALEWATCH_OBJECTS").map_or_else(committed, PathBuf::from)
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("objects")
}

/// The type information of a tracker's object.
fn types(tracker: &str) -> Btf {
    let path = objects().join(format!("{tracker}.o"));
    let data = fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let file = object::File::parse(&*data).expect("an ELF file");
    let section = file.section_by_name(".BTF").expect("type information");
    Btf::parse(section.data().expect("readable").to_vec()).expect("well-formed")
}

/// What differs between a type here and in an object.
fn differences(btf: &Btf, layout: &common::Layout) -> Vec<String> {
    let name = layout.name;
    let Ok(size) = btf.size(name) else { return vec![format!("{name} is missing")] };
    let mut differences = Vec::new();
    if size as usize != layout.size {
        differences.push(format!("size of {name}: {size}, not {}", layout.size));
    }
    for &(member, offset) in layout.members {
        let path = member.replace(' ', "");
        let found = btf.offset(name, &path).map(|offset| offset as usize);
        if !found.as_ref().is_ok_and(|&found| found == offset) {
            differences.push(format!("offset of {name}.{path}: {found:?}, not {offset}"));
        }
    }
    differences
}

#[test]
fn records_have_one_layout_on_both_sides() {
    for (tracker, layouts) in LAYOUTS {
        let btf = types(tracker);
        let wrong: Vec<_> = layouts.iter().flat_map(|layout| differences(&btf, layout)).collect();
        assert!(wrong.is_empty(), "{tracker}.o differs: {wrong:#?}");
        assert!(layouts.len() > 1, "{tracker} has at least one record and its settings");
    }
}

#[test]
fn shared_types_have_one_layout_on_both_sides() {
    let btf = types("process");
    let wrong: Vec<_> =
        common::LAYOUTS.iter().flat_map(|layout| differences(&btf, layout)).collect();
    assert!(wrong.is_empty(), "process.o differs: {wrong:#?}");
}

#[test]
fn wrong_layouts_are_found() {
    let btf = types("process");
    let wrong = |layout: common::Layout| differences(&btf, &layout);
    let header = common::LAYOUTS.iter().find(|layout| layout.name == "RecordHeader").unwrap();
    assert_eq!(wrong(*header), [""; 0]);
    assert_eq!(wrong(common::Layout { size: 1, ..*header }), ["size of RecordHeader: 16, not 1"]);
    assert_eq!(
        wrong(common::Layout { members: &[("time", 7)], ..*header }),
        ["offset of RecordHeader.time: Ok(8), not 7"]
    );
    assert_eq!(wrong(common::Layout { members: &[("nothing", 0)], ..*header }).len(), 1);
    assert_eq!(wrong(common::Layout { name: "Nothing", ..*header }), ["Nothing is missing"]);
}

#[test]
fn every_committed_object_belongs_to_a_tracker() {
    let files = fs::read_dir(committed()).expect("the folder of objects");
    let names = files.filter_map(|file| file.expect("a folder").file_name().into_string().ok());
    let objects: BTreeSet<_> =
        names.filter_map(|name| name.strip_suffix(".o").map(str::to_owned)).collect();
    let trackers: BTreeSet<_> = LAYOUTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(objects, trackers);
}
