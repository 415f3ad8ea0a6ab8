//! Compiles the kernel side.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

use super::toolchain::{Toolchain, cargo_home};
use crate::paths;
use crate::steps;

/// Lists the objects' names, one for each program file.
pub(super) fn objects() -> Result<Vec<String>> {
    let folder = paths::root().join("trackers-ebpf/src/bin");
    let entries = fs::read_dir(&folder);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(|name| format!("{name}.o")));
    }
    names.sort();
    Ok(names)
}

/// Options that the objects' bytes depend on. The linker makes type information (BTF) from
/// `debuginfo`.
pub(super) const FLAGS: [&str; 3] = ["-Clink-arg=--btf", "-Cdebuginfo=2", "-Cpanic=abort"];

/// Compiles the kernel side. Returns each object's name and bytes.
pub(super) fn build(toolchain: &Toolchain) -> Result<Vec<(String, Vec<u8>)>> {
    let target = paths::target().join("ebpf");
    // Cargo itself is from the stable toolchain; only the compiler is another one.
    let build = ["build", "--quiet", "--locked", "--release", "--bins"];
    let mut cargo = steps::cargo(&build);
    cargo
        .args(["--package", "whalewatch-trackers-ebpf"])
        .args(["-Z", "build-std=core", "--target", "bpfel-unknown-none", "--target-dir"])
        .arg(&target)
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain)?)
        // The objects' bytes depend on the profile, so it is given here and does not follow the
        // program's.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env_remove("RUSTFLAGS");
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the kernel side does not compile: cargo's messages are above");
    let made = target.join("bpfel-unknown-none/release");
    let stripped = |name: String| {
        let object = strip(&made.join(name.trim_end_matches(".o")))?;
        Ok((name, object))
    };
    objects()?.into_iter().map(stripped).collect()
}

/// Returns the compiler's flags. They keep this machine's paths out of the objects, so that every
/// machine makes the same bytes.
fn flags(toolchain: &Toolchain) -> Result<String> {
    let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
    flags.push(format!("-Clinker={}", toolchain.linker.display()));
    let library = toolchain.library.parent().unwrap_or(&toolchain.library);
    for (from, to) in
        [(paths::root().as_path(), "/whalewatch"), (&cargo_home()?, "/cargo"), (library, "/rust")]
    {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    Ok(flags.join("\x1f"))
}

/// Removes what only a debugger needs, about 95 % of the object. Type information stays.
fn strip(path: &Path) -> Result<Vec<u8>> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut elf = Builder::read(&*data).context("the object is not an ELF file")?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    elf.delete_orphans();
    // The linker keeps the names of sections and symbols in one table; the writer wants two.
    for section in &mut elf.sections {
        if section.name.as_slice() == b".strtab" {
            section.data = SectionData::String;
        }
    }
    let names = elf.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped).context("the object cannot be written")?;
    Ok(stripped)
}
