//! The cases, each a workload that something gets wrong.

mod cgroups;
mod churn;
mod daemon;
mod late;
mod lifecycle;
mod namespaces;
mod restarts;
mod reuse;
mod scale;
mod trees;

use anyhow::Result;

use crate::engine::{Cli, Ctr, Engine, Oci, Pods};
use crate::report::Outcome;
use crate::run::Machine;

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Machine) -> Result<Vec<Outcome>>,
}

const fn case(
    name: &'static str,
    about: &'static str,
    run: fn(&Machine) -> Result<Vec<Outcome>>,
) -> Case {
    Case { name, about, run }
}

/// All of them.
pub(crate) const CASES: &[Case] = &[
    case("churn", "loops of containers that end at once", churn::run),
    case("trees", "forks of forks, daemons, chains of exec, threads that exec", trees::run),
    case("lifecycle", "exec, health checks, restart, pause, rename, kill, update", lifecycle::run),
    case("reuse", "process numbers that come again within seconds", reuse::run),
    case("late", "files and sockets that a dying process leaves", late::run),
    case("namespaces", "namespaces that belong to no container", namespaces::entered),
    case(
        "shared",
        "containers that share namespaces, with the host and each other",
        namespaces::shared,
    ),
    case("cgroups", "processes moved by hand, false names, containers in containers", cgroups::run),
    case("daemon", "a daemon that is stopped, killed, hung and started again", daemon::run),
    case("scale", "10,000 containers of a simulated daemon", scale::run),
    case("restarts", "Whalewatch started and stopped in the middle of it", restarts::run),
];

/// Makes a runtime ready.
type Make = fn(&Machine) -> Result<Box<dyn Engine>>;

/// Every runtime, for the cases that any of them can be put through.
const ENGINES: [(&str, Make); 7] = [
    ("docker", |machine| Ok(Box::new(Cli::docker(machine)))),
    ("podman", |machine| Ok(Box::new(Cli::podman(machine)?))),
    ("rootless podman", |machine| Ok(Box::new(Cli::rootless_podman(machine)?))),
    ("containerd", |machine| Ok(Box::new(Ctr::new(machine)?))),
    ("pods", |machine| Ok(Box::new(Pods::new(machine)?))),
    ("runc", |machine| Ok(Box::new(Oci::new(machine, "runc")?))),
    ("crun", |machine| Ok(Box::new(Oci::new(machine, "crun")?))),
];

/// Puts each runtime that is wanted through a case, one after the other.
fn each(machine: &Machine, case: impl Fn(&dyn Engine) -> Result<Outcome>) -> Result<Vec<Outcome>> {
    let wanted = ENGINES.iter().filter(|(name, _)| name.contains(&machine.runtime));
    wanted.map(|(_, make)| case(&*make(machine)?)).collect()
}

/// The same with those runtimes that can most of what Docker's command can.
fn each_like_docker(
    machine: &Machine,
    case: impl Fn(&Cli) -> Result<Outcome>,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    if "docker".contains(&machine.runtime) {
        outcomes.push(case(&Cli::docker(machine))?);
    }
    if "podman".contains(&machine.runtime) {
        outcomes.push(case(&Cli::podman(machine)?)?);
    }
    Ok(outcomes)
}
