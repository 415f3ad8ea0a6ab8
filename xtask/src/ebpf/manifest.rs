//! The manifest of the committed objects: their sources and their compiler.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::build::FLAGS;
use super::toolchain::Toolchain;
use super::{MEND, read, write};
use crate::paths;

const FILE: &str = "manifest.json";
/// Folders whose sources go into the objects.
const SOURCES: [&str; 2] = ["trackers-ebpf", "trackers/common"];
/// Packages that go into the objects or generate code for them.
const PACKAGES: [&str; 3] = ["aya-ebpf", "aya-build", "bytemuck"];

/// The manifest.
pub(super) struct Manifest {
    /// Hash over the sources, the packages they use and the compiler's options.
    pub(super) source: String,
    /// The compiler.
    pub(super) rustc: String,
    /// The linker.
    pub(super) linker: String,
    /// Hash of each object.
    pub(super) objects: BTreeMap<String, String>,
}

impl Manifest {
    pub(super) fn new(source: String, toolchain: &Toolchain) -> Self {
        let (rustc, linker) = (toolchain.version.clone(), toolchain.linker_version.clone());
        Self { source, rustc, linker, objects: BTreeMap::new() }
    }

    pub(super) fn read(folder: &Path) -> Result<Self> {
        let text = read(&folder.join(FILE))?;
        let parse = || {
            let json: Value = serde_json::from_slice(&text).ok()?;
            let text = |key: &str| Some(json.get(key)?.as_str()?.to_owned());
            let objects = json.get("objects")?.as_object()?;
            Some(Self {
                source: text("source")?,
                rustc: text("rustc")?,
                linker: text("bpf_linker")?,
                objects: objects
                    .iter()
                    .filter_map(|(name, hash)| Some((name.clone(), hash.as_str()?.to_owned())))
                    .collect(),
            })
        };
        parse().with_context(|| format!("trackers/objects/{FILE} is not a manifest: {MEND}"))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let json = json!({
            "source": self.source,
            "rustc": self.rustc,
            "bpf_linker": self.linker,
            "objects": self.objects,
        });
        write(&folder.join(FILE), format!("{json:#}\n").as_bytes())
    }
}

pub(super) fn hash(data: &[u8]) -> String {
    format!("{:x}", Sha256::digest(data))
}

/// Hashes everything that the objects' bytes depend on, apart from the compiler.
pub(super) fn source_hash() -> Result<String> {
    let root = paths::root();
    let mut files = Vec::new();
    for folder in SOURCES {
        list(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut digest = Sha256::new();
    for path in files {
        let name = path.strip_prefix(&root).unwrap_or(&path);
        digest.update(format!("{}\n{}\n", name.display(), hash(&read(&path)?)));
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    digest.update(locked_packages(&lock));
    digest.update(FLAGS.join(" "));
    Ok(format!("{:x}", digest.finalize()))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder);
    for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml")
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Returns the entries of [`PACKAGES`] in a lock file.
fn locked_packages(lock: &str) -> String {
    let wanted = |entry: &&str| {
        let name = entry.lines().find_map(|line| line.strip_prefix("name = \""));
        name.is_some_and(|name| PACKAGES.iter().any(|package| name.starts_with(package)))
    };
    lock.split("[[package]]\n").filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_of_the_kernel_side_count() {
        let lock = "version = 4\n\n[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\n\
                    [[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        assert_eq!(locked_packages(lock), "name = \"aya-ebpf\"\nversion = \"0.2.1\"\n");
    }

    #[test]
    fn a_manifest_survives_writing_and_reading() {
        let folder =
            std::env::temp_dir().join(format!("whalewatch-manifest-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        let objects = BTreeMap::from([("a.o".to_owned(), hash(b"a"))]);
        let (source, rustc, linker) = (hash(b""), "rustc 1".to_owned(), "linker 2".to_owned());
        Manifest { source, rustc, linker, objects }.write(&folder).expect("it can be written");
        let read = Manifest::read(&folder).expect("it can be read");
        fs::remove_dir_all(&folder).expect("the folder can go");
        assert_eq!((read.rustc.as_str(), read.linker.as_str()), ("rustc 1", "linker 2"));
        assert_eq!(read.objects["a.o"], hash(b"a"));
    }
}
