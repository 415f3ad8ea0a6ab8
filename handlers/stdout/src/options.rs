//! Options of the `stdout` handler.

use std::ffi::OsStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of the `stdout` handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StdoutOptions {
    /// The format: `json` writes one line for each event, for programs; `table` writes aligned
    /// columns, for people.
    pub format: Format,
    /// Whether the table has colours. `auto`: on a terminal, unless `NO_COLOR` is set or `TERM` is
    /// `dumb`.
    pub color: Color,
}

/// The format of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object for each event, on one line.
    #[default]
    Json,
    /// Aligned columns with a header.
    Table,
}

/// Whether the table has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Returns whether to use colours. `terminal` says whether the output is a terminal; `no_color`
    /// and `term` are the environment variables.
    pub(crate) fn decide(
        self,
        terminal: bool,
        no_color: Option<&OsStr>,
        term: Option<&OsStr>,
    ) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            // https://no-color.org: an empty value counts as not set.
            Self::Auto => {
                terminal
                    && no_color.is_none_or(OsStr::is_empty)
                    && term.is_none_or(|term| term != "dumb")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_colours_only_terminals_that_allow_it() {
        let decide = |color: Color, terminal, no_color: Option<&str>, term: Option<&str>| {
            color.decide(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(decide(Color::Auto, true, None, Some("xterm")));
        assert!(decide(Color::Auto, true, Some(""), None));
        assert!(!decide(Color::Auto, true, Some("1"), Some("xterm")));
        assert!(!decide(Color::Auto, true, None, Some("dumb")));
        assert!(!decide(Color::Auto, false, None, Some("xterm")));
        assert!(decide(Color::Always, false, Some("1"), None));
        assert!(!decide(Color::Never, true, None, None));
    }

    #[test]
    fn all_options_are_optional_and_unknown_ones_refused() {
        let parse = serde_json::from_str::<StdoutOptions>;
        assert_eq!(parse("{}").unwrap(), StdoutOptions::default());
        let table = StdoutOptions { format: Format::Table, color: Color::Never };
        assert_eq!(parse(r#"{"format":"table","color":"never"}"#).unwrap(), table);
        assert!(parse(r#"{"fromat":"table"}"#).is_err());
        assert!(parse(r#"{"format":"xml"}"#).is_err());
    }
}
