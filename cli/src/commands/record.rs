//! `whalewatch record`

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use whalewatch_engine::{Recorder, Registry};

use crate::BAD_USAGE;
use crate::commands::{duration, load};
use crate::running::{self, RunOptions};
use crate::say::say;

/// Run the chains of a configuration file, and record everything that a replay needs
///
/// Events are recorded as the trackers send them, before any handler, so a replay can use other
/// chains. The answers of container runtimes are recorded too.
#[derive(Args)]
pub(crate) struct Record {
    /// File to write the recording to; an existing file is replaced
    recording: PathBuf,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop after this time, counted from the line `watching: …`; for example 10s or 5m
    #[arg(long, value_parser = duration, allow_hyphen_values = true, value_name = "TIME")]
    duration: Option<Duration>,
    /// Write the totals to this file as JSON at the end
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
}

impl Record {
    pub(super) fn run(&self, registry: &Registry) -> ExitCode {
        let plan = match load(registry, &self.config) {
            Ok(plan) => plan,
            Err(code) => return code,
        };
        let shown = self.recording.display();
        let started = File::create(&self.recording)
            .and_then(|file| Recorder::start(file, &running::host_name()));
        let (recorder, end) = match started {
            Ok(started) => started,
            Err(error) => {
                say(format_args!("error: cannot write {shown}: {error}: name another file"));
                return ExitCode::from(BAD_USAGE);
            }
        };
        let options = RunOptions {
            duration: self.duration,
            stats_file: self.stats_file.as_deref(),
            recorder: Some(recorder),
            ..RunOptions::default()
        };
        let code = running::run(plan, &options);
        match end.finish() {
            Ok(events) => {
                say(format_args!("recorded: {events} events in {shown}"));
                code
            }
            Err(error) => {
                say(format_args!("error: the recording {shown} is incomplete: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}
