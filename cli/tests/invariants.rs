//! The invariants of docs/ARCHITECTURE.md about who may depend on whom, and who writes text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ is in the repository").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.sort();
    paths
}

/// Returns the direct dependencies of a crate, without those of its tests.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest: toml::Table =
        toml::from_str(&read(&root().join(folder).join("Cargo.toml"))).expect("a manifest is TOML");
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(toml::Table::values).filter_map(|v| v.as_table());
    let tables = [&manifest].into_iter().chain(targets);
    tables
        .flat_map(|table| ["dependencies", "build-dependencies"].map(|key| table.get(key)))
        .flatten()
        .filter_map(toml::Value::as_table)
        .flat_map(|table| table.keys().cloned())
        .collect()
}

/// Returns the direct dependencies of a crate that are crates of this repository.
fn own_dependencies(folder: &str) -> BTreeSet<String> {
    dependencies(folder).into_iter().filter(|name| name.starts_with("whalewatch")).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns the crates of built-in handlers, as `handlers/stdout`.
fn handlers() -> BTreeSet<String> {
    let name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names = entries(&root().join("handlers")).into_iter().filter_map(name);
    names.map(|name| format!("handlers/{name}")).collect()
}

#[test]
fn each_built_in_handler_is_a_crate_of_its_name() {
    let program = whalewatch::Program::new();
    let registered = program.registry().describe_handlers().map(|(name, ..)| name.to_owned());
    let registered: BTreeSet<String> = registered.map(|name| format!("handlers/{name}")).collect();
    assert_eq!(handlers(), registered);
}

#[test]
fn core_depends_on_nothing_heavy() {
    let core = dependencies("framework/core");
    for heavy in ["actix", "aya", "tokio", "clap", "flume", "bollard", "toml", "serde_json"] {
        assert!(!core.contains(heavy), "framework/core depends on {heavy}");
    }
}

#[test]
fn handlers_depend_only_on_core_kit_and_net() {
    let allowed = names(&["whalewatch-core", "whalewatch-kit", "whalewatch-net"]);
    for handler in handlers() {
        let own = own_dependencies(&handler);
        assert!(own.contains("whalewatch-core"), "{handler} is a handler without the core");
        assert!(own.is_subset(&allowed), "{handler} depends on {own:?}");
    }
}

#[test]
fn kit_depends_only_on_core() {
    assert_eq!(own_dependencies("framework/kit"), names(&["whalewatch-core"]));
}

#[test]
fn net_and_testing_depend_only_on_core() {
    for folder in ["framework/net", "framework/testing"] {
        assert_eq!(own_dependencies(folder), names(&["whalewatch-core"]), "{folder}");
    }
}

#[test]
fn trackers_depend_only_on_core_and_their_records() {
    let core_and_records = names(&["whalewatch-core", "whalewatch-trackers-common"]);
    assert_eq!(own_dependencies("trackers"), core_and_records);
    assert!(own_dependencies("trackers/common").is_subset(&core_and_records));
}

#[test]
fn engine_depends_only_on_core() {
    assert_eq!(own_dependencies("framework/engine"), names(&["whalewatch-core"]));
}

/// The handlers that may write values as text, with the reason.
const WRITERS: [(&str, &str); 9] = [
    ("handlers/container", "reads JSON from runtimes, and writes for recordings what they said"),
    ("handlers/exec", "output"),
    ("handlers/file", "output"),
    ("handlers/nats", "output"),
    ("handlers/otlp", "output"),
    ("handlers/rules", "writes the evidence of alerts"),
    ("handlers/sqlite", "output"),
    ("handlers/stdout", "output"),
    ("handlers/webhook", "output"),
];

/// The only ways to write values as text: two crates, and the kit's JSON lines.
fn writes_text(dependencies: &BTreeSet<String>, source: &str) -> bool {
    dependencies.contains("serde_json") || dependencies.contains("itoa") || uses_kit_json(source)
}

/// Whether a source names `whalewatch_kit::Json`, in a path or in a `use` list.
fn uses_kit_json(source: &str) -> bool {
    source.split("whalewatch_kit::").skip(1).any(|rest| {
        let statement = rest.split(';').next().unwrap_or("");
        let path = match statement.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(""),
            None => {
                statement.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
            }
        };
        path.split(|c: char| !c.is_alphanumeric() && c != '_').any(|name| name == "Json")
    })
}

/// Returns the sources of a crate as one text, without its tests.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for path in entries(folder) {
        if path.is_dir() {
            if !path.ends_with("tests") {
                text.push_str(&sources(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            // Unit tests are at the end of a file.
            let source = read(&path);
            text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(""));
        }
    }
    text
}

#[test]
fn only_outputs_and_listed_handlers_write_text() {
    let others = ["framework/core", "trackers", "trackers/common"].map(String::from);
    let writers: BTreeSet<String> = handlers()
        .into_iter()
        .chain(others)
        .filter(|folder| {
            writes_text(&dependencies(folder), &sources(&root().join(folder).join("src")))
        })
        .collect();
    assert_eq!(writers, names(&WRITERS.map(|(folder, _)| folder)));
}

#[test]
fn text_written_through_the_kit_is_recognised() {
    let none = BTreeSet::new();
    for source in [
        "use whalewatch_kit::Json;",
        "use whalewatch_kit::{\n    Clock, Json,\n};",
        "fn f(json: &mut whalewatch_kit::Json) {}",
    ] {
        assert!(writes_text(&none, source), "{source}");
    }
    assert!(!writes_text(&none, "use whalewatch_kit::{Clock, Keys}; use schemars::Json;"));
    assert!(writes_text(&names(&["itoa"]), "") && writes_text(&names(&["serde_json"]), ""));
}
