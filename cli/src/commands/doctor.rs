//! `whalewatch doctor`

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::commands::TextOrJson;

/// Say whether this host can run it, and how to mend what is missing
#[derive(Args)]
pub(crate) struct Doctor {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: TextOrJson,
}

impl Doctor {
    pub(super) fn run(&self) -> io::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
