//! Sizes written for people.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes, written for people: `64MiB`, `1 GiB`, `4096`. Whole numbers, counted by 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Size(pub u64);

/// As it may stand in a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a size: \"64MiB\" or a number of bytes")]
enum Written {
    Bytes(u64),
    Text(String),
}

/// Units, the largest first.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?} is no size: write for example \"64MiB\" or a number of bytes");
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..end], trimmed[end..].trim_start());
        let factor = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let factor = match factor {
            Some((_, factor)) => *factor,
            None if unit.is_empty() => 1,
            None => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (name, factor) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "size" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_people_write_them() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("4096", 4096), (" 7b", 7), ("2kib", 2048)]
        {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text:?}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1 potato", "99999999TiB"] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.contains("is no size") && error.contains("64MiB"), "{error}");
        }
        for (bytes, text) in [(0, "0B"), (1500, "1500B"), (3 << 20, "3MiB"), (1 << 40, "1TiB")] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(serde_json::from_str::<Size>("512").ok(), Some(Size(512)));
        assert_eq!(serde_json::from_str::<Size>("\"2MiB\"").ok(), Some(Size(2 << 20)));
        assert!(serde_json::from_str::<Size>("true").is_err());
    }
}
