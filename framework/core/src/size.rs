//! Sizes in human-readable form.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes in human-readable form: `100 MiB`, `1.5GB`, `4096`. `KiB`, `MiB`, … are powers
/// of 1024; `kB`, `MB`, … are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanSize(pub u64);

/// Units. Powers of 1024 come first, so that sizes are shown in them where they fit; of each group,
/// the largest comes first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for HumanSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Self).ok_or_else(|| {
            format!(
                "{text:?} is not a size: write for example \"100 MiB\", \"1GB\" or a number of \
                 bytes"
            )
        })
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let named = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let factor = match named {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Nine digits are more than anyone writes, and keep the sum below 2^128.
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = fraction.parse().ok()?;
    let bytes = u128::from(factor) * (u128::from(whole) * parts + u128::from(fraction)) / parts;
    u64::try_from(bytes).ok()
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (name, factor) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / factor)
    }
}

impl Serialize for HumanSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = HumanSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size: \"100 MiB\" or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<HumanSize, E> {
        Ok(HumanSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<HumanSize, E> {
        u64::try_from(bytes)
            .map(HumanSize)
            .map_err(|_| E::custom(format!("{bytes} is not a size: it is negative")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanSize, E> {
        text.parse().map_err(E::custom)
    }
}

impl JsonSchema for HumanSize {
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
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("100 MiB", 100 << 20),
            ("1.5GiB", 3 << 29),
            ("1GB", 1_000_000_000),
            ("64kib", 64 << 10),
            ("4096", 4096),
            ("0.000000001 GB", 1),
            (" 7 B ", 7),
        ] {
            assert_eq!(text.parse::<HumanSize>().unwrap().0, bytes, "{text:?}");
        }
        for text in
            ["", "MiB", "-1", "1 potato", "1..5", "1.", "1e9", "99999999 TiB", "1.0000000001"]
        {
            let error = text.parse::<HumanSize>().unwrap_err();
            assert!(error.contains("is not a size") && error.contains("100 MiB"), "{error}");
        }
        assert_eq!(serde_json::from_str::<HumanSize>("512").unwrap(), HumanSize(512));
        assert!(
            serde_json::from_str::<HumanSize>("-1").unwrap_err().to_string().contains("negative")
        );
        assert!(serde_json::from_str::<HumanSize>("true").is_err());
    }

    #[test]
    fn sizes_are_shown_in_the_largest_exact_unit() {
        for (bytes, text) in
            [(0, "0 B"), (4096, "4 KiB"), (1500, "1500 B"), (5000, "5 kB"), (100 << 20, "100 MiB")]
        {
            assert_eq!(HumanSize(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn shown_size_is_read_back(bytes: u64) {
            let size = HumanSize(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9. a-zA-Z]{0,40}") {
            text.parse::<HumanSize>().ok();
        }
    }
}
