//! Options of the `file` handler.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem};

use whalewatch_core::HumanSize;

/// Longest that a file's name may be, so that the names of its rotated files fit into the 255 bytes
/// that file systems allow.
const LONGEST_NAME: usize = 200;
/// Smallest size to rotate at: a page of the file.
const SMALLEST: HumanSize = HumanSize(4096);
/// Shortest age to rotate at, and shortest time between two syncs.
const SHORTEST: Duration = Duration::from_millis(100);

/// Options of the `file` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// The file that lines are appended to. It is made with mode 0640 if it is not there, and so
    /// are the folders it is in (0750). A relative path is taken from where the program was
    /// started.
    pub path: PathBuf,
    /// When the file is put aside under another name and a new one begun. Never, if neither is set:
    /// for a program like logrotate to do it.
    #[serde(default)]
    pub rotate: Rotate,
    /// How many rotated files are kept, 1 to 1000000; the oldest are deleted.
    #[serde(default = "ten")]
    pub keep: u32,
    /// What becomes of rotated files: `none` leaves them as they are, `zstd` compresses them to
    /// `NAME.zst`.
    #[serde(default)]
    pub compress: Compress,
    /// When the file is synced to the disk, so that it outlasts a loss of power: `never` leaves
    /// that to the kernel, `flush` whenever no event is waiting, a duration (`5s`) at most that
    /// long after a line was written; at least `100ms`. What is written outlasts the end of the
    /// program in any case, also a kill.
    #[serde(default)]
    pub sync: Sync,
    /// Whether a line that would cross a 4 KiB boundary of the file begins on it, the line before
    /// being followed by spaces. So a kill in the middle of a write leaves no half line, however
    /// bad the moment; the file is some 6 % longer. Lines that are longer than 4 KiB can be cut all
    /// the same; that is mended at the next start. Set it to false where something empties the file
    /// while it is written to, as logrotate does with `copytruncate`.
    #[serde(default = "yes")]
    pub pad: bool,
    /// How long a write that fails (a full disk) is tried again, during which nothing more is taken
    /// in. After that, events are dropped and counted until a write succeeds.
    #[serde(default = "ten_seconds")]
    pub wait_at_most: HumanDuration,
}

/// When the file is put aside under another name and a new one begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// Before it would be larger than this: `100 MiB`, `1 GB`, or a number of bytes; at least
    /// `4 KiB`.
    pub size: Option<HumanSize>,
    /// When it is this old, counted from its first line: `24h`; at least `100ms`.
    pub age: Option<HumanDuration>,
}

/// What becomes of rotated files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// They stay as they are.
    #[default]
    None,
    /// They are compressed.
    Zstd,
}

/// When the file is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sync {
    /// The kernel decides.
    #[default]
    Never,
    /// When no event is waiting.
    Flush,
    /// That long after a line was written.
    Every(HumanDuration),
}

impl TryFrom<String> for Sync {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "never" => Ok(Self::Never),
            "flush" => Ok(Self::Flush),
            _ => text.parse().map(Self::Every).map_err(|_| {
                format!(
                    "{text:?} does not say when to sync: write \"never\", \"flush\" or a duration"
                )
            }),
        }
    }
}

impl From<Sync> for String {
    fn from(sync: Sync) -> Self {
        match sync {
            Sync::Never => "never".to_owned(),
            Sync::Flush => "flush".to_owned(),
            Sync::Every(interval) => interval.to_string(),
        }
    }
}

impl JsonSchema for Sync {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sync".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "\"never\" | \"flush\" | duration" })
    }
}

fn ten() -> u32 {
    10
}

fn yes() -> bool {
    true
}

fn ten_seconds() -> HumanDuration {
    HumanDuration(Duration::from_secs(10))
}

impl FileOptions {
    /// Lines to the file at `path`, never rotated, and the defaults for all else.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            rotate: Rotate::default(),
            keep: ten(),
            compress: Compress::None,
            sync: Sync::Never,
            pad: yes(),
            wait_at_most: ten_seconds(),
        }
    }

    /// What is wrong with them.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.check_path());
        if let Some(size) = self.rotate.size {
            problems.extend(Problem::check_range("rotate.size", size, SMALLEST..));
        }
        if let Some(age) = self.rotate.age {
            problems.extend(Problem::check_range("rotate.age", age.0, SHORTEST..));
        }
        if let Sync::Every(interval) = self.sync {
            problems.extend(Problem::check_range("sync", interval.0, SHORTEST..));
        }
        let keep = Problem::check_range("keep", self.keep, 1..=1_000_000);
        let hint = "to delete old events sooner, rotate smaller files and keep a few";
        problems.extend(keep.map(|problem| problem.hint(hint)));
        if self.compress != Compress::None && self.rotate == Rotate::default() {
            let message = "only rotated files are compressed, and nothing says when to rotate";
            let hint = "set rotate = { size = \"100 MiB\" }, or leave compress out";
            problems.push(Problem::new("compress", message).hint(hint));
        }
        problems
    }

    fn check_path(&self) -> Option<Problem> {
        let bytes = self.path.as_os_str().as_bytes();
        let hint = "write for example \"/var/log/whalewatch/events.jsonl\"";
        let message = match self.path.file_name().map(OsStr::len) {
            None => "the path names no file",
            Some(_) if bytes.ends_with(b"/") => "the path names a folder, not a file",
            Some(_) if bytes.contains(&0) => "a path cannot have a NUL byte",
            Some(length) if length > LONGEST_NAME => {
                "the file's name is longer than 200 bytes, so rotated files' names would not fit"
            }
            Some(_) => return None,
        };
        Some(Problem::new("path", message).hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_has_to_be_there() {
        let parse = serde_json::from_str::<FileOptions>;
        assert_eq!(parse(r#"{"path":"a"}"#).unwrap(), FileOptions::new("a"));
        assert!(parse("{}").unwrap_err().to_string().contains("path"));
        assert!(parse(r#"{"path":"a","rotate":{"every":"1d"}}"#).is_err());
        let full = parse(
            r#"{"path":"/a/b","rotate":{"size":"1 MiB","age":"1day"},"keep":3,"compress":"zstd",
                "sync":"5s","pad":false,"wait_at_most":"1s"}"#,
        );
        let full = full.unwrap();
        assert_eq!(full.rotate.size, Some(HumanSize(1 << 20)));
        assert_eq!(full.sync, Sync::Every(HumanDuration(Duration::from_secs(5))));
        assert_eq!(full.check(), []);
        let again = serde_json::to_string(&full).unwrap();
        assert_eq!(parse(&again).unwrap(), full);
        let error = parse(r#"{"path":"a","sync":"sometimes"}"#).unwrap_err().to_string();
        assert!(error.contains("\"flush\""), "{error}");
    }

    #[test]
    fn every_mistake_is_told_with_how_to_mend_it() {
        let wrong = FileOptions {
            rotate: Rotate {
                size: Some(HumanSize(10)),
                age: Some(HumanDuration(Duration::from_millis(1))),
            },
            keep: 0,
            sync: Sync::Every(HumanDuration(Duration::ZERO)),
            ..FileOptions::new("logs/")
        };
        let problems = wrong.check();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["path", "rotate.size", "rotate.age", "sync", "keep"]);
        assert!(problems.iter().all(|problem| problem.hint.is_some()));
        let idle = FileOptions { compress: Compress::Zstd, ..FileOptions::new("a") };
        assert_eq!(idle.check()[0].key, "compress");
        for path in ["", "/", "..", "a/", "a\0b", &"x".repeat(201)] {
            assert_eq!(FileOptions::new(path).check().len(), 1, "{path:?}");
        }
    }
}
