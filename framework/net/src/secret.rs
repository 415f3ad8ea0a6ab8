//! Values that can be kept out of the configuration.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use schemars::JsonSchema;
use serde::de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use whalewatch_core::Problem;

/// A value that is in the configuration itself, or is read when the handler is built:
/// `{ env = "TOKEN" }` from the environment, `{ file = "/run/secrets/token" }` from a file, without
/// the newline at its end. `prefix = "Bearer "` is put before the value that was read. `Debug` does
/// not print the value.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Secret {
    /// The value itself.
    Plain(String),
    /// Where it is.
    Elsewhere(Elsewhere),
}

/// Where a value is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elsewhere {
    /// Name of an environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Path of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Text before the value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl Secret {
    /// Returns a problem with the secret in the option `key`, without reading it.
    pub fn check(&self, key: &str) -> Option<Problem> {
        let Self::Elsewhere(elsewhere) = self else { return None };
        let named = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        let message = match (&elsewhere.env, &elsewhere.file) {
            (Some(name), None) if named(name) => return None,
            (None, Some(path)) if path != Path::new("") => return None,
            (Some(name), None) => {
                format!("{name:?} is not a valid name of an environment variable")
            }
            (None, Some(_)) => "the file path is empty".to_owned(),
            (Some(_), Some(_)) => "both `env` and `file` are set".to_owned(),
            (None, None) => "neither `env` nor `file` is set".to_owned(),
        };
        let hint = "write \"text\", { env = \"NAME\" } or { file = \"/path\" }";
        Some(Problem::new(key, message).hint(hint))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// If the variable is not set, or the file cannot be read: which, and why.
    pub fn read(&self) -> Result<String, String> {
        let Elsewhere { env: name, file, prefix } = match self {
            Self::Plain(text) => return Ok(text.clone()),
            Self::Elsewhere(elsewhere) => elsewhere,
        };
        let value = match (name, file) {
            (Some(name), _) => env::var(name)
                .map_err(|error| format!("cannot read the environment variable {name}: {error}"))?,
            (None, Some(path)) => {
                let mut text = fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                text.truncate(text.trim_end_matches(['\n', '\r']).len());
                text
            }
            (None, None) => return Err("neither `env` nor `file` is set".to_owned()),
        };
        Ok(format!("{prefix}{value}"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(…)"),
            Self::Elsewhere(elsewhere) => elsewhere.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, { env = \"NAME\" } or { file = \"/path\" }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::Plain(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                Elsewhere::deserialize(MapAccessDeserializer::new(map))
                    .map(Secret::Elsewhere)
                    .map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "object"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Table {
        x: Secret,
    }

    fn parse(text: &str) -> Result<Secret, String> {
        toml::from_str::<Table>(text).map(|table| table.x).map_err(|error| error.to_string())
    }

    #[test]
    fn value_is_given_or_read_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "s3cret\n").unwrap();
        let read = |text: &str| parse(text).unwrap().read();
        assert_eq!(read("x = 'plain'").unwrap(), "plain");
        assert_eq!(read(&format!("x = {{ file = '{}' }}", path.display())).unwrap(), "s3cret");
        let home = env::var("PATH").unwrap();
        let prefixed = read("x = { env = 'PATH', prefix = 'Bearer ' }").unwrap();
        assert_eq!(prefixed, format!("Bearer {home}"));
        let missing = read("x = { env = 'WHALEWATCH_NO_SUCH_VARIABLE' }").unwrap_err();
        assert!(missing.contains("WHALEWATCH_NO_SUCH_VARIABLE"), "{missing}");
        let missing = read("x = { file = '/no/such/file' }").unwrap_err();
        assert!(missing.contains("/no/such/file"), "{missing}");
    }

    #[test]
    fn mistakes_are_reported_without_the_value() {
        for (text, word) in [
            ("x = {}", "neither"),
            ("x = { prefix = 'a' }", "neither"),
            ("x = { env = 'A', file = '/b' }", "both"),
            ("x = { env = 'A=B' }", "not a valid name"),
            ("x = { file = '' }", "empty"),
        ] {
            let problem = parse(text).unwrap().check("headers.a").expect(text);
            assert!(problem.message.contains(word), "{problem:?}");
            assert_eq!(problem.key, "headers.a");
        }
        assert!(parse("x = { evn = 'A' }").unwrap_err().contains("evn"));
        assert!(parse("x = 1").unwrap_err().contains("{ env = \"NAME\" }"));
        assert_eq!(format!("{:?}", parse("x = 'hush'").unwrap()), "Plain(…)");
    }
}
