//! Options of the `sqlite` handler.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem};

use whalewatch_core::HumanSize;

/// Options of the `sqlite` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteOptions {
    /// The database file. If the file or folders above it do not exist, they are created,
    /// accessible only to their owner.
    pub path: PathBuf,
    /// The maximum age of events: `"7d"`, `"12h"`. Older events are deleted. `"0s"` keeps events of
    /// any age.
    pub keep: HumanDuration,
    /// The maximum size of the database on disk, including its write-ahead log: `"1GiB"`,
    /// `"500MB"`; at least `"4MiB"`. The oldest events are deleted to make room for new ones. `"0"`
    /// means no limit.
    pub max_size: HumanSize,
    /// The longest time that events wait to be committed together; at most `"1m"`. If the program
    /// is killed, waiting events are lost. `"0s"` commits whenever no event is waiting.
    pub commit_every: HumanDuration,
    /// What a power cut can lose. `normal`: the commits since the last checkpoint (seconds).
    /// `full`: nothing that was committed, but each commit waits for the disk. The database stays
    /// intact in both cases.
    pub sync: Sync,
    /// The memory for events that wait while the database cannot be written (locked, disk full):
    /// `"64MiB"`; at least `"1MiB"`. When it is full, new events are dropped and counted.
    pub buffer: HumanSize,
    /// How long the end of a run waits for a database that cannot be written; at most `"1m"`.
    pub stop_timeout: HumanDuration,
}

/// What a power cut can lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// The commits since the last checkpoint.
    #[default]
    Normal,
    /// Nothing that was committed.
    Full,
}

/// The default path of the history.
pub const DEFAULT_PATH: &str = "/var/lib/whalewatch/history.db";

const LEAST_SIZE: HumanSize = HumanSize(4 << 20);
const LEAST_BUFFER: HumanSize = HumanSize(1 << 20);
const LONGEST: Duration = Duration::from_mins(1);

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            path: DEFAULT_PATH.into(),
            keep: HumanDuration(Duration::from_hours(7 * 24)),
            max_size: HumanSize(1 << 30),
            commit_every: HumanDuration(Duration::from_millis(200)),
            sync: Sync::Normal,
            buffer: HumanSize(64 << 20),
            stop_timeout: HumanDuration(Duration::from_secs(5)),
        }
    }
}

impl SqliteOptions {
    /// Returns the mistakes in the options.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_path(&mut problems);
        if !self.keep.0.is_zero() {
            let keep = Problem::check_range("keep", self.keep.0, Duration::from_secs(1)..);
            problems.extend(keep.map(|p| p.hint("write \"0s\" to keep events of any age")));
        }
        if self.max_size.0 != 0 {
            let max_size = Problem::check_range("max_size", self.max_size, LEAST_SIZE..);
            problems.extend(max_size.map(|p| p.hint("write \"0\" for no limit")));
        }
        problems.extend(Problem::check_range("buffer", self.buffer, LEAST_BUFFER..));
        for (key, value) in
            [("commit_every", self.commit_every), ("stop_timeout", self.stop_timeout)]
        {
            problems.extend(Problem::check_range(key, value.0, ..=LONGEST));
        }
        problems
    }

    fn check_path(&self, problems: &mut Vec<Problem>) {
        let text = self.path.to_string_lossy();
        let (message, hint) = if text.is_empty() {
            ("the path is empty", format!("name a file: path = \"{DEFAULT_PATH}\""))
        } else if text.ends_with('/') {
            ("the path is a folder", format!("name a file in it: path = \"{text}history.db\""))
        } else if text.starts_with(':') {
            (
                "the path is not a file on disk",
                format!("for a file with that name, write \"./{text}\""),
            )
        } else if text.contains('\0') {
            ("the path contains a NUL byte", String::from("remove the NUL byte"))
        } else {
            return;
        };
        problems.push(Problem::new("path", message).hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(json: &str) -> Vec<(String, String)> {
        let options: SqliteOptions = serde_json::from_str(json).expect("valid JSON");
        options.problems().into_iter().map(|p| (p.key, p.message)).collect()
    }

    #[test]
    fn all_options_are_optional_and_unknown_ones_are_refused() {
        let parse = serde_json::from_str::<SqliteOptions>;
        assert_eq!(parse("{}").unwrap(), SqliteOptions::default());
        assert_eq!(problems("{}"), []);
        assert!(parse(r#"{"max":"1GiB"}"#).is_err());
        assert!(parse(r#"{"sync":"off"}"#).is_err());
        let shown = serde_json::to_value(SqliteOptions::default()).unwrap();
        assert_eq!((&shown["keep"], &shown["max_size"]), (&"7days".into(), &"1 GiB".into()));
    }

    #[test]
    fn all_mistakes_are_reported_at_once_with_their_keys() {
        let found = problems(
            r#"{"path":"","keep":"5ms","max_size":"1MiB","buffer":"1","commit_every":"2m","stop_timeout":"1h"}"#,
        );
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["path", "keep", "max_size", "buffer", "commit_every", "stop_timeout"]);
    }

    #[test]
    fn path_that_cannot_be_a_file_is_refused() {
        for (path, message) in [
            ("/var/lib/", "the path is a folder"),
            (":memory:", "the path is not a file on disk"),
            ("a\\u0000b", "the path contains a NUL byte"),
        ] {
            assert_eq!(problems(&format!(r#"{{"path":"{path}"}}"#))[0].1, message, "{path}");
        }
        assert_eq!(problems(r#"{"path":"./:memory:"}"#), []);
    }

    #[test]
    fn zero_means_no_limit() {
        assert_eq!(problems(r#"{"keep":"0s","max_size":"0","commit_every":"0s"}"#), []);
    }
}
