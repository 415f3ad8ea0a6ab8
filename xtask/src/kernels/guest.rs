//! A virtual machine with memory, two serial ports, busybox and the program, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::report::Report;
use crate::paths;
use crate::run::{Output, Show, run};

/// The guest's first process.
const SCRIPT: &str = include_str!("guest.sh");

/// The time limit for a guest, in seconds. A boot with its checks takes about 30 s on an idle core;
/// the limit is for guests that hang.
const LIMIT: &str = "480";

/// Makes the guests' initial file system.
pub(super) fn make_initrd(dir: &Path, output: &Output) -> Result<PathBuf> {
    let root = dir.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for place in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(place))?;
    }
    let busybox = super::busybox()?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    let applets = Command::new(&busybox).arg("--list").output()?;
    // Busybox's own setpriv cannot change the user.
    let applets = String::from_utf8_lossy(&applets.stdout).into_owned();
    for applet in applets.lines().filter(|name| !["busybox", "setpriv"].contains(name)) {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    add_program(&root, &paths::program())?;
    // Line numbers are most of the file, and the guest keeps all files in memory.
    run(Command::new("strip").arg(root.join("bin/whalewatch")), output, Show::OnFailure)?;
    add_program(&root, &paths::find("setpriv").context("util-linux is not installed")?)?;
    fs::write(root.join("trackers"), super::trackers()?.join("\n"))?;
    let init = root.join("init");
    fs::write(&init, SCRIPT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let initrd = dir.join("initrd");
    let mut pack = Command::new("sh");
    pack.current_dir(&root).args(["-c", "find . | \"$1\" cpio -o -H newc >\"$2\"", "sh"]);
    run(pack.arg(busybox).arg(&initrd), output, Show::OnFailure)?;
    Ok(initrd)
}

/// Copies a program and its libraries into the root.
fn add_program(root: &Path, program: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    fs::copy(program, root.join("bin").join(name))
        .with_context(|| program.display().to_string())?;
    // It fails for a static program.
    let said = Command::new("ldd").arg(program).output()?;
    for library in libraries(&String::from_utf8_lossy(&said.stdout)) {
        let copy = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().context("a library has a folder")?)?;
        fs::copy(library, copy).with_context(|| library.to_owned())?;
    }
    Ok(())
}

/// Returns the files in the output of `ldd`.
fn libraries(said: &str) -> impl Iterator<Item = &str> {
    said.split_whitespace().filter(|word| word.starts_with('/'))
}

/// Boots a kernel and waits for its end. The console and the report are kept in files whose names
/// begin with `files`.
pub(super) fn boot(
    files: &Path,
    kernel: &Path,
    initrd: &Path,
    options: &str,
    output: &Output,
) -> Result<Report> {
    let file = |kind: &str| PathBuf::from(format!("{}.{kind}", files.display()));
    let (console, report) = (file("console"), file("report"));
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT, "qemu-system-x86_64"]);
    command.args(["-machine", "pc", "-accel", "tcg", "-cpu", "max", "-m", "512"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"]);
    command.arg("-no-reboot").arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
    for port in [&console, &report] {
        command.arg("-serial").arg(format!("file:{}", port.display()));
    }
    command.args(["-append", &format!("console=ttyS0 panic=-1 quiet {options}")]);
    let result = run(&mut command, output, Show::OnFailure);
    let seen = || format!("its console is in {}", console.display());
    result.with_context(seen)?;
    let text = fs::read(&report).with_context(seen)?;
    let report = Report::parse(&String::from_utf8_lossy(&text));
    ensure!(report.is_complete(), "the guest stopped before its end: {}", seen());
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_the_output_of_ldd() {
        let said = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7e)\n\
                    \t/lib64/ld.so.2 (0x7d)\n";
        assert_eq!(libraries(said).collect::<Vec<_>>(), ["/lib/libc.so.6", "/lib64/ld.so.2"]);
        assert_eq!(libraries("\tstatically linked\n").count(), 0);
    }
}
