use std::collections::BTreeSet;

use super::*;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("whalewatch-{name}-{}", std::process::id()));
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("our own folder");
    }
    fs::create_dir(&dir).expect("a temporary folder can be created");
    dir
}

fn new(name: &str, path: PathBuf, whalewatch: Option<&Path>) -> Result<PathBuf, String> {
    let whalewatch = whalewatch.map(Path::to_owned);
    let handler = NewHandler { name: name.to_owned(), path: Some(path), whalewatch };
    handler.write(crate::Program::new().registry())
}

/// Returns all files below a folder with their texts.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let each = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![(path.clone(), fs::read_to_string(path).expect("a text"))]
        }
    };
    entries.flat_map(each).collect()
}

#[test]
fn all_placeholders_are_replaced() {
    let dir = scratch("new-whole");
    let made = new("my-geo2", dir.join("a/b"), None).expect("it can be written");
    let files = files(&made);
    assert_eq!(files.len(), FILES.len());
    for (path, text) in &files {
        assert!(!path.to_string_lossy().contains("__"), "{}", path.display());
        assert!(!text.contains("__"), "{}: {text}", path.display());
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{}", path.display());
    }
    let text = |name: &str| &files.iter().find(|(path, _)| path.ends_with(name)).expect(name).1;
    assert!(text("main.rs").contains(r#".handler::<whalewatch_my_geo2::MyGeo2>("my-geo2")"#));
    assert!(text("Cargo.toml").contains(r#"whalewatch-core = { version = "0.1" }"#));
    toml::from_str::<toml::Table>(text("Cargo.toml")).expect("TOML");
    toml::from_str::<toml::Table>(text("my-geo2.toml")).expect("TOML");
    fs::remove_dir_all(dir).expect("our own folder");
}

#[test]
fn crate_from_sources_uses_their_full_path_and_lock_file() {
    let dir = scratch("new-sources");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = new("geo", dir.join("geo"), Some(&here)).expect("it can be written");
    let text = fs::read_to_string(made.join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = toml::from_str(&text).expect("TOML");
    let path = manifest["dependencies"]["whalewatch-core"]["path"].as_str().expect("a path");
    assert_eq!(Path::new(path), here.canonicalize().expect("our sources").join("framework/core"));
    assert_eq!(fs::read(made.join("Cargo.lock")).ok(), fs::read(here.join("Cargo.lock")).ok());
    let error = new("geo", dir.join("other"), Some(&dir)).expect_err("no sources there");
    assert!(error.contains("does not contain the sources of Whalewatch: there is no "), "{error}");
    assert!(!dir.join("other").exists());
    fs::remove_dir_all(dir).expect("our own folder");
}

#[test]
fn existing_files_are_kept_and_a_failure_leaves_none() {
    let dir = scratch("new-refused");
    fs::write(dir.join("mine"), "precious").expect("it can be written");
    let error = new("geo", dir.join("mine"), None).expect_err("it is there");
    assert!(error.contains("mine exists already: name another folder with --path"), "{error}");
    let error = new("geo", dir.join("mine/geo"), None).expect_err("no folder");
    assert!(error.contains("cannot write ") && error.contains("mine/geo: "), "{error}");
    // A file in the middle cannot be written.
    let half = write_whole(&dir.join("half"), |part| {
        fs::write(part.join("first"), "")?;
        fs::write(part.join("no/second"), "")
    });
    half.expect_err("there is no folder `no`");
    assert_eq!(files(&dir), [(dir.join("mine"), "precious".to_owned())]);
    assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 1, "a hidden folder was left");
    fs::remove_dir_all(dir).expect("our own folder");
}

#[test]
fn invalid_name_is_refused_with_a_remedy() {
    let registry = crate::Program::new();
    let check = |name: &str| check_name(name, registry.registry());
    for name in ["geo", "my-geo", "k8s", "a"] {
        assert_eq!(check(name), Ok(()), "{name}");
    }
    let long = "x".repeat(41);
    for (name, expected) in [
        ("", "use lower-case letters"),
        ("Geo", "use lower-case letters"),
        ("8geo", "starting with a letter"),
        ("geo-", "single hyphens"),
        ("a--b", "single hyphens"),
        ("a_b", "use lower-case letters"),
        ("../x", "use lower-case letters"),
        ("geö", "use lower-case letters"),
        ("filter", "handler \"filter\" exists already"),
        ("batch", "for example my-batch"),
        ("core", "for example my-core"),
        (&long, "at most 40 characters"),
    ] {
        let error = check(name).expect_err(name);
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn every_type_name_in_the_templates_is_refused() {
    let taken: BTreeSet<String> = TAKEN.split_whitespace().map(camel_case).collect();
    let sources = FILES.iter().filter(|(path, _)| path.starts_with("src/"));
    let words = sources.flat_map(|(_, text)| {
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| line.split('"').step_by(2))
            .flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
    });
    let types = words.filter(|word| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains(|c: char| c.is_ascii_lowercase())
    });
    // These appear only after `::`, or belong to the handler itself.
    let exempt = ["Uint", "Null", "Options", "Message"];
    let types: BTreeSet<&str> = types.filter(|name| !exempt.contains(name)).collect();
    assert!(types.contains("Batch"), "{types:?}");
    for name in types {
        assert!(taken.contains(name), "{name}");
    }
}
