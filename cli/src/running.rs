//! Runs a plan as a program does: signals, the `watching:` line, totals, exit codes.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use whalewatch_runtime::{Control, End, Plan, RunError, System, Totals};

use crate::BAD_USAGE;
use crate::say::say;

/// What a run is started with, beside its plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunOptions<'a> {
    pub(crate) duration: Option<Duration>,
    pub(crate) stats_file: Option<&'a Path>,
}

/// Runs a plan until its end.
pub(crate) fn run(plan: &Plan, options: &RunOptions<'_>) -> ExitCode {
    // Before anything is watched: that the totals have nowhere to go should not come out at the end.
    let stats = match options.stats_file.map(|path| (path, File::create(path))) {
        None => None,
        Some((path, Ok(file))) => Some((path, file)),
        Some((path, Err(error))) => {
            let path = path.display();
            say(format_args!(
                "error: totals cannot be written to {path}: {error}: name another file"
            ));
            return ExitCode::from(BAD_USAGE);
        }
    };
    let (result, totals) = try_run(plan, options.duration);
    let mut code = ExitCode::SUCCESS;
    match result {
        Ok(End::Done | End::Closed) => {}
        Ok(End::Aborted) => {
            say("error: stopped at once by a second signal: events on their way are in no total");
            code = ExitCode::FAILURE;
        }
        Err(error) => {
            say(format_args!("error: {}", with_causes(&error)));
            code = ExitCode::FAILURE;
        }
    }
    let Some(totals) = totals else { return code };
    say(totals.to_string().trim_end());
    if let Some((path, file)) = stats
        && let Err(error) = write(&totals, file)
    {
        say(format_args!("error: totals cannot be written to {}: {error}", path.display()));
        code = ExitCode::FAILURE;
    }
    code
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

/// How the run ended, and its totals if it came so far.
fn try_run(plan: &Plan, duration: Option<Duration>) -> (anyhow::Result<End>, Option<Box<Totals>>) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let system = System::new(host).duration(duration);
    let controller = system.controller();
    let signals = Signals::new([SIGINT, SIGTERM])
        .context("signals cannot be handled on this host: is a signal filter in place?");
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return (Err(error), None),
    };
    let handle = signals.handle();
    let listener = std::thread::spawn(move || listen(signals.forever(), &controller));
    let result = system.run(plan, || {
        let names: Vec<&str> = plan.tracker_names().collect();
        say(format_args!("watching: {}", names.join(", ")));
    });
    handle.close();
    listener.join().ok();
    match result {
        Ok((end, totals)) => (Ok(end), Some(Box::new(totals))),
        Err(RunError::Failed { name, message, totals }) => {
            (Err(anyhow::anyhow!("\"{name}\" failed: {message}")), Some(totals))
        }
        Err(error) => (Err(error.into()), None),
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

fn write(totals: &Totals, mut file: File) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut file, totals)?;
    file.write_all(b"\n")
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
