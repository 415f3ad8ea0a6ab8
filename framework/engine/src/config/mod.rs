//! The configuration: a TOML text read against a [`Registry`] into a [`Plan`].

pub(crate) mod describe;
mod diagnostics;
mod flow;
mod names;
pub(crate) mod options;
mod parts;
mod tests;

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
/// Every mistake found, with line, column and how to mend it.
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

/// Where something stands in the text, in bytes.
pub(crate) type Span = Range<usize>;
