//! Running a plan as a program: signals, the `watching:` line, totals, exit codes.

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
use whalewatch_core::error::with_causes;
use whalewatch_engine::{Control, End, Plan, Recorder, Registry, RunError, System, Totals};

use crate::BAD_USAGE;
use crate::control::{Reloader, Socket};
use crate::say::say;

/// Settings of a run, besides its plan.
#[derive(Clone, Default)]
pub(crate) struct RunOptions<'a> {
    pub(crate) duration: Option<Duration>,
    pub(crate) stats_file: Option<&'a Path>,
    /// Records everything that a replay needs.
    pub(crate) recorder: Option<Recorder>,
    /// The file that the plan came from, and the registry to read it with again. `None` if the run
    /// cannot be reloaded.
    pub(crate) reloads: Option<(Registry, PathBuf)>,
}

/// Returns the host name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Runs a plan until it ends.
pub(crate) fn run(plan: Plan, options: &RunOptions<'_>) -> ExitCode {
    run_and_report(options.stats_file, || try_run(plan, options))
}

/// Runs a function that returns totals. It ends by itself, or when it sees that a signal has set
/// `stop`.
pub(crate) fn run_until_stopped(
    stop: &Arc<AtomicBool>,
    stats_file: Option<&Path>,
    run: impl FnOnce() -> anyhow::Result<Totals>,
) -> ExitCode {
    let handled = [SIGINT, SIGTERM].iter().try_for_each(|&signal| {
        // The second signal exits at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop)).map(drop)
    });
    run_and_report(stats_file, || match handled.map_err(anyhow::Error::from).and_then(|()| run()) {
        Ok(totals) => (Ok(End::Done), Some(Box::new(totals))),
        Err(error) => (Err(error), None),
    })
}

/// Runs, then prints the totals, writes them to `stats_file`, and chooses the exit code.
fn run_and_report(
    stats_file: Option<&Path>,
    run: impl FnOnce() -> (anyhow::Result<End>, Option<Box<Totals>>),
) -> ExitCode {
    // The file is created before the run, so that a bad path is reported now and not at the end.
    let stats = match stats_file.map(|path| (path, File::create(path))) {
        None => None,
        Some((path, Ok(file))) => Some((path, file)),
        Some((path, Err(error))) => {
            say(format_args!(
                "error: cannot write the totals to {}: {error}: name another file",
                path.display()
            ));
            return ExitCode::from(BAD_USAGE);
        }
    };
    let (result, totals) = run();
    let mut code = ExitCode::SUCCESS;
    match result {
        Ok(End::Done | End::Closed) => {}
        Ok(End::Aborted) => {
            say("error: aborted by a second signal: events still in queues are not in the totals");
            code = ExitCode::FAILURE;
        }
        Err(error) => {
            say(format_args!("error: {}", with_causes(&*error)));
            code = ExitCode::FAILURE;
        }
    }
    let Some(totals) = totals else { return code };
    say(totals.to_string().trim_end());
    if let Some((path, file)) = stats
        && let Err(error) = write(&totals, file)
    {
        say(format_args!("error: cannot write the totals to {}: {error}", path.display()));
        code = ExitCode::FAILURE;
    }
    code
}

/// Returns how the run ended, and its totals if it got that far.
fn try_run(plan: Plan, options: &RunOptions<'_>) -> (anyhow::Result<End>, Option<Box<Totals>>) {
    let mut system = System::new(host_name()).duration(options.duration);
    if let Some(recorder) = &options.recorder {
        system = system.record(recorder.clone());
    }
    let controller = system.controller();
    let reloader = options.reloads.clone().map(|(registry, path)| Reloader {
        registry,
        path,
        controller: controller.clone(),
    });
    let mut handled = vec![SIGINT, SIGTERM];
    // If there is no file to reload, SIGHUP keeps its usual effect: it ends the program.
    handled.extend(reloader.as_ref().map(|_| SIGHUP));
    let signals = Signals::new(handled)
        .context("cannot install signal handlers: check whether a seccomp filter forbids it");
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return (Err(error), None),
    };
    let handle = signals.handle();
    let on_hangup = reloader.clone();
    let listener =
        std::thread::spawn(move || listen(signals.forever(), &controller, on_hangup.as_ref()));
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
            tracing::warn!(
                %error,
                "no control socket: `whalewatch reload` cannot reach this process, use SIGHUP"
            );
        })
        .ok()
}

/// Turns signals into control messages: the first asks for an orderly stop, the second aborts, and
/// SIGHUP reloads the configuration.
fn listen(
    signals: impl Iterator<Item = c_int>,
    controller: &flume::Sender<Control>,
    reloader: Option<&Reloader>,
) {
    let mut stopping = false;
    for signal in signals {
        if let (SIGHUP, Some(reloader)) = (signal, reloader) {
            // A separate thread, so that a reload does not delay a signal to stop. The outcome is
            // printed by `reload` itself.
            let reloader = reloader.clone();
            std::thread::spawn(move || reloader.reload().ok());
            continue;
        }
        let control = if stopping { Control::Abort } else { Control::Stop };
        stopping = true;
        // The system may have ended already.
        controller.send(control).ok();
    }
}

fn write(totals: &Totals, mut file: File) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut file, totals)?;
    file.write_all(b"\n")
}
