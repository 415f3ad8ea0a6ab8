//! Options of the `file` handler.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem};

use whalewatch_core::HumanSize;

/// The most bytes in the file's name, so that the names of rotated files fit into the 255 bytes
/// that file systems allow.
const MAX_NAME: usize = 200;
/// The smallest size at which a file can be rotated: one page.
const MIN_SIZE: HumanSize = HumanSize(4096);
/// The lowest age at which a file can be rotated, and the shortest interval between two syncs.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Options of the `file` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// The file to append to. It is created with mode 0640 if it does not exist, and missing
    /// folders with mode 0750. A relative path starts at the working directory.
    pub path: PathBuf,
    /// When to rotate the file: rename it and start a new one. Not set: never, so that a program
    /// such as logrotate can do it.
    #[serde(default)]
    pub rotate: Rotate,
    /// How many rotated files to keep, 1 to 1000000. The oldest are deleted.
    #[serde(default = "ten")]
    pub keep: u32,
    /// How to compress rotated files: `none` leaves them unchanged, `zstd` compresses them to
    /// `NAME.zst`.
    #[serde(default)]
    pub compress: Compress,
    /// When to sync the file to the disk, so that its lines survive a power cut: `never` leaves
    /// that to the kernel, `flush` syncs whenever no event is waiting, and a duration (`5s`, at
    /// least `100ms`) syncs at most that long after a line was written. Written lines survive the
    /// end of the program in any case, even if it is killed.
    #[serde(default)]
    pub sync: Sync,
    /// Whether to pad lines with spaces so that none crosses a 4 KiB boundary of the file. A kill
    /// during a write then leaves no partial line; the file grows by about 6 %. Lines longer than
    /// 4 KiB can still be cut, which is repaired at the next start. Set it to false if a program
    /// truncates the file while it is open, as logrotate does with `copytruncate`.
    #[serde(default = "yes")]
    pub pad: bool,
    /// How long to retry a failed write, for example while the disk is full. The handler accepts
    /// no events meanwhile. After that, events are dropped and counted until a write succeeds.
    #[serde(default = "ten_seconds")]
    pub wait_at_most: HumanDuration,
}

/// When to rotate the file. If both are set, the first one reached counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// The largest size of the file: `100 MiB`, `1 GB`, or a number of bytes; at least `4 KiB`.
    pub size: Option<HumanSize>,
    /// The highest age of the file, counted from its first line: `24h`; at least `100ms`.
    pub age: Option<HumanDuration>,
}

/// How to compress rotated files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// Rotated files stay unchanged.
    #[default]
    None,
    /// Rotated files are compressed with Zstandard.
    Zstd,
}

/// When to sync the file to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sync {
    /// The kernel decides.
    #[default]
    Never,
    /// When no event is waiting.
    Flush,
    /// At most this long after a line was written.
    Every(HumanDuration),
}

impl TryFrom<String> for Sync {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "never" => Ok(Self::Never),
            "flush" => Ok(Self::Flush),
            _ => text.parse().map(Self::Every).map_err(|_| {
                format!("{text:?} is not a time to sync: write \"never\", \"flush\" or a duration")
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
    /// Returns the default options for a file at `path`, which is never rotated.
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

    /// Returns every mistake in the options.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.check_path());
        if let Some(size) = self.rotate.size {
            problems.extend(Problem::check_range("rotate.size", size, MIN_SIZE..));
        }
        if let Some(age) = self.rotate.age {
            problems.extend(Problem::check_range("rotate.age", age.0, MIN_INTERVAL..));
        }
        if let Sync::Every(interval) = self.sync {
            problems.extend(Problem::check_range("sync", interval.0, MIN_INTERVAL..));
        }
        let keep = Problem::check_range("keep", self.keep, 1..=1_000_000);
        let hint = "to delete old events sooner, set a smaller rotate.size";
        problems.extend(keep.map(|problem| problem.hint(hint)));
        if self.compress != Compress::None && self.rotate == Rotate::default() {
            let message = "only rotated files are compressed, but `rotate` is not set";
            let hint = "set rotate = { size = \"100 MiB\" }, or leave out `compress`";
            problems.push(Problem::new("compress", message).hint(hint));
        }
        problems
    }

    fn check_path(&self) -> Option<Problem> {
        let bytes = self.path.as_os_str().as_bytes();
        let hint = "name a file, such as \"/var/log/whalewatch/events.jsonl\"";
        let message = match self.path.file_name().map(OsStr::len) {
            None => "the path has no file name",
            Some(_) if bytes.ends_with(b"/") => "the path names a folder, not a file",
            Some(_) if bytes.contains(&0) => "the path has a NUL byte",
            Some(length) if length > MAX_NAME => {
                "the file name is longer than 200 bytes, too long for the names of rotated files"
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
    fn only_the_path_is_required() {
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
    fn check_reports_every_mistake_with_a_hint() {
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
