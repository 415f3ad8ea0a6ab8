//! The names of rotated files.
//!
//! `events.jsonl` is renamed to `events.jsonl.000042-20261124T122221Z`. The number increases, so
//! that the files sort in their order even if the clock is set back; the time of the rotation is
//! for people. Compressed files have the extension `.zst` after that.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use whalewatch_core::Timestamp;
use whalewatch_kit::Clock;

/// The state of a rotated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// Not compressed.
    Plain,
    /// Completely compressed.
    Compressed,
    /// Partially compressed.
    Partial,
}

impl Form {
    /// Returns the extension after the name that the file got when it was rotated.
    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Compressed => ".zst",
            Self::Partial => ".zst.partial",
        }
    }

    /// Returns the path in this form of the file that was rotated to `plain`.
    pub(crate) fn of(self, plain: &Path) -> PathBuf {
        let mut name = OsString::from(plain);
        name.push(self.suffix());
        name.into()
    }
}

/// A rotated file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rotated {
    pub(crate) number: u64,
    /// The path that the file got when it was rotated.
    pub(crate) plain: PathBuf,
    pub(crate) form: Form,
}

/// Returns the folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path to which the file at `path` is rotated now, with this number.
pub(crate) fn name(path: &Path, number: u64) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    Clock::new().rfc3339(&mut text, Timestamp(now));
    // `2026-11-24T12:22:21`, without the characters that some systems do not allow in names.
    text.truncate(19);
    text.retain(|byte| !matches!(byte, b'-' | b':'));
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:06}-{}Z", String::from_utf8_lossy(&text)));
    name.into()
}

/// Returns the rotated files of the file at `path`, the oldest first.
pub(crate) fn list(path: &Path) -> io::Result<Vec<Rotated>> {
    let Some(base) = path.file_name() else { return Ok(Vec::new()) };
    let folder = folder(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some((number, form)) = parse(base, &name) {
            let plain = name.len() - form.suffix().len();
            let plain = folder.join(OsStr::from_bytes(&name.as_bytes()[..plain]));
            found.push(Rotated { number, plain, form });
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the number and the form of a rotated file of `base`, or `None` for any other name. It is
/// strict, because rotated files are deleted.
fn parse(base: &OsStr, name: &OsStr) -> Option<(u64, Form)> {
    let rest = name.as_bytes().strip_prefix(base.as_bytes())?.strip_prefix(b".")?;
    let rest = std::str::from_utf8(rest).ok()?;
    let forms = [Form::Partial, Form::Compressed, Form::Plain];
    let form = forms.into_iter().find(|form| rest.ends_with(form.suffix()))?;
    let rest = rest.strip_suffix(form.suffix())?;
    let (number, time) = rest.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let well_formed = number.len() >= 6 && date.len() == 8 && clock.len() == 6;
    if !well_formed || ![number, date, clock].into_iter().all(digits) {
        return None;
    }
    Some((number.parse().ok()?, form))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(name: &str) -> Option<(u64, Form)> {
        parse(OsStr::new("a.jsonl"), OsStr::new(name))
    }

    #[test]
    fn parse_accepts_only_names_of_rotated_files() {
        assert_eq!(parsed("a.jsonl.000042-20261124T122221Z"), Some((42, Form::Plain)));
        assert_eq!(
            parsed("a.jsonl.1000000-20261124T122221Z.zst"),
            Some((1_000_000, Form::Compressed))
        );
        assert_eq!(
            parsed("a.jsonl.000042-20261124T122221Z.zst.partial"),
            Some((42, Form::Partial))
        );
        for other in [
            "a.jsonl",
            "a.jsonl.1",
            "a.jsonl.42-20261124T122221Z",
            "a.jsonl.000042-20261124T122221",
            "a.jsonl.000042-20261124T122221Z.gz",
            "a.jsonl.000042-20261124T122221Z.partial",
            "a.jsonl.+00042-20261124T122221Z",
            "a.jsonl.000042-2026112xT122221Z",
            "b.jsonl.000042-20261124T122221Z",
            "a.jsonl.b.000042-20261124T122221Z",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn list_returns_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        assert_eq!(list(&path).unwrap(), []);
        for number in [1_000_001, 2, 30] {
            fs::write(name(&path, number), "").unwrap();
        }
        fs::write(&path, "").unwrap();
        let numbers: Vec<u64> = list(&path).unwrap().iter().map(|rotated| rotated.number).collect();
        assert_eq!(numbers, [2, 30, 1_000_001]);
    }

    proptest! {
        #[test]
        fn parse_never_panics(name in "a\\.jsonl\\.[0-9TZ.zst-]{0,40}|.*") {
            parsed(&name);
        }
    }
}
