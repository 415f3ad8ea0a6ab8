//! Servers for the end-to-end tests, from Debian's packages. They are unpacked, not installed: an
//! installed server would start with the machine and take its usual port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run::{Output, Show, run};
use crate::steps::Context;
use crate::tools;

/// Packages, each with the path of its program.
const SERVERS: [(&str, &str); 2] =
    [("nats-server", "usr/sbin/nats-server"), ("prometheus", "usr/bin/prometheus")];

/// Returns the folder of the servers' programs, which are named after their packages.
pub(crate) fn dir() -> PathBuf {
    tools::dir().join("servers")
}

/// Fetches the servers that are missing.
pub(crate) fn install(context: &Context<'_>) -> Result<()> {
    for (package, program) in SERVERS {
        let target = dir().join(package);
        if target.exists() {
            continue;
        }
        context.output.line(&format!("   {package}"));
        let unpacked = dir().join(format!("{package}.unpacked"));
        fs::create_dir_all(&unpacked)?;
        if download(&unpacked, package, &context.output).is_err() {
            // The package lists may be missing or old.
            run(Command::new("apt-get").args(["-q", "update"]), &context.output, Show::OnFailure)?;
            download(&unpacked, package, &context.output)?;
        }
        unpack(&unpacked, program, &target, &context.output)
            .with_context(|| format!("cannot unpack {program} from the package {package}"))?;
        fs::remove_dir_all(&unpacked)?;
    }
    Ok(())
}

fn download(dir: &Path, package: &str, output: &Output) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.current_dir(dir).args(["-q", "download", package]);
    run(&mut command, output, Show::OnFailure)
}

fn unpack(dir: &Path, program: &str, target: &Path, output: &Output) -> Result<()> {
    const SCRIPT: &str = "set -e
        dpkg-deb --fsys-tarfile *.deb | tar -xO \"./$1\" >part
        test -s part
        chmod 755 part
        mv part \"$2\"";
    let mut command = Command::new("sh");
    command.current_dir(dir).args(["-c", SCRIPT, "sh", program]).arg(target);
    run(&mut command, output, Show::OnFailure)
}
