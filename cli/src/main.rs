//! The stock program: every built-in tracker and handler.

use std::process::ExitCode;

fn main() -> ExitCode {
    whalewatch::Program::new().run()
}
