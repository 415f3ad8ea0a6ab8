//! `cargo xtask ebpf`: compiles the kernel side into `trackers/objects/`, or checks that the
//! objects there are up to date.

mod build;
mod manifest;
mod toolchain;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::paths;
use crate::steps::cargo;
use build::{build, objects};
use manifest::{Manifest, hash, source_hash};
use toolchain::Toolchain;

const HELP: &str = "\
cargo xtask ebpf [--check]

Compiles the kernel side (trackers-ebpf/) into trackers/objects/, with a manifest of its sources and
its compiler. Needs a compiler with its library's sources: a nightly with rust-src, or Debian's
rustc-web with rust-web-src. Builds bpf-linker into target/tools if it is missing.

  --check  Change nothing; fail if the objects do not fit their sources. With the manifest's
           compiler, objects are compared byte for byte. With another one, the sources' hash is, and
           objects compiled here must pass the tests
";

/// How to fix an object that no longer fits its sources.
const MEND: &str = "run `cargo xtask ebpf` and commit trackers/objects/";

pub(crate) fn main(args: &[String]) -> Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => rebuild(),
        ["--check"] => check(),
        ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("unknown arguments\n\n{HELP}"),
    }
}

fn rebuild() -> Result<()> {
    let folder = paths::root().join("trackers/objects");
    let toolchain = Toolchain::find(None)?;
    let objects = build(&toolchain)?;
    fs::create_dir_all(&folder)?;
    let mut manifest = Manifest::new(source_hash()?, &toolchain);
    for (name, data) in &objects {
        manifest.objects.insert(name.clone(), hash(data));
        write(&folder.join(name), data)?;
        println!("trackers/objects/{name}: {} bytes", data.len());
    }
    manifest.write(&folder)
}

fn check() -> Result<()> {
    let folder = paths::root().join("trackers/objects");
    let manifest = Manifest::read(&folder)?;
    ensure!(
        manifest.source == source_hash()?,
        "the kernel side's sources have changed since its objects were compiled: {MEND}"
    );
    for name in objects()? {
        let data = read(&folder.join(&name))?;
        ensure!(
            manifest.objects.get(&name) == Some(&hash(&data)),
            "trackers/objects/{name} differs from its hash in the manifest: {MEND}"
        );
    }
    let toolchain = Toolchain::find(Some(&manifest))?;
    let objects = build(&toolchain)?;
    if !toolchain.made(&manifest) {
        println!(
            "the committed objects are from {}; this is {}",
            manifest.rustc, toolchain.version
        );
        return test_rebuilt(&objects);
    }
    for (name, data) in &objects {
        ensure!(
            manifest.objects.get(name) == Some(&hash(data)),
            "trackers/objects/{name} differs from what its sources compile to: {MEND}"
        );
    }
    println!("the kernel objects equal what their sources compile to, byte for byte");
    Ok(())
}

/// Tests objects of another compiler, whose bytes differ: they must fit the user side.
fn test_rebuilt(objects: &[(String, Vec<u8>)]) -> Result<()> {
    let folder = paths::target().join("ebpf/rebuilt");
    fs::create_dir_all(&folder)?;
    for (name, data) in objects {
        write(&folder.join(name), data)?;
    }
    let mut test = cargo(&["test", "--quiet", "--locked", "--test", "layout"]);
    let status = test.env("WHALEWATCH_OBJECTS", &folder).status()?;
    ensure!(status.success(), "the objects compiled here do not fit the user side");
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}: {MEND}", path.display()))
}

fn write(path: &Path, data: &[u8]) -> Result<()> {
    fs::write(path, data).with_context(|| format!("cannot write {}", path.display()))
}
