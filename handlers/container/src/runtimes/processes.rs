//! The processes of containers, where cgroup ids do not answer.

use rustc_hash::FxHashSet;

use super::Reporter;
use crate::cgroups::Hierarchy;
use crate::proc::{Proc, ProcEntry};
use crate::protocol::Report;

/// Processes in one report, so that the manager never works long on one.
const CHUNK: usize = 256;

/// Reports the processes in each container's cgroups; returns the containers for which none could
/// be read.
pub(super) async fn report_cgroup_processes(
    running: Vec<String>,
    report: &Reporter,
) -> Vec<String> {
    let wanted: FxHashSet<String> = running.into_iter().collect();
    // Thousands of small files: on another thread, so that this one goes on serving the runtimes.
    let report = report.clone();
    tokio::task::spawn_blocking(move || read_cgroups(wanted, &report)).await.unwrap_or_default()
}

fn read_cgroups(mut wanted: FxHashSet<String>, report: &Reporter) -> Vec<String> {
    for hierarchy in [Hierarchy::version_2(), Hierarchy::version_1()].into_iter().flatten() {
        if wanted.is_empty() {
            break;
        }
        for (id, pids) in hierarchy.processes(|id| wanted.contains(id)) {
            if !pids.is_empty() {
                report_processes(&id, &pids, report);
                wanted.remove(&id);
            }
        }
    }
    wanted.into_iter().collect()
}

/// Reports some processes of a container.
pub(super) fn report_processes(id: &str, pids: &[u32], report: &Reporter) {
    let proc = Proc::default();
    for chunk in pids.chunks(CHUNK) {
        let processes: Vec<ProcEntry> = chunk.iter().filter_map(|&pid| proc.see(pid)).collect();
        report(Report::Processes { id: id.to_owned(), processes });
    }
}
