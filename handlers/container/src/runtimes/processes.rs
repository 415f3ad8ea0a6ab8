//! The processes of containers, for where their cgroups do not answer.

use rustc_hash::FxHashSet;

use super::Tell;
use crate::cgroups::Hierarchy;
use crate::proc::{Proc, Seen};
use crate::request::News;

/// Processes told in one message, so that no message takes long.
const CHUNK: usize = 256;

/// Tells the processes in each container's cgroups; gives the containers of which none could be
/// read.
pub(super) async fn tell_from_cgroups(running: Vec<String>, tell: &Tell) -> Vec<String> {
    let wanted: FxHashSet<String> = running.into_iter().collect();
    // Thousands of small files: on another thread, so that what the runtime says goes on being
    // read.
    let tell = tell.clone();
    tokio::task::spawn_blocking(move || read_cgroups(wanted, &tell)).await.unwrap_or_default()
}

fn read_cgroups(mut wanted: FxHashSet<String>, tell: &Tell) -> Vec<String> {
    for hierarchy in [Hierarchy::version_2(), Hierarchy::version_1()].into_iter().flatten() {
        if wanted.is_empty() {
            break;
        }
        for (id, pids) in hierarchy.processes(|id| wanted.contains(id)) {
            if !pids.is_empty() {
                tell_processes(&id, &pids, tell);
                wanted.remove(&id);
            }
        }
    }
    wanted.into_iter().collect()
}

/// Tells some processes of a container.
pub(super) fn tell_processes(id: &str, pids: &[u32], tell: &Tell) {
    let proc = Proc::default();
    for chunk in pids.chunks(CHUNK) {
        let seen: Vec<Seen> = chunk.iter().filter_map(|&pid| proc.see(pid)).collect();
        tell(News::Processes { id: id.to_owned(), seen });
    }
}
