//! What a start does before anything is built: early work, and opening trackers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use whalewatch_core::handler::panic_message;
use whalewatch_core::{Directory, EarlyWork, OpenError};

use super::change::Change;
use crate::plan::Plan;
use crate::registry::OpenTracker;
use crate::system::RunError;

/// Starts the early work of the plan's new handlers, except where `known` has it already, by
/// identity.
pub(super) fn start_early_work(
    plan: &Plan,
    change: &Change,
    known: &BTreeMap<String, EarlyWork>,
) -> Result<BTreeMap<usize, EarlyWork>, RunError> {
    let start = |handler: usize| {
        let known = known.get(&plan.handlers[handler].identity()).cloned();
        Ok((handler, known.map_or_else(|| start_early_work_of(plan, handler), Ok)?))
    };
    change.new_handlers(plan).into_iter().map(start).collect()
}

pub(super) fn start_early_work_of(plan: &Plan, handler: usize) -> Result<EarlyWork, RunError> {
    let planned = &plan.handlers[handler];
    let started = catch_unwind(AssertUnwindSafe(|| planned.handler.start_early_work()));
    started.map_err(|panic| RunError::Build {
        name: planned.name.clone(),
        message: format!("panicked: {}", panic_message(&*panic)),
    })
}

/// Opens trackers and returns them in the plan's order. Each is opened on its own thread:
/// loading into the kernel takes most of the time of a start, and the parts that run must not wait
/// for it. The trackers that handlers need first are open before the others.
pub(super) async fn open(
    plan: &Arc<Plan>,
    trackers: &[usize],
    directory: &Directory,
) -> Result<Vec<Box<dyn OpenTracker>>, RunError> {
    let (first, others): (Vec<usize>, Vec<usize>) =
        trackers.iter().partition(|&&tracker| plan.opens_first(tracker));
    let mut all = BTreeMap::new();
    for group in [first, others] {
        let opening: Vec<_> = group
            .into_iter()
            .map(|tracker| (tracker, open_apart(plan, tracker, directory)))
            .collect();
        for (tracker, opened) in opening {
            let result = opened
                .recv_async()
                .await
                .unwrap_or_else(|_| Err(OpenError::new("panicked while opening")));
            let name = || plan.trackers[tracker].name.clone();
            let opened = result.map_err(|source| RunError::Open { name: name(), source })?;
            all.insert(tracker, opened);
        }
    }
    Ok(all.into_values().collect())
}

/// Opens a tracker on a new thread. The result is dropped if nobody waits for it any more,
/// because another tracker has failed.
fn open_apart(
    plan: &Arc<Plan>,
    tracker: usize,
    directory: &Directory,
) -> flume::Receiver<Result<Box<dyn OpenTracker>, OpenError>> {
    let (plan, directory) = (Arc::clone(plan), directory.clone());
    let (done, opened) = flume::bounded(1);
    std::thread::spawn(move || {
        let result = plan.trackers[tracker].tracker.open(&directory);
        done.send(result).ok();
    });
    opened
}
