//! Processes of processes: what is forked, daemonised or executed again in a container stays its.

use anyhow::{Context as _, Result};

use super::churn::host_true;
use super::each;
use crate::engine::Engine;
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, watched};

const CASE: &str = "trees";

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    let rounds = machine.length.pick(3, 20);
    each(machine, |engine| {
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), CASE, &config, |ledger, _| {
            for round in 0..rounds {
                tree(engine, ledger, &format!("trees-{round}"))?;
                enter(engine, ledger, &format!("enter-{round}"))?;
                host_true(ledger, CASE)?;
            }
            if engine.name() == "docker" {
                (0..rounds).try_for_each(|round| thread(machine, ledger, round))?;
            }
            Ok(())
        })
    })
}

/// One container with all of it.
fn tree(engine: &dyn Engine, ledger: &Ledger, name: &str) -> Result<()> {
    let mut marks = Vec::new();
    let mut marked = || {
        marks.push(ledger.mark(CASE, name));
        format!("/bin/true {}", marks[marks.len() - 1])
    };
    // The daemon is nobody's child by the time that it acts; the last line waits for it. Containers
    // of a pod share /dev/shm.
    let done = format!("/dev/shm/{name}");
    let script = [
        format!("{}; ({}; ({}) & wait) & wait", marked(), marked(), marked()),
        format!("sh -c \"exec sh -c 'exec {}'\"", marked()),
        format!("sh -c 'exec sh -c \"{}; exec {}\"'", marked(), marked()),
        format!("setsid sh -c '(sh -c \"usleep 100000; {}; : > {done}\" &) &'", marked()),
        format!("until [ -e {done} ]; do usleep 10000; done"),
    ]
    .join("\n");
    let id = engine.run(name, &["/bin/sh", "-c", &script])?;
    for mark in &marks {
        ledger.enter(mark, Truth::container(&id, name));
    }
    Ok(())
}

/// What is started in a container later, also after children of its first process have ended.
fn enter(engine: &dyn Engine, ledger: &Ledger, name: &str) -> Result<()> {
    let first = ledger.mark(CASE, name);
    let script = format!("/bin/true {first}; (/bin/true &); while :; do sleep 1000; done");
    let id = engine.start(name, &["/bin/sh", "-c", &script])?;
    ledger.enter(&first, Truth::container(&id, name));
    for _ in 0..5 {
        let mark = ledger.mark(CASE, name);
        engine.enter(name, &["/bin/true", &mark])?;
        ledger.enter(&mark, Truth::container(&id, name));
    }
    engine.remove(name)
}

/// A thread that replaces the whole process, and with it takes its number.
fn thread(machine: &Machine, ledger: &Ledger, round: usize) -> Result<()> {
    let name = format!("thread-{round}");
    let mark = ledger.mark(CASE, &name);
    let workload = machine.workload();
    let mut command = machine.docker.command();
    command.args(["run", "-d", "--name", &name]).args(workload.mounts()).arg(&machine.image);
    command.args(["/workload", "processes", "thread-exec", "/bin/true", &mark]);
    let id = crate::engine::ok(&mut command)?;
    ledger.enter(&mark, Truth::container(&id, &name));
    let code = machine.docker.run(&["wait", &name])?;
    anyhow::ensure!(code == "0", "the container ended with {code}");
    machine.docker.run(&["rm", &name]).map(drop).context("it has ended")
}
