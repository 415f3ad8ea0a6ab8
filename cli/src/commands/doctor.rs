//! `whalewatch doctor`

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use whalewatch_core::Directory;
use whalewatch_trackers::process::ProcessOptions;
use whalewatch_trackers::{Kernel, LoadError, PROGRAMS, ProcessTracker, Program, host, open};

use crate::commands::{ENDPOINT_HELP, TextOrJson, docker_host};

/// How long the Docker daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Say whether this host can run it, and how to mend what is missing
///
/// Exit code 0 if everything needed is there, 1 if not.
#[derive(Args)]
pub(crate) struct Doctor {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: TextOrJson,
    #[arg(long, value_name = "URL", help = ENDPOINT_HELP)]
    endpoint: Option<String>,
}

/// What one look at the host found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    name: Cow<'static, str>,
    state: State,
    /// What was found.
    found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it has to be.
    Ok,
    /// It runs, but knows less.
    Warning,
    /// It cannot run.
    Error,
}

impl Finding {
    fn ok(name: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), mend: None }
    }

    fn warning(name: impl Into<Cow<'static, str>>, found: impl Into<String>, mend: &str) -> Self {
        Self {
            name: name.into(),
            state: State::Warning,
            found: found.into(),
            mend: Some(mend.to_owned()),
        }
    }

    fn error(name: impl Into<Cow<'static, str>>, error: &LoadError) -> Self {
        let (found, mend) = (error.problem(), Some(error.remedy()));
        Self { name: name.into(), state: State::Error, found, mend }
    }
}

impl Doctor {
    pub(super) fn run(&self) -> io::Result<ExitCode> {
        let findings = self.examine();
        let mut out = io::stdout().lock();
        match self.format {
            TextOrJson::Json => writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?,
            TextOrJson::Text => print(&mut out, &findings)?,
        }
        let well = findings.iter().all(|finding| finding.state != State::Error);
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn examine(&self) -> Vec<Finding> {
        let mut findings = vec![kernel(), privileges(), lockdown()];
        findings.extend(type_information());
        findings.push(loading(&findings));
        findings.extend([tracefs(), cgroups(), pid_namespace()]);
        findings.extend(runtimes(docker(self.endpoint.clone()), &other_runtimes(Path::new("/"))));
        findings
    }
}

fn print(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Error => "error  ",
        };
        writeln!(out, "{state} {}: {}", finding.name, finding.found)?;
        if let Some(mend) = &finding.mend {
            writeln!(out, "        {mend}")?;
        }
    }
    Ok(())
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match version(&release) {
        Some(version) if version < (5, 15) => Finding::warning(
            "kernel",
            format!("Linux {release}"),
            "Linux 5.15 or newer is what whalewatch is made for",
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    }
}

/// Major and minor number of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn privileges() -> Finding {
    match host::check_privileges() {
        Ok(()) => Finding::ok("privileges", "this process may load programs into the kernel"),
        Err(error) => Finding::error("privileges", &error),
    }
}

fn lockdown() -> Finding {
    match host::check_lockdown() {
        Ok(()) if !host::shows_lockdown() => {
            let found = "this host does not say (securityfs is not mounted); attaching shows it";
            Finding::ok("lockdown", found)
        }
        Ok(()) => Finding::ok("lockdown", "the kernel lets programs read its memory"),
        Err(error) => Finding::error("lockdown", &error),
    }
}

fn type_information() -> Vec<Finding> {
    const NAME: &str = "type information (BTF)";
    let kernel = match Kernel::shared() {
        Ok(kernel) => kernel,
        Err(error) => return vec![Finding::error(NAME, &error)],
    };
    let tracker = |name: String, program: &Program| -> Vec<Finding> {
        let missing = program.missing(&kernel);
        if missing.is_empty() {
            return vec![Finding::ok(name, "tracepoints and struct members are there")];
        }
        missing.iter().map(|error| Finding::error(name.clone(), error)).collect()
    };
    let mut findings = vec![Finding::ok(NAME, "the kernel has it")];
    for (name, program) in PROGRAMS {
        findings.extend(tracker(format!("tracker {name}"), program));
    }
    findings
}

