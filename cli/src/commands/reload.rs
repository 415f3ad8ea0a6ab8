//! `whalewatch reload`

use std::process::ExitCode;

use clap::Args;

use crate::BAD_USAGE;
use crate::control::{self, OLD_STAYS, ReloadError};
use crate::say::say;

/// Make a running `whalewatch run` read its configuration file again
///
/// Parts that did not change keep running and trackers stay attached. Events wait in the kernel's
/// buffer meanwhile, and none is lost while it has room. If the file has mistakes, they are printed
/// here and by the running program, and the old configuration stays in force. SIGHUP has the same
/// effect, but only the running program prints the outcome.
#[derive(Args)]
pub(crate) struct ReloadCommand {
    /// Process to reload; required if several are running
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

impl ReloadCommand {
    pub(super) fn run(&self) -> ExitCode {
        match control::request_reload(self.pid) {
            Ok(pid) => {
                say(format_args!("reloaded: process {pid}"));
                ExitCode::SUCCESS
            }
            Err(ReloadError::NotFound(error)) => {
                say(format_args!("error: {error}"));
                ExitCode::FAILURE
            }
            Err(ReloadError::Refused(error)) => {
                say(format_args!("{error}\n{OLD_STAYS}"));
                ExitCode::from(BAD_USAGE)
            }
        }
    }
}
