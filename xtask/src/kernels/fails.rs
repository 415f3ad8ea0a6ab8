//! Hosts on which the program cannot run: the exact messages of `trace` and `doctor`.

use anyhow::{Context as _, Result, ensure};

use super::checks::Outcome;
use super::report::Report;

/// A host that lacks something.
struct Case {
    /// The guest's name of the case.
    id: &'static str,
    name: &'static str,
    boot: &'static str,
    /// The tracker in the message of `trace`. The container manager needs the `cgroup` tracker first,
    /// so that one fails, unless it does not need what is missing.
    tracker: &'static str,
    /// The finding of `doctor` that says so.
    finding: &'static str,
    /// What is wrong. `trace` prints this, a colon, and the remedy.
    found: &'static str,
    mend: &'static str,
}

const REPORT: &str = "please report this with the output of `uname -a`";
const LOCKED: &str =
    "the kernel is locked down for confidentiality, so no program may read what happens in it";
const UNLOCK: &str = "boot with lockdown=integrity, or without lockdown";

const CASES: [Case; 8] = [
    Case {
        id: "user",
        name: "no privileges",
        boot: "everything",
        tracker: "cgroup",
        finding: "privileges",
        found: "no permission to load programs into the kernel",
        mend: "run whalewatch as root, or give it the capabilities CAP_BPF and CAP_PERFMON",
    },
    Case {
        id: "user-namespace",
        name: "root of a user namespace",
        boot: "everything",
        tracker: "cgroup",
        finding: "privileges",
        found: "no permission to load programs into the kernel from a user namespace",
        mend: "run whalewatch as the host's root, not in a rootless container or one with userns-remap",
    },
    Case {
        id: "no-btf",
        name: "no type information",
        boot: "everything",
        tracker: "cgroup",
        finding: "type information (BTF)",
        found: "this kernel has no type information at /sys/kernel/btf/vmlinux",
        mend: "whalewatch needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of all major distributions have been since 2021)",
    },
    Case {
        id: "cut-btf",
        name: "malformed type information",
        boot: "everything",
        tracker: "cgroup",
        finding: "type information (BTF)",
        found: "the kernel's type information is malformed (at its header)",
        mend: REPORT,
    },
    Case {
        id: "no-member",
        name: "a member is missing",
        boot: "everything",
        tracker: "cgroup",
        finding: "tracker process",
        found: "this kernel has no member `task_struct.start_boottime`",
        mend: REPORT,
    },
    Case {
        id: "no-tracepoint",
        name: "a tracepoint is missing",
        boot: "everything",
        tracker: "process",
        finding: "tracker process",
        found: "this kernel has no tracepoint sched_process_exec",
        mend: "whalewatch needs Linux 5.15 or newer with CONFIG_CGROUPS=y and tracepoints",
    },
    Case {
        id: "lockdown",
        name: "lockdown=confidentiality",
        boot: "lockdown",
        tracker: "cgroup",
        finding: "lockdown",
        found: LOCKED,
        mend: UNLOCK,
    },
    Case {
        id: "hidden-lockdown",
        name: "lockdown=confidentiality, securityfs not mounted",
        boot: "lockdown",
        tracker: "cgroup",
        finding: "attaching",
        found: LOCKED,
        mend: UNLOCK,
    },
];

/// Runs the checks of a boot.
pub(super) fn all(boot: &str, report: &Report) -> Vec<Outcome> {
    let cases = CASES.iter().filter(|case| case.boot == boot);
    cases.map(|case| (case.name.to_owned(), case.check(report))).collect()
}

impl Case {
    fn check(&self, report: &Report) -> Result<()> {
        let part = |command, part| report.text(&format!("{}.{command}.{part}", self.id));
        let Self { tracker, found, mend, .. } = self;
        let expected = format!("error: tracker {tracker:?} cannot start: {found}: {mend}");
        let said = part("trace", "err")?;
        ensure!(said == expected, "trace says {said:?} instead of {expected:?}");
        ensure!(part("trace", "out")?.is_empty(), "trace prints something");
        for command in ["trace", "doctor"] {
            let code = part(command, "code")?;
            ensure!(code == "1", "{command}: exit code {code} instead of 1");
        }
        let findings = report.findings(self.id)?;
        let finding = findings.iter().find(|finding| finding.name == self.finding);
        let finding = finding.with_context(|| format!("doctor omits {}", self.finding))?;
        let right = (&*finding.state, &*finding.found, &*finding.mend) == ("error", found, mend);
        ensure!(right, "doctor says {finding:?}");
        Ok(())
    }
}
