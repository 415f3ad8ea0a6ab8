//! A guest's report: parts by name.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use whalewatch_tests::output::Event;

/// A report's parts by name.
pub(super) struct Report(HashMap<String, String>);

/// One finding of `doctor`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) found: String,
    pub(super) mend: String,
}

impl Report {
    /// Splits a report into parts, each of which begins with a line `@@ NAME`.
    pub(super) fn parse(text: &str) -> Self {
        let parts = text.split("\n@@ ").skip(1).map(|part| {
            let (name, content) = part.split_once('\n').unwrap_or((part, ""));
            (name.trim().to_owned(), content.trim().to_owned())
        });
        Self(parts.collect())
    }

    /// Whether the guest ran to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.0.contains_key("end")
    }

    /// Returns a part's text.
    pub(super) fn text(&self, name: &str) -> Result<&str> {
        let text = self.0.get(name).map(String::as_str);
        text.with_context(|| format!("the guest did not report {name}"))
    }

    /// Parses a part as JSON.
    pub(super) fn json(&self, name: &str) -> Result<Value> {
        let text = self.text(name)?;
        serde_json::from_str(text).with_context(|| format!("{name} is not JSON: {text:?}"))
    }

    /// Returns the events that `trace` printed.
    pub(super) fn events(&self, case: &str) -> Result<Vec<Event>> {
        let lines = self.text(&format!("{case}.trace.out"))?.lines();
        lines
            .map(|line| serde_json::from_str(line).map(Event).with_context(|| line.to_owned()))
            .collect()
    }

    /// Returns the findings of `doctor`.
    pub(super) fn findings(&self, case: &str) -> Result<Vec<Finding>> {
        let findings = self.json(&format!("{case}.doctor.out"))?;
        let findings = findings.as_array().context("findings are not a list")?.iter();
        let word = |of: &Value, name| of[name].as_str().unwrap_or_default().to_owned();
        Ok(findings
            .map(|finding| Finding {
                name: word(finding, "name"),
                state: word(finding, "state"),
                found: word(finding, "found"),
                mend: word(finding, "remedy"),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_split_into_parts() {
        let report = Report::parse("\n@@ a.code\n0\n\n@@ a.out\none\n\ntwo\n@@ end\n");
        assert_eq!(report.text("a.code").unwrap(), "0");
        assert_eq!(report.text("a.out").unwrap(), "one\n\ntwo");
        assert!(report.is_complete() && report.text("a.err").is_err());
        assert!(!Report::parse("\n@@ a.code\n0\n").is_complete());
    }
}
