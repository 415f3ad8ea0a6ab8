//! `whalewatch run`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use whalewatch_engine::Registry;

use crate::BAD_USAGE;
use crate::commands::{duration, load};
use crate::running::{self, RunOptions};
use crate::say::say;

/// Default configuration files, in the order in which they are tried.
const DEFAULT_FILES: [&str; 2] = ["whalewatch.toml", "/etc/whalewatch/whalewatch.toml"];

/// Run the chains of a configuration file
#[derive(Args)]
pub(crate) struct Run {
    /// Configuration file [default: ./whalewatch.toml, else /etc/whalewatch/whalewatch.toml]
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
        let default = || DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists());
        let Some(path) = self.config.clone().or_else(default) else {
            say(format_args!(
                "error: there is no {}: name a configuration with --config FILE",
                DEFAULT_FILES.join(" or ")
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
