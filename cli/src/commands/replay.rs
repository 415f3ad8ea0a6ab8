//! `whalewatch replay`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use whalewatch_engine::replay::Replayed;
use whalewatch_engine::{Registry, Replay as Player, Speed};

use crate::commands::load;
use crate::running;
use crate::say::say;

/// Feed a recording through the chains of a configuration file: no privileges needed, and each time
/// with the same result
///
/// Trackers of the configuration are not opened: what they would yield comes from the recording's
/// tracker of the same name and type, or else of the same type.
#[derive(Args)]
pub(crate) struct Replay {
    /// What `whalewatch record` made
    recording: PathBuf,
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// As fast as it goes, or as it happened
    #[arg(long, value_enum, default_value_t)]
    speed: Pace,
    /// Write the totals to this file as JSON at the end
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Pace {
    /// As fast as the chains take it
    #[default]
    Fastest,
    /// As it happened
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
        running::run_to_its_end(&player.stopper(), self.stats_file.as_deref(), || {
            let replayed = player.run()?;
            tell_left_out(&replayed);
            Ok(replayed.totals)
        })
    }
}

/// Says which events went nowhere.
pub(super) fn tell_left_out(replayed: &Replayed) {
    for (tracker, events) in &replayed.left_out {
        say(format_args!(
            "note: {events} events of the recorded tracker \"{tracker}\" were left out: no tracker of the configuration has its type"
        ));
    }
}
