//! `whalewatch check`

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use whalewatch_engine::Registry;

use crate::commands::load;

/// Check a configuration file, and print every mistake in it
///
/// The exit code is 0 if the file is valid, and 2 if it has mistakes. Mistakes go to standard
/// error.
#[derive(Args)]
pub(crate) struct Check {
    /// Configuration file
    file: PathBuf,
}

impl Check {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        match load(registry, &self.file) {
            Ok(plan) => {
                let chains = plan.chain_names().count();
                let trackers: Vec<&str> = plan.tracker_names().collect();
                writeln!(
                    io::stdout(),
                    "{}: valid; {chains} {}; trackers: {}",
                    self.file.display(),
                    if chains == 1 { "chain" } else { "chains" },
                    trackers.join(", ")
                )?;
                Ok(ExitCode::SUCCESS)
            }
            Err(code) => Ok(code),
        }
    }
}
