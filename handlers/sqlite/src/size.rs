//! Sizes written for people: `64MiB`, `1GiB`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes, written as `512KiB`, `64MiB`, `1GiB`, or plain for bytes. `KB`, `MB`, `GB` and `TB` count in thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Size(pub u64);

/// As it may stand in a configuration.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u64),
    Text(String),
}

const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let suffix = UNITS.iter().find_map(|(unit, factor)| {
            trimmed.strip_suffix(unit).map(|number| (number.trim_end(), *factor))
        });
        let (number, factor) = suffix.unwrap_or((trimmed, 1));
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no size: write for example \"64MiB\" or \"1GiB\""))
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
        let whole = |(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS[..4].iter().find(whole).copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, want) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("64MiB", 64 << 20),
            (" 1 GiB ", 1 << 30),
            ("2TB", 2_000_000_000_000),
            ("5kB", 5_000),
        ] {
            assert_eq!(text.parse(), Ok(Size(want)), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "1 GiB x", "99999999TiB"] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.contains("is no size: write for example \"64MiB\""), "{error}");
        }
        assert_eq!(serde_json::from_str::<Size>("4096").unwrap(), Size(4096));
    }

    proptest! {
        #[test]
        fn any_size_reads_back_as_it_was(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }
}
