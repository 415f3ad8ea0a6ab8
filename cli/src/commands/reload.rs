//! `whalewatch reload`

use std::process::ExitCode;

use clap::Args;

use crate::BAD_USAGE;
use crate::control::{self, Untold};
use crate::say::say;

/// Have a running `whalewatch run` read its configuration file again
///
/// What the file asks for as before goes on untouched, trackers stay attached, and no event is
/// lost. A file with mistakes is refused: they are told here and there, and the old configuration
/// goes on. SIGHUP does the same without an answer.
#[derive(Args)]
pub(crate) struct ReloadCommand {
    /// The process to ask; needed where several are running
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

impl ReloadCommand {
    pub(super) fn run(&self) -> ExitCode {
        match control::ask_to_reload(self.pid) {
            Ok(pid) => {
                say(format_args!("reloaded: process {pid}"));
                ExitCode::SUCCESS
            }
            Err(Untold::NotFound(error)) => {
                say(format_args!("error: {error}"));
                ExitCode::FAILURE
            }
            Err(Untold::Refused(error)) => {
                say(format_args!("{error}\nerror: the old configuration goes on"));
                ExitCode::from(BAD_USAGE)
            }
        }
    }
}
