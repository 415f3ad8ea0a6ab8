//! `whalewatch run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use whalewatch_engine::Registry;

use crate::BAD_USAGE;
use crate::commands::{duration, load};
use crate::running::{self, RunOptions};
use crate::say::say;

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["whalewatch.toml", "/etc/whalewatch/whalewatch.toml"];

/// Run the chains of a configuration file
#[derive(Args)]
pub(crate) struct Run {
    /// The configuration [default: whalewatch.toml here, else /etc/whalewatch/whalewatch.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop after this time, counted from the line `watching: …`; for example 10s or 5m
    #[arg(long, value_parser = duration, allow_hyphen_values = true, value_name = "TIME")]
    duration: Option<Duration>,
    /// Write the totals to this file as JSON at the end
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
}

impl Run {
    pub(super) fn run(&self, registry: &Registry) -> ExitCode {
        let found = || PLACES.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned);
        let Some(path) = self.config.clone().or_else(found) else {
            let places = PLACES.join(" or ");
            say(format_args!(
                "error: there is no {places}: name a configuration with --config FILE"
            ));
            return ExitCode::from(BAD_USAGE);
        };
        match load(registry, &path) {
            Ok(plan) => {
                let options = RunOptions {
                    duration: self.duration,
                    stats_file: self.stats_file.as_deref(),
                    reloads: Some((registry.clone(), path)),
                    ..RunOptions::default()
                };
                running::run(plan, &options)
            }
            Err(code) => code,
        }
    }
}
