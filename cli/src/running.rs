//! Runs a plan as a program does: signals, the `watching:` line, totals, exit codes.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use whalewatch_engine::{Control, End, Plan, Recorder, Registry, RunError, System, Totals};

use crate::BAD_USAGE;
use crate::control::{Reloader, Socket};
use crate::say::say;

/// What a run is started with, beside its plan.
#[derive(Clone, Default)]
pub(crate) struct RunOptions<'a> {
    pub(crate) duration: Option<Duration>,
    pub(crate) stats_file: Option<&'a Path>,
    /// Takes everything down.
    pub(crate) recorder: Option<Recorder>,
    /// The file that the plan came from, and what its names mean: it can be read again.
    pub(crate) reloads: Option<(Registry, PathBuf)>,
}

/// Name of this host.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Runs a plan until its end.
pub(crate) fn run(plan: Plan, options: &RunOptions<'_>) -> ExitCode {
    run_and_tell(options.stats_file, || try_run(plan, options))
}

/// Runs something that ends by itself, or when it sees that `stop` is set by a signal, and gives
/// totals.
pub(crate) fn run_to_its_end(
    stop: &Arc<AtomicBool>,
    stats_file: Option<&Path>,
    run: impl FnOnce() -> anyhow::Result<Totals>,
) -> ExitCode {
    let handled = [SIGINT, SIGTERM].iter().try_for_each(|&signal| {
        // The second one does not wait.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop)).map(drop)
    });
    run_and_tell(stats_file, || match handled.map_err(anyhow::Error::from).and_then(|()| run()) {
        Ok(totals) => (Ok(End::Done), Some(Box::new(totals))),
        Err(error) => (Err(error), None),
    })
}

fn run_and_tell(
    stats_file: Option<&Path>,
    run: impl FnOnce() -> (anyhow::Result<End>, Option<Box<Totals>>),
) -> ExitCode {
    // Before anything is watched: that the totals have nowhere to go should not come out at the
    // end.
    let stats = match stats_file.map(|path| (path, File::create(path))) {
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
    let (result, totals) = run();
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

/// An error and its causes on one line. A cause that is in the text already (some errors tell their
/// cause's) is not told again.
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
fn try_run(plan: Plan, options: &RunOptions<'_>) -> (anyhow::Result<End>, Option<Box<Totals>>) {
    let mut system = System::new(host()).duration(options.duration);
    if let Some(recorder) = &options.recorder {
        system = system.record(recorder.clone());
    }
    let controller = system.controller();
    let reloader = options.reloads.clone().map(|(registry, path)| Reloader {
        registry,
        path,
        controller: controller.clone(),
    });
    let mut asked_for = vec![SIGINT, SIGTERM];
    // Without a file to read again, SIGHUP means what it always does: the terminal has gone.
    asked_for.extend(reloader.as_ref().map(|_| SIGHUP));
    let signals = Signals::new(asked_for)
        .context("signals cannot be handled on this host: is a signal filter in place?");
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return (Err(error), None),
    };
    let handle = signals.handle();
    let hears = reloader.clone();
    let listener =
        std::thread::spawn(move || listen(signals.forever(), &controller, hears.as_ref()));
    let names = plan.tracker_names().collect::<Vec<_>>().join(", ");
    let mut socket = None;
    let result = system.run(plan, || {
        socket = reloader.and_then(open_socket);
        say(format_args!("watching: {names}"));
    });
    drop(socket);
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

fn open_socket(reloader: Reloader) -> Option<Socket> {
    let opened = Socket::open(reloader);
    opened
        .inspect_err(|error| {
            tracing::warn!(%error, "`whalewatch reload` cannot reach this process: use SIGHUP");
        })
        .ok()
}

/// The first signal brings everything to its end; the second does not wait for that. SIGHUP has the
/// configuration read again.
fn listen(
    signals: impl Iterator<Item = c_int>,
    controller: &flume::Sender<Control>,
    reloader: Option<&Reloader>,
) {
    let mut stopping = false;
    for signal in signals {
        if let (SIGHUP, Some(reloader)) = (signal, reloader) {
            // On a thread of its own: a signal to stop is not to wait for it. What came of it is
            // told on standard error.
            let reloader = reloader.clone();
            std::thread::spawn(move || reloader.reload().ok());
            continue;
        }
        let control = if stopping { Control::Abort } else { Control::Stop };
        stopping = true;
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
