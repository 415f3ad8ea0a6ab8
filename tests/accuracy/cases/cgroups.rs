//! Cgroups that somebody made or used by hand, and containers in containers.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use whalewatch_tests::{cgroup, environment};

use super::each_like_docker;
use crate::engine::{self, Cli, Engine as _, ok};
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, watched};

const CASE: &str = "cgroups";
/// The command of a container that only waits.
const STAY: [&str; 3] = ["/bin/sh", "-c", "while :; do sleep 1000; done"];

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    let rounds = machine.length.pick(2, 20);
    let mut outcomes = each_like_docker(machine, |engine| {
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), "moved", &config, |ledger, _| {
            (0..rounds).try_for_each(|round| moved(engine, ledger, round))
        })
    })?;
    if !"docker".contains(&machine.runtime) {
        return Ok(outcomes);
    }
    let (engine, config) = (Cli::docker(machine), machine.config("", "", &[]));
    outcomes.push(watched("docker, runc in it", "nested", &config, |ledger, _| {
        (0..rounds).try_for_each(|round| nested(machine, &engine, ledger, round))
    })?);
    let mut named = watched("none: a false name", "named", &config, |ledger, _| {
        (0..rounds).try_for_each(|round| named_like_a_container(ledger, round))
    })?;
    // Its processes are unknown until every runtime has answered that it has no such container.
    named.may_be_unknown = true;
    outcomes.push(named);
    Ok(outcomes)
}

/// A cgroup, removed on drop. Its processes must have exited by then.
struct Made(PathBuf);

impl Made {
    fn new(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn take(&self, pid: u32) -> Result<()> {
        take(&self.0, pid)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

fn take(cgroup: &Path, pid: u32) -> Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, pid.to_string()).with_context(|| file.display().to_string())
}

/// A shell on the host that runs a script when it is released.
fn waiting(script: &str) -> Result<Child> {
    let script = format!("read go; {script}");
    let mut command = Command::new("sh");
    Ok(command.arg("-c").arg(script).stdin(Stdio::piped()).spawn()?)
}

fn go(mut child: Child) -> Result<()> {
    child.stdin.take().context("it is a pipe")?.write_all(b"go\n")?;
    ensure!(child.wait()?.success(), "the shell has failed");
    Ok(())
}

/// A process of the host's is put into a container's cgroup, and one of a container's out of it.
fn moved(engine: &Cli, ledger: &Ledger, round: u32) -> Result<()> {
    let name = format!("moved-{round}");
    let id = engine.start(&name, &STAY)?;
    let pid = engine.pid(&name)?;
    let mark = ledger.mark(CASE, &name);
    ledger.enter(&mark, Truth::container(&id, &name));
    let inwards = waiting(&format!("/bin/true {mark}"))?;
    take(&cgroup::of_process(&pid)?, inwards.id())?;
    go(inwards)?;

    let outside = Made::new(cgroup::mount_point()?.join("ww-accuracy"))?;
    let mark = ledger.mark(CASE, "host");
    ledger.enter(&mark, Truth { entered: Some(name.clone()), ..Truth::host() });
    let script = format!(
        "until [ -e /dev/shm/go ]; do usleep 5000; done; /bin/true {mark}; : > /dev/shm/did"
    );
    engine.enter_in_background(&name, &["/bin/sh", "-c", &script])?;
    let shell = child_with(&mark)?;
    outside.take(shell)?;
    let wait = ": > /dev/shm/go; until [ -e /dev/shm/did ]; do usleep 5000; done";
    engine.enter(&name, &["/bin/sh", "-c", wait])?;
    whalewatch_tests::wait::poll(Duration::from_secs(10), || {
        whalewatch_tests::wait::when(!Path::new(&format!("/proc/{shell}")).exists())
    });
    engine.remove(&name)
}

/// The shell whose script holds this mark.
fn child_with(mark: &str) -> Result<u32> {
    let found = || {
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.starts_with("/bin/sh\0-c\0until") && line.contains(mark)).then_some(pid)
        })
    };
    whalewatch_tests::wait::poll(Duration::from_secs(10), found).context("the shell is not there")
}

/// A cgroup that no runtime has made, called like a container.
fn named_like_a_container(ledger: &Ledger, round: u32) -> Result<()> {
    let parent = Made::new(cgroup::mount_point()?.join("ww-false"))?;
    let made = Made::new(parent.0.join(format!("{:064x}", 0xfa15e + u64::from(round))))?;
    let marks: Vec<String> = (0..20).map(|_| ledger.host(CASE)).collect();
    let script =
        marks.iter().map(|mark| format!("/bin/true {mark}; sleep 0.2")).collect::<Vec<_>>();
    let shell = waiting(&script.join("; "))?;
    made.take(shell.id())?;
    go(shell)
}

/// A runtime in a privileged container: its containers' cgroups lie below its own, or beside it.
fn nested(machine: &Machine, engine: &Cli, ledger: &Ledger, round: u32) -> Result<()> {
    let dir = environment::scratch("acc-nested");
    engine::root_file_system(&dir, machine)?;
    let outer = format!("outer-{round}");
    let runc = ok(Command::new("sh").args(["-c", "command -v runc"]))?;
    let volumes = [
        format!("--volume={runc}:/runc:ro"),
        format!("--volume={}:/bundles", dir.display()),
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup".to_owned(),
    ];
    let mounts = machine.workload().mounts();
    let mut options = [Machine::privileged(), &["--cgroupns=host"]].concat();
    options.extend(volumes.iter().chain(&mounts).map(String::as_str));
    let outer_id = engine.start_with(&outer, &options, &STAY)?;
    let own = cgroup::of_process(&engine.pid(&outer)?)?;
    let own = own.strip_prefix(cgroup::mount_point()?)?.display().to_string();
    for (at, parent) in [format!("/{own}"), "/docker".to_owned()].iter().enumerate() {
        let id = format!("{:064x}", 0x1_0000 + 2 * u64::from(round) + at as u64);
        let marks: Vec<String> = (0..5).map(|_| ledger.mark(CASE, &id)).collect();
        let script: Vec<String> = marks.iter().map(|mark| format!("/bin/true {mark}")).collect();
        let script = script.join("; ") + "; :";
        let bundle = dir.join(&id);
        let path = format!("{parent}/{id}");
        engine::write_bundle(
            &bundle,
            "runc",
            Path::new("/bundles/root"),
            &["/bin/sh", "-c", &script],
            Some(&path),
        )?;
        engine.enter(&outer, &["/runc", "run", "--bundle", &format!("/bundles/{id}"), &id])?;
        for mark in &marks {
            // Nobody on this host knows what the inner runtime calls it.
            let parents = vec![outer_id.clone()];
            ledger.enter(mark, Truth { id: Some(id.clone()), parents, ..Truth::default() });
        }
    }
    engine.remove(&outer)
}