/// The proof: attaches the process tracker and takes it off again.
fn loading(before: &[Finding]) -> Finding {
    const NAME: &str = "attaching";
    if before.iter().any(|finding| finding.state == State::Error) {
        return Finding::warning(NAME, "not tried", "mend the errors above first");
    }
    match open::<ProcessTracker>(&ProcessOptions::default(), &Directory::default()) {
        Ok(_) => Finding::ok(NAME, "tried with the process tracker: it works"),
        Err(error) => Finding::error(NAME, &error),
    }
}

fn tracefs() -> Finding {
    let mounted = mounts().lines().any(|line| line.split(' ').nth(2) == Some("tracefs"));
    let found = if mounted { "mounted" } else { "not mounted" };
    Finding::ok("tracefs", format!("{found}; no tracker needs it"))
}

fn cgroups() -> Finding {
    let mounts = mounts();
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| place.to_owned())
    });
    match mount {
        Some(place) => Finding::ok("cgroups", format!("version 2 at {place}")),
        None => Finding::warning(
            "cgroups",
            "there is no version 2 hierarchy, so containers are told by process and namespace only",
            "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/mounts").unwrap_or_default()
}

fn pid_namespace() -> Finding {
    if host::in_initial_pid_namespace() {
        return Finding::ok("pid namespace", "the host's own");
    }
    Finding::warning(
        "pid namespace",
        "not the host's own: pids in events are the host's, and whalewatch cannot leave itself out",
        "run it on the host, or in a container with --pid=host",
    )
}

/// Runtimes besides Docker that `runtime = "auto"` asks, each with where it was found.
fn other_runtimes(root: &Path) -> Vec<String> {
    let usual = [
        ("containerd", "run/containerd/containerd.sock"),
        ("containerd (k3s)", "run/k3s/containerd/containerd.sock"),
        ("CRI-O", "run/crio/crio.sock"),
        ("podman's or CRI-O's records", "var/lib/containers/storage"),
    ];
    let there = |(_, path): &(&str, &str)| root.join(path).exists();
    usual
        .iter()
        .filter(|usual| there(usual))
        .map(|(name, path)| format!("{name} at /{path}"))
        .collect()
}

/// That Docker is missing is worth a warning only where no other runtime is there.
fn runtimes(docker: Finding, others: &[String]) -> Vec<Finding> {
    if others.is_empty() {
        return vec![docker];
    }
    let others = Finding::ok("other runtimes", others.join(", "));
    if docker.state == State::Ok { vec![docker, others] } else { vec![others] }
}

fn docker(endpoint: Option<String>) -> Finding {
    const NAME: &str = "docker";
    let endpoint = endpoint
        .or_else(docker_host)
        .unwrap_or_else(|| String::from("unix:///var/run/docker.sock"));
    let Some(path) = endpoint.strip_prefix("unix://") else {
        let found = format!("{endpoint} is no local socket and was not tried");
        return Finding::warning(NAME, found, "set endpoint to unix:///path/to/docker.sock");
    };
    match ping(path) {
        Ok(()) => Finding::ok(NAME, format!("the daemon answers at {path}")),
        Err(error) => Finding::warning(
            NAME,
            format!("no daemon answers at {path} ({error})"),
            "containers will be shown by id; names follow as soon as it answers. Start it, or set endpoint, or runtime = \"none\"",
        ),
    }
}

fn ping(path: &str) -> io::Result<()> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer)?;
    if answer.ends_with(b"200") {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Err(io::Error::other(format!("it answered {answer:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(version("6.1.0-18-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.0"), Some((5, 15)));
        assert_eq!(version("6.18"), Some((6, 18)));
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn docker_is_missed_only_where_no_other_runtime_is() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(other_runtimes(root.path()), [""; 0]);
        fs::create_dir_all(root.path().join("var/lib/containers/storage")).unwrap();
        let others = other_runtimes(root.path());
        assert_eq!(others, ["podman's or CRI-O's records at /var/lib/containers/storage"]);
        let missing = || Finding::warning("docker", "no daemon answers", "start it");
        assert_eq!(runtimes(missing(), &[]), [missing()]);
        let told = runtimes(missing(), &others);
        assert_eq!((told.len(), &*told[0].name), (1, "other runtimes"));
        let told = runtimes(Finding::ok("docker", "answers"), &others);
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn an_error_shows_its_problem_and_remedy() {
        let finding = Finding::error("privileges", &LoadError::NoPrivileges);
        assert_eq!(finding.found, "no permission to load programs into the kernel");
        assert!(finding.mend.is_some_and(|mend| mend.starts_with("run whalewatch as root")));
    }
}
