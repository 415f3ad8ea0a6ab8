//! `whalewatch replay`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use whalewatch_engine::replay::Replayed;
use whalewatch_engine::{Registry, Replay as Player, Speed};

use crate::commands::load;
use crate::running;
use crate::say::say;

/// Run a recording through the chains of a configuration file
///
/// A replay needs no privileges, and gives the same result every time. No tracker is opened: each
/// tracker of the configuration gets the events of the recorded tracker with the same name and
/// type, or else with the same type.
#[derive(Args)]
pub(crate) struct Replay {
    /// Recording made by `whalewatch record`
    recording: PathBuf,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Speed of the replay
    #[arg(long, value_enum, default_value_t)]
    speed: Pace,
    /// Write the totals to this file as JSON at the end
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Pace {
    /// As fast as the chains accept events
    #[default]
    Fastest,
    /// At the speed of the recording
    RealTime,
}

impl Replay {
    pub(super) fn run(&self, registry: &Registry) -> ExitCode {
        let plan = match load(registry, &self.config) {
            Ok(plan) => plan,
            Err(code) => return code,
        };
        let speed = match self.speed {
            Pace::Fastest => Speed::Fastest,
            Pace::RealTime => Speed::RealTime,
        };
        let player = Player::new(registry, &plan, &self.recording).speed(speed);
        running::run_until_stopped(&player.stopper(), self.stats_file.as_deref(), || {
            let replayed = player.run()?;
            report_left_out(&replayed);
            Ok(replayed.totals)
        })
    }
}

/// Prints which recorded events no tracker of the configuration received.
fn report_left_out(replayed: &Replayed) {
    for (tracker, events) in &replayed.left_out {
        say(format_args!(
            "note: skipped {events} events of the recorded tracker \"{tracker}\": the \
             configuration has no tracker of its type"
        ));
    }
}
