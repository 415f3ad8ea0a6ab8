//! Namespaces: entered without a container, and shared between them.

use std::process::Command;

use anyhow::Result;

use super::churn::host_true;
use super::each_like_docker;
use crate::engine::{Cli, Engine as _, ok};
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, true_with, watched};

/// Namespaces that belong to no container, and a container's namespaces entered from the host.
pub(super) fn entered(machine: &Machine) -> Result<Vec<Outcome>> {
    each_like_docker(machine, |engine| {
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), "namespaces", &config, |ledger, _| {
            let sleep = ["/bin/sh", "-c", "while :; do sleep 1000; done"];
            let id = engine.start_with("entered", Machine::privileged(), &sleep)?;
            let pid = engine.pid("entered")?;
            for _ in 0..machine.length.pick(3, 30) {
                sandboxes(ledger)?;
                nsenter(ledger, &pid)?;
                // A sandbox in a container is still in it.
                let mark = ledger.mark("namespaces", "entered");
                let unshare = ["/bin/busybox", "unshare", "-m", "-u", "-i", "/bin/true", &mark];
                engine.enter("entered", &unshare)?;
                ledger.enter(&mark, Truth::container(&id, "entered"));
            }
            engine.remove("entered")
        })
    })
}

/// What services are put in: new namespaces, and no container.
fn sandboxes(ledger: &Ledger) -> Result<()> {
    for kinds in [
        &["--mount"][..],
        &["--user", "--map-root-user"],
        &["--mount", "--uts", "--ipc", "--net", "--pid", "--fork"],
        &["--mount", "--pid", "--fork", "--mount-proc"],
        &["--cgroup", "--net"],
    ] {
        let mark = ledger.host("namespaces");
        ok(Command::new("unshare").args(kinds).args(true_with(&mark)))?;
    }
    Ok(())
}

/// From the host into a container: its cgroup stays the host's, its mounts are the container's.
fn nsenter(ledger: &Ledger, pid: &str) -> Result<()> {
    for (kinds, entered) in [("-a", true), ("-m", true), ("-n", false), ("-p", false)] {
        let mark = ledger.mark("namespaces", "host");
        let entered = entered.then(|| "entered".to_owned());
        ledger.enter(&mark, Truth { entered, ..Truth::host() });
        ok(Command::new("nsenter").args(["-t", pid, kinds]).args(true_with(&mark)))?;
    }
    Ok(())
}

/// Containers with the namespaces of the host, and of each other.
pub(super) fn shared(machine: &Machine) -> Result<Vec<Outcome>> {
    each_like_docker(machine, |engine| {
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), "shared", &config, |ledger, _| {
            engine.start("shared-a", &["/bin/sh", "-c", "while :; do sleep 1000; done"])?;
            for round in 0..machine.length.pick(2, 20) {
                share(engine, ledger, round)?;
                host_true(ledger, "shared")?;
            }
            engine.remove("shared-a")
        })
    })
}

/// A container for each way to share, and not to share.
fn share(engine: &Cli, ledger: &Ledger, round: u32) -> Result<()> {
    for (at, options) in [
        &["--network=host"][..],
        &["--pid=host"],
        &["--network=host", "--pid=host", "--ipc=host", "--uts=host"],
        &["--cgroupns=host"],
        &["--cgroupns=private"],
        &["--pid=container:shared-a"],
        &["--network=container:shared-a"],
        &["--pid=container:shared-a", "--network=container:shared-a"],
        &["--read-only"],
        Machine::privileged(),
        &["--user=65534:65534"],
        &["--cap-drop=ALL", "--security-opt=no-new-privileges"],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("shared-{round}-{at}");
        let mark = ledger.mark("shared", &name);
        let id = engine.run_with(&name, options, &true_with(&mark))?;
        ledger.enter(&mark, Truth::container(&id, &name));
    }
    Ok(())
}
