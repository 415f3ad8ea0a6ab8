//! What is said on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes a line to standard error. That nobody reads it is no reason to fail.
pub(crate) fn say(text: impl Display) {
    writeln!(io::stderr(), "{text}").ok();
}
