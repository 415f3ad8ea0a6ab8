//! Checks of a guest's report.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::report::Report;
use super::{fails, workload};

/// A check's name and result.
pub(super) type Outcome = (String, Result<()>);

/// Findings of `doctor` without which watching is impossible, besides one for each tracker.
const NEEDED: [&str; 5] =
    ["kernel", "privileges", "lockdown", "type information (BTF)", "attaching"];

/// Unusual hosts on which everything works: the guest's name of the case, the check's name, and an
/// additional finding of `doctor` (its name, its state and what it found).
const WORKS: [(&str, &str, [&str; 3]); 4] = [
    ("capable", "no more than two capabilities", ["pid namespace", "ok", "the host's"]),
    (
        "pid-namespace",
        "in a pid namespace",
        [
            "pid namespace",
            "warning",
            "not the host's: events have the host's pids, and whalewatch's own events are \
             included",
        ],
    ),
    ("tracefs", "with tracefs", ["tracefs", "ok", "mounted; no tracker needs it"]),
    (
        "no-cgroups",
        "without version 2 cgroups",
        [
            "cgroups",
            "warning",
            "no version 2 hierarchy, so containers are recognised by process and namespace only",
        ],
    ),
];

/// Runs all checks of a boot's report.
pub(super) fn all(boot: &str, release: &str, report: &Report) -> Vec<Outcome> {
    let outcome = |name: &str, result| (name.to_owned(), result);
    let mut outcomes = Vec::new();
    match boot {
        "watching" | "everything" => {
            outcomes.push(outcome("doctor: all is there", doctor(report, release)));
            outcomes.extend(workload::all(report));
            for tracker in super::trackers().unwrap_or_default() {
                outcomes.push(outcome(&format!("tracker {tracker}"), watches(report, &tracker)));
            }
            let works_too = if boot == "everything" { &WORKS[..] } else { &[] };
            for (case, name, finding) in works_too {
                outcomes.push(outcome(name, works(report, case, *finding)));
            }
        }
        "integrity" => {
            let lockdown = ["lockdown", "ok", "the kernel allows programs to read its memory"];
            outcomes.push(outcome("lockdown=integrity", works(report, "integrity", lockdown)));
        }
        _ => {}
    }
    outcomes.extend(fails::all(boot, report));
    outcomes
}

fn doctor(report: &Report, release: &str) -> Result<()> {
    is_fit(report, "whole")?;
    has_finding(report, "whole", ["kernel", "ok", &format!("Linux {release}")])?;
    has_finding(report, "whole", ["tracefs", "ok", "not mounted; no tracker needs it"])?;
    has_finding(report, "whole", ["cgroups", "ok", "version 2 at /sys/fs/cgroup"])?;
    has_finding(report, "whole", ["pid namespace", "ok", "the host's"])
}

/// Checks that `doctor` finds watching possible.
fn is_fit(report: &Report, case: &str) -> Result<()> {
    let findings = report.findings(case)?;
    let trackers = super::trackers()?.into_iter().map(|name| format!("tracker {name}"));
    for name in NEEDED.map(str::to_owned).into_iter().chain(trackers) {
        let finding = findings.iter().find(|finding| finding.name == name);
        let finding = finding.with_context(|| format!("doctor has no finding {name}"))?;
        ensure!(finding.state == "ok", "doctor: {finding:?}");
    }
    let code = report.text(&format!("{case}.doctor.code"))?;
    ensure!(code == "0", "doctor: exit code {code}");
    Ok(())
}

fn has_finding(report: &Report, case: &str, [name, state, found]: [&str; 3]) -> Result<()> {
    let findings = report.findings(case)?;
    let finding = findings.iter().find(|finding| finding.name == name);
    let finding = finding.with_context(|| format!("doctor has no finding {name}"))?;
    ensure!(finding.state == state && finding.found == found, "doctor: {finding:?}");
    Ok(())
}

fn works(report: &Report, case: &str, finding: [&str; 3]) -> Result<()> {
    is_fit(report, case)?;
    has_finding(report, case, finding)?;
    ended_well(report, case)?;
    workload::single_echo(report, case)
}

/// Checks that a tracker attaches, reports events, and accounts for all of them.
fn watches(report: &Report, tracker: &str) -> Result<()> {
    let case = format!("tracker-{tracker}");
    let code = report.text(&format!("{case}.trace.code"))?;
    let said = report.text(&format!("{case}.trace.err"))?;
    ensure!(code == "0", "trace: exit code {code}: {said}");
    let totals = report.json(&format!("{case}.trace.stats"))?;
    let number = |name: &str| totals["trackers"][tracker][name].as_u64().unwrap_or(u64::MAX);
    ensure!(number("generated") == number("delivered"), "totals: {totals}");
    let events = report.events(&case)?;
    if tracker == "files" {
        let opened = events.iter().find(|event| event.0["file"]["path"] == "/etc/passwd");
        let opened = opened.context("no event for the open of /etc/passwd")?;
        ensure!(opened.0["file"]["path_source"] == "kernel", "its path: {}", opened.0);
    }
    // The guest has no process that is killed because memory runs out.
    ensure!(tracker == "oom" || number("delivered") > 0, "no events: {said}");
    Ok(())
}

/// Checks that `trace` ended with code 0, and that its totals add up without a loss.
pub(super) fn ended_well(report: &Report, case: &str) -> Result<()> {
    let code = report.text(&format!("{case}.trace.code"))?;
    let said = report.text(&format!("{case}.trace.err"))?;
    ensure!(code == "0", "trace: exit code {code}: {said}");
    let totals = report.json(&format!("{case}.trace.stats"))?;
    let printed = report.events(case)?.len() as u64;
    conserved(&totals, printed).with_context(|| format!("totals: {totals}"))
}

/// Checks totals: all generated events were delivered, went through the container manager, and were
/// printed.
fn conserved(totals: &Value, printed: u64) -> Result<()> {
    let number = |value: &Value| value.as_u64().context("a number is missing");
    let mut delivered = 0;
    for name in ["process", "cgroup"] {
        let tracker = &totals["trackers"][name];
        ensure!(number(&tracker["lost"])? == 0 && number(&tracker["invalid"])? == 0, "{name} lost");
        ensure!(number(&tracker["generated"])? == number(&tracker["delivered"])?, "{name}: sum");
        delivered += number(&tracker["delivered"])?;
    }
    let container = &totals["handlers"]["container"];
    let out = &totals["handlers"]["out"];
    ensure!(
        number(&container["in"])? == delivered,
        "events vanished between trackers and container manager"
    );
    let all = delivered + number(&container["added"])?;
    ensure!(number(&container["out"])? == all, "the container manager's sum");
    ensure!(number(&out["in"])? == all && number(&out["out"])? == all, "the output's sum");
    ensure!(printed == all, "{printed} lines are not {all}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn totals(lost: u64, delivered: u64) -> Value {
        let tracker = json!({"generated": 5, "delivered": delivered, "lost": lost, "invalid": 0});
        json!({
            "trackers": {"process": tracker, "cgroup": tracker},
            "handlers": {"container": {"in": 10, "added": 1, "out": 11},
                         "out": {"in": 11, "out": 11}},
        })
    }

    #[test]
    fn totals_that_do_not_add_up_are_found() {
        assert!(conserved(&totals(0, 5), 11).is_ok());
        assert!(conserved(&totals(1, 4), 9).is_err());
        assert!(conserved(&totals(0, 4), 11).is_err());
        assert!(conserved(&totals(0, 5), 10).is_err());
        assert!(conserved(&json!({}), 0).is_err());
    }
}
