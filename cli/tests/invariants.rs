//! The invariants of docs/ARCHITECTURE.md that are about who may depend on whom.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("cli/ stands in the repository")
        .to_owned()
}

/// What a crate of the workspace depends on when others use it.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = root().join(folder).join("Cargo.toml");
    let text =
        fs::read_to_string(&manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
    let manifest: toml::Table = toml::from_str(&text).expect("a manifest is TOML");
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    dependencies.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

/// Crates of the workspace in a folder, as `handlers/stdout`.
fn crates_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name());
    let mut names: Vec<String> =
        names.map(|name| format!("{folder}/{}", name.to_string_lossy())).collect();
    names.sort();
    names
}

#[test]
fn authors_depend_on_little() {
    let core = dependencies("framework/core");
    for heavy in ["actix", "aya", "tokio", "clap", "flume", "bollard", "toml", "serde_json"] {
        assert!(!core.contains(heavy), "framework/core depends on {heavy}");
    }
}

#[test]
fn no_handler_depends_on_another_handler_or_on_the_runtime() {
    let handlers = crates_in("handlers");
    assert!(handlers.len() >= 4, "{handlers:?}");
    for handler in handlers {
        for dependency in dependencies(&handler).iter().filter(|d| d.starts_with("whalewatch")) {
            let allowed = ["whalewatch-core", "whalewatch-kit"];
            assert!(allowed.contains(&dependency.as_str()), "{handler} depends on {dependency}");
        }
    }
}

#[test]
fn what_handlers_share_is_built_on_the_core_alone() {
    let kit = dependencies("framework/kit");
    let ours: Vec<&String> = kit.iter().filter(|d| d.starts_with("whalewatch")).collect();
    assert_eq!(ours, ["whalewatch-core"]);
}

#[test]
fn no_tracker_depends_on_a_handler_or_on_the_runtime() {
    for tracker in ["trackers", "trackers/common"] {
        for dependency in dependencies(tracker).iter().filter(|d| d.starts_with("whalewatch")) {
            let allowed = ["whalewatch-core", "whalewatch-trackers-common"];
            assert!(allowed.contains(&dependency.as_str()), "{tracker} depends on {dependency}");
        }
    }
}

#[test]
fn the_runtime_knows_no_tracker_and_no_handler() {
    let ours: Vec<String> = dependencies("framework/engine")
        .into_iter()
        .filter(|d| d.starts_with("whalewatch"))
        .collect();
    assert_eq!(ours, ["whalewatch-core"]);
}

/// Outputs; the container manager, which says for recordings what its helper has heard;
/// and the file, which looks whether a line is whole.
const WRITERS: &[&str] = &[
    "handlers/container",
    "handlers/file",
    "handlers/nats",
    "handlers/otlp",
    "handlers/stdout",
    "handlers/webhook",
];

#[test]
fn only_outputs_and_the_command_line_serialise() {
    let mut all = crates_in("handlers");
    all.extend(["framework/core", "trackers", "trackers/common"].map(String::from));
    for folder in all {
        // What writes values as text.
        let writes = ["serde_json", "itoa"];
        let writes = dependencies(&folder).iter().any(|d| writes.contains(&d.as_str()));
        assert!(!writes || WRITERS.contains(&folder.as_str()), "{folder}");
    }
}
