//! Messages on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes a line to standard error, and ignores a failure: a closed stream must not end the
/// program.
pub(crate) fn say(text: impl Display) {
    writeln!(io::stderr(), "{text}").ok();
}
