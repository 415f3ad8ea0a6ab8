//! The configuration: reads a TOML text into a [`Plan`], with the types of a [`Registry`].

pub(crate) mod describe;
mod diagnostics;
mod flow;
mod names;
pub(crate) mod options;
mod parts;
mod scenarios;

use std::ops::Range;

pub use diagnostics::{Diagnostic, Diagnostics};
use toml::de::DeTable;

use crate::plan::Plan;
use crate::registry::Registry;

/// Reads and checks a configuration text. Touches nothing else: no file, no network, no kernel.
///
/// `file` is the name that mistakes are reported with.
///
/// # Errors
/// Returns every mistake, with its line and column and how to fix it.
pub fn validate(registry: &Registry, file: &str, text: &str) -> Result<Plan, Diagnostics> {
    let mut found = Vec::new();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        found.push(Diagnostic::new(error.span().unwrap_or(0..0), error.message()));
    }
    if found.is_empty() {
        let plan = parts::read_document(registry, text, document.into_inner(), &mut found);
        if let (Some(plan), true) = (plan, found.is_empty()) {
            return Ok(plan);
        }
    }
    Err(Diagnostics::new(file, text, found))
}

/// A range of the text, in bytes.
pub(crate) type Span = Range<usize>;
