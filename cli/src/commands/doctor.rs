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

/// Time limit for an answer of the Docker daemon.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Check whether this host can run Whalewatch, and show how to fix what is missing
///
/// The exit code is 0 if nothing required is missing, and 1 otherwise.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: TextOrJson,
    #[arg(long, value_name = "URL", help = ENDPOINT_HELP)]
    endpoint: Option<String>,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    name: Cow<'static, str>,
    state: State,
    /// What the check found.
    found: String,
    /// How to fix the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As required.
    Ok,
    /// Whalewatch runs, but reports less.
    Warning,
    /// Whalewatch cannot run.
    Error,
}

impl Finding {
    fn ok(name: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: impl Into<Cow<'static, str>>, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            name: name.into(),
            state: State::Warning,
            found: found.into(),
            remedy: Some(remedy.to_owned()),
        }
    }

    fn error(name: impl Into<Cow<'static, str>>, error: &LoadError) -> Self {
        let (found, remedy) = (error.problem(), Some(error.remedy()));
        Self { name: name.into(), state: State::Error, found, remedy }
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
        let failed = findings.iter().any(|finding| finding.state == State::Error);
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
        if let Some(remedy) = &finding.remedy {
            writeln!(out, "        {remedy}")?;
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
            "use Linux 5.15 or newer: older kernels are not supported",
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    }
}

/// Returns the major and minor number of a kernel release.
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
            let found = "not known, because securityfs is not mounted; see \"attaching\" below";
            Finding::ok("lockdown", found)
        }
        Ok(()) => Finding::ok("lockdown", "the kernel allows programs to read its memory"),
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
            return vec![Finding::ok(name, "the kernel has its tracepoints and struct members")];
        }
        missing.iter().map(|error| Finding::error(name.clone(), error)).collect()
    };
    let mut findings = vec![Finding::ok(NAME, "provided by the kernel")];
    for (name, program) in PROGRAMS {
        findings.extend(tracker(format!("tracker {name}"), program));
    }
    findings
}

/// Attaches the process tracker and detaches it again: the proof that loading works.
fn loading(before: &[Finding]) -> Finding {
    const NAME: &str = "attaching";
    if before.iter().any(|finding| finding.state == State::Error) {
        return Finding::warning(NAME, "not tried", "fix the errors above first");
    }
    match open::<ProcessTracker>(&ProcessOptions::default(), &Directory::default()) {
        Ok(_) => Finding::ok(NAME, "the process tracker attaches"),
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
        let (path, file_system) = (words.next()?, words.next()?);
        (file_system == "cgroup2").then(|| path.to_owned())
    });
    match mount {
        Some(path) => Finding::ok("cgroups", format!("version 2 at {path}")),
        None => Finding::warning(
            "cgroups",
            "no version 2 hierarchy, so containers are recognised by process and namespace only",
            "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or boot with \
             systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/mounts").unwrap_or_default()
}

fn pid_namespace() -> Finding {
    if host::in_initial_pid_namespace() {
        return Finding::ok("pid namespace", "the host's");
    }
    Finding::warning(
        "pid namespace",
        "not the host's: events have the host's pids, and whalewatch's own events are included",
        "run it on the host, or in a container with --pid=host",
    )
}

/// Returns the runtimes besides Docker that `runtime = "auto"` asks, each with its path.
fn other_runtimes(root: &Path) -> Vec<String> {
    let usual = [
        ("containerd", "run/containerd/containerd.sock"),
        ("containerd (k3s)", "run/k3s/containerd/containerd.sock"),
        ("CRI-O", "run/crio/crio.sock"),
        ("podman's or CRI-O's records", "var/lib/containers/storage"),
    ];
    let exists = |(_, path): &(&str, &str)| root.join(path).exists();
    usual
        .iter()
        .filter(|usual| exists(usual))
        .map(|(name, path)| format!("{name} at /{path}"))
        .collect()
}

/// Drops the warning that Docker is missing if there is another runtime.
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
        let found = format!("not tried, because {endpoint} is not a local socket");
        return Finding::warning(NAME, found, "set endpoint to unix:///path/to/docker.sock");
    };
    match ping(path) {
        Ok(()) => Finding::ok(NAME, format!("the daemon answers at {path}")),
        Err(error) => Finding::warning(
            NAME,
            format!("no daemon answers at {path} ({error})"),
            "until it answers, containers are shown by id only; start Docker, set endpoint, or set \
             runtime = \"none\"",
        ),
    }
}

fn ping(path: &str) -> io::Result<()> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PING_TIMEOUT))?;
    socket.set_write_timeout(Some(PING_TIMEOUT))?;
    socket.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = [0; 12];
    socket.read_exact(&mut answer)?;
    if answer.ends_with(b"200") {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    Err(io::Error::other(format!("unexpected answer {answer:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_a_kernel_release() {
        assert_eq!(version("6.1.0-18-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.0"), Some((5, 15)));
        assert_eq!(version("6.18"), Some((6, 18)));
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn missing_docker_warns_only_without_another_runtime() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(other_runtimes(root.path()), [""; 0]);
        fs::create_dir_all(root.path().join("var/lib/containers/storage")).unwrap();
        let others = other_runtimes(root.path());
        assert_eq!(others, ["podman's or CRI-O's records at /var/lib/containers/storage"]);
        let missing = || Finding::warning("docker", "no daemon answers", "start it");
        assert_eq!(runtimes(missing(), &[]), [missing()]);
        let findings = runtimes(missing(), &others);
        assert_eq!((findings.len(), &*findings[0].name), (1, "other runtimes"));
        let findings = runtimes(Finding::ok("docker", "answers"), &others);
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn an_error_shows_its_problem_and_remedy() {
        let finding = Finding::error("privileges", &LoadError::NoPrivileges);
        assert_eq!(finding.found, "no permission to load programs into the kernel");
        assert!(finding.remedy.is_some_and(|remedy| remedy.starts_with("run whalewatch as root")));
    }
}
