//! Starting and stopping daemons.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a daemon may take until it answers.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a daemon may take to stop.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Waits until a daemon answers.
///
/// # Errors
/// If it stops, or does not answer in time: with the end of its log.
pub(crate) fn wait_until_it_answers(
    name: &str,
    child: &mut Child,
    log: &Path,
    mut answers: impl FnMut() -> bool,
) -> Result<()> {
    let answer = wait::poll(START_LIMIT, || {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(Err(status));
        }
        answers().then_some(Ok(()))
    });
    match answer {
        Some(Ok(())) => Ok(()),
        Some(Err(status)) => bail!("{name} stopped at once: {status}\n{}", end_of(log)),
        None => bail!("{name} does not answer after {START_LIMIT:?}\n{}", end_of(log)),
    }
}

/// Asks a daemon to stop, and kills it if it does not.
pub(crate) fn end(child: &mut Child) {
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        let _gone = kill_process(pid, Signal::TERM);
    }
    let ended = wait::poll(STOP_LIMIT, || child.try_wait().ok().flatten());
    if ended.is_none() {
        let _gone = child.kill();
        let _status = child.wait();
    }
}

fn end_of(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
