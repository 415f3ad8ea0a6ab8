//! The lines of a recording.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use whalewatch_core::{Change, Process, ProcessKey, Timestamp};

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Header {
    /// Version of the format.
    pub(super) recording: u32,
    /// Name of the host that was recorded.
    pub(super) host: String,
    /// Start of the recording.
    pub(super) at: Timestamp,
}

/// Any other line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(super) enum Line {
    Event(Box<EventLine>),
    /// A message from a handler's helper thread.
    Heard {
        at: Timestamp,
        handler: String,
        text: String,
    },
    /// The answer to a question that a handler asked through `Outside`.
    Answer {
        at: Timestamp,
        handler: String,
        question: String,
        answer: Option<String>,
    },
}

/// An event as a tracker sent it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct EventLine {
    /// When the tracker read it.
    pub(super) at: Timestamp,
    pub(super) tracker: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// Whether it describes what existed before watching started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) existing: bool,
    /// Name of the type of event.
    pub(super) event: String,
    pub(super) kind: String,
    pub(super) time: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cgroup: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<OwnedChange>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) fields: BTreeMap<Cow<'static, str>, Json>,
}

/// A [`Change`] that owns its paths.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OwnedChange {
    Existing,
    Forked {
        parent: ProcessKey,
    },
    Executed,
    Exited,
    Moved {
        process: ProcessKey,
        to: u64,
    },
    CgroupMade {
        id: u64,
        path: Bytes,
    },
    CgroupRemoved {
        id: u64,
        /// Empty in older recordings.
        #[serde(default)]
        path: Bytes,
    },
    CgroupRenamed {
        id: u64,
        path: Bytes,
    },
}

impl From<Change<'_>> for OwnedChange {
    fn from(change: Change<'_>) -> Self {
        match change {
            Change::Existing => Self::Existing,
            Change::Forked { parent } => Self::Forked { parent },
            Change::Executed => Self::Executed,
            Change::Exited => Self::Exited,
            Change::Moved { process, to } => Self::Moved { process, to },
            Change::CgroupMade { id, path } => Self::CgroupMade { id, path: Bytes(path.into()) },
            Change::CgroupRemoved { id, path } => {
                Self::CgroupRemoved { id, path: Bytes(path.into()) }
            }
            Change::CgroupRenamed { id, path } => {
                Self::CgroupRenamed { id, path: Bytes(path.into()) }
            }
        }
    }
}

impl OwnedChange {
    pub(super) fn as_change(&self) -> Change<'_> {
        match self {
            Self::Existing => Change::Existing,
            Self::Forked { parent } => Change::Forked { parent: *parent },
            Self::Executed => Change::Executed,
            Self::Exited => Change::Exited,
            Self::Moved { process, to } => Change::Moved { process: *process, to: *to },
            Self::CgroupMade { id, path } => Change::CgroupMade { id: *id, path: &path.0 },
            Self::CgroupRemoved { id, path } => Change::CgroupRemoved { id: *id, path: &path.0 },
            Self::CgroupRenamed { id, path } => Change::CgroupRenamed { id: *id, path: &path.0 },
        }
    }
}

/// Bytes, written as text if they are UTF-8, and as `{"hex":"…"}` otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

#[derive(Deserialize, Serialize)]
struct Hex {
    hex: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrHex {
    Text(String),
    Hex(Hex),
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.serialize(to),
            Err(_) => {
                let hex = self.0.iter().flat_map(|byte| {
                    [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16))
                });
                Hex { hex: hex.flatten().collect() }.serialize(to)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let hex = match TextOrHex::deserialize(from)? {
            TextOrHex::Text(text) => return Ok(Self(text.into_bytes())),
            TextOrHex::Hex(Hex { hex }) => hex,
        };
        let wrong = || D::Error::custom("hex: expected two digits 0 to f for each byte");
        let digits: Option<Vec<u8>> =
            hex.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(wrong)?;
        Ok(Self(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_survive_a_round_trip(bytes: Vec<u8>) {
            let bytes = Bytes(bytes);
            let text = serde_json::to_string(&bytes).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), bytes);
        }

        #[test]
        fn any_line_is_read_without_a_panic(text: String) {
            serde_json::from_str::<Line>(&text).ok();
            serde_json::from_str::<Bytes>(&text).ok();
        }
    }

    #[test]
    fn malformed_hex_is_refused() {
        for text in [r#"{"hex":"f"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"+1"}"#, "7"] {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }
}
