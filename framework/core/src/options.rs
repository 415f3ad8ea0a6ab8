//! Options: the contents of a tracker's or a handler's table in the configuration file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An options struct: derive `Deserialize`, `Serialize` and [`JsonSchema`], with
/// `#[serde(default)]` on optional fields. The doc comments of its fields become the help of
/// `whalewatch list` and the configuration reference.
pub trait Options:
    DeserializeOwned + Serialize + JsonSchema + Clone + Send + Sync + 'static
{
}

impl<T: DeserializeOwned + Serialize + JsonSchema + Clone + Send + Sync + 'static> Options for T {}

/// A mistake in options, found without I/O by a check of the options alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the option (`scope.containers`); empty for the table as a whole.
    pub key: String,
    /// Byte offset of the mistake in the option's text, if it has one.
    pub offset: Option<usize>,
    /// What is wrong and what was expected.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Problem {
    /// Creates a problem with the option `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), offset: None, message: message.into(), hint: None }
    }

    /// Sets the byte offset of the mistake in the option's text.
    #[must_use]
    pub fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Sets the advice on how to fix it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A duration in human-readable form: `100ms`, `5s`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self).map_err(|e| {
            format!("{text:?} is not a duration ({e}): write for example \"100ms\" or \"5s\"")
        })
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "duration" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_human_readable() {
        let parse = |text: &str| text.parse::<HumanDuration>();
        assert_eq!(parse("100ms").unwrap().0, Duration::from_millis(100));
        assert_eq!(parse("1h 30m").unwrap().0, Duration::from_mins(90));
        assert_eq!(parse("100ms").unwrap().to_string(), "100ms");
        let error = parse("soon").unwrap_err();
        assert!(error.contains("\"soon\" is not a duration"), "{error}");
        assert!(error.contains("\"100ms\""), "{error}");
    }
}
