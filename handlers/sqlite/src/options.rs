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
    /// The database's file. It is made if it is not there, readable by its owner only, and so are
    /// the folders above it.
    pub path: PathBuf,
    /// Events older than this are deleted: `"7d"`, `"12h"`. `"0s"` keeps events of any age.
    pub keep: HumanDuration,
    /// What the database may have on disk in all, its write-ahead log included: `"1GiB"`,
    /// `"500MB"`; at least `"4MiB"`. The oldest events make room for new ones. `"0"` sets no limit.
    pub max_size: HumanSize,
    /// How long events wait at most to be committed together; at most `"1m"`. What a kill of the
    /// program can lose. `"0s"` commits whenever no event is waiting.
    pub commit_every: HumanDuration,
    /// What a power cut can lose: with `normal` the commits since the last checkpoint (seconds),
    /// with `full` nothing that was committed, at the price of a disk's flush for each commit.
    /// Neither can damage the database.
    pub sync: Sync,
    /// How much may wait in memory while the database cannot be written (locked, disk full):
    /// `"64MiB"`; at least `"1MiB"`. What comes when it is full is dropped, and counted.
    pub buffer: HumanSize,
    /// How long the end of a run may wait for a database that cannot be written; at most `"1m"`.
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

/// Where the history is if nothing else is said.
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
    /// What is wrong with them.
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
            ("this is a folder", format!("name a file in it: path = \"{text}history.db\""))
        } else if text.starts_with(':') {
            ("a history is kept in a file", format!("for a file of that name write \"./{text}\""))
        } else if text.contains('\0') {
            ("no file's name has a NUL", String::from("leave it out"))
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
        let options: SqliteOptions = serde_json::from_str(json).expect("options");
        options.problems().into_iter().map(|p| (p.key, p.message)).collect()
    }

    #[test]
    fn all_may_be_left_out_and_unknown_ones_are_refused() {
        let parse = serde_json::from_str::<SqliteOptions>;
        assert_eq!(parse("{}").unwrap(), SqliteOptions::default());
        assert_eq!(problems("{}"), []);
        assert!(parse(r#"{"max":"1GiB"}"#).is_err());
        assert!(parse(r#"{"sync":"off"}"#).is_err());
        let shown = serde_json::to_value(SqliteOptions::default()).unwrap();
        assert_eq!((&shown["keep"], &shown["max_size"]), (&"7days".into(), &"1 GiB".into()));
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_key() {
        let found = problems(
            r#"{"path":"","keep":"5ms","max_size":"1MiB","buffer":"1","commit_every":"2m","stop_timeout":"1h"}"#,
        );
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["path", "keep", "max_size", "buffer", "commit_every", "stop_timeout"]);
    }

    #[test]
    fn a_path_that_is_no_file_is_refused() {
        for (path, message) in [
            ("/var/lib/", "this is a folder"),
            (":memory:", "a history is kept in a file"),
            ("a\\u0000b", "no file's name has a NUL"),
        ] {
            assert_eq!(problems(&format!(r#"{{"path":"{path}"}}"#))[0].1, message, "{path}");
        }
        assert_eq!(problems(r#"{"path":"./:memory:"}"#), []);
    }

    #[test]
    fn no_limit_is_written_as_zero() {
        assert_eq!(problems(r#"{"keep":"0s","max_size":"0","commit_every":"0s"}"#), []);
    }
}
