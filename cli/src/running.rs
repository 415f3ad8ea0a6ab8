//! Runs a plan as a program does: signals, the `watching:` line, totals, exit codes.

use std::ffi::c_int;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use whalewatch_runtime::{Control, End, Plan, RunError, System, Totals};

/// What a run is started with, beside its plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunOptions<'a> {
    pub(crate) duration: Option<Duration>,
    pub(crate) stats_file: Option<&'a Path>,
}

/// Runs a plan until its end.
pub(crate) fn run(plan: &Plan, options: &RunOptions<'_>) -> ExitCode {
    match try_run(plan, options) {
        Ok(End::Done | End::Closed) => ExitCode::SUCCESS,
        Ok(End::Aborted) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line. A cause that is in the text already (some errors tell their cause's) is not told again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn try_run(plan: &Plan, options: &RunOptions<'_>) -> anyhow::Result<End> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let system = System::new(host).duration(options.duration);
    let controller = system.controller();
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .context("signals cannot be handled on this host: is a signal filter in place?")?;
    let handle = signals.handle();
    let listener = std::thread::spawn(move || listen(signals.forever(), &controller));
    let result = system.run(plan, || {
        let names: Vec<&str> = plan.tracker_names().collect();
        eprintln!("watching: {}", names.join(", "));
    });
    handle.close();
    listener.join().ok();
    match result {
        Ok((end, totals)) => {
            report(&totals, options)?;
            Ok(end)
        }
        Err(RunError::Failed { name, message, totals }) => {
            report(&totals, options)?;
            anyhow::bail!("\"{name}\" failed: {message}")
        }
        Err(error) => Err(error.into()),
    }
}

/// The first signal brings everything to its end; the second does not wait for that.
fn listen(signals: impl Iterator<Item = c_int>, controller: &flume::Sender<Control>) {
    for (count, _) in signals.enumerate() {
        let control = if count == 0 { Control::Stop } else { Control::Abort };
        // The system may have ended by itself.
        controller.send(control).ok();
    }
}

fn report(totals: &Totals, options: &RunOptions<'_>) -> anyhow::Result<()> {
    eprint!("{totals}");
    let Some(path) = options.stats_file else { return Ok(()) };
    let json = serde_json::to_string_pretty(totals).context("totals cannot be written as JSON")?;
    fs::write(path, json + "\n")
        .with_context(|| format!("totals cannot be written to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn no_cause_is_told_twice() {
        let error = anyhow!("not permitted").context("no map: not permitted").context("no tracker");
        assert_eq!(with_causes(&error), "no tracker: no map: not permitted");
        assert_eq!(with_causes(&anyhow!("alone")), "alone");
    }
}
