//! A strict reader of both text formats for the tests, written from the specifications.

use std::collections::{BTreeMap, BTreeSet};
use std::str::Chars;

use crate::accept::Format;

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// The contents of a page.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Types of metrics by name.
    pub(crate) types: BTreeMap<String, String>,
    /// Name, labels, number.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

impl Read {
    /// Returns the number of a sample. `labels` has the form `a=1,b=2`, sorted by name.
    pub(crate) fn number(&self, name: &str, labels: &str) -> Option<f64> {
        let written = |labels: &Labels| {
            labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        self.of(name).find(|(found, _)| written(found) == labels).map(|(_, number)| number)
    }

    /// Returns the samples with this name.
    pub(crate) fn of(&self, name: &str) -> impl Iterator<Item = (&Labels, f64)> {
        let samples = self.samples.iter().filter(move |(found, ..)| found == name);
        samples.map(|(_, labels, number)| (labels, *number))
    }
}

/// Reads a page.
///
/// # Panics
/// On anything that a reader of the format might refuse.
pub(crate) fn read(page: &str, format: Format) -> Read {
    let body = match format {
        Format::Text => page,
        Format::OpenMetrics => page.strip_suffix("# EOF\n").expect("page ends with # EOF"),
    };
    assert!(body.ends_with('\n'), "the last line ends with a newline");
    let (mut read, mut current, mut seen) = (Read::default(), None, BTreeSet::new());
    for line in body.trim_end_matches('\n').split('\n') {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name) =
                (words.next().expect("keyword"), words.next().expect("metric name"));
            assert!(is_name(name), "{line}");
            match keyword {
                "HELP" => assert!(words.next().is_some_and(|help| !help.is_empty()), "{line}"),
                "TYPE" => {
                    let kind = words.next().expect("type").to_owned();
                    current = Some((name.to_owned(), kind.clone()));
                    assert!(
                        read.types.insert(name.to_owned(), kind).is_none(),
                        "duplicate: {line}"
                    );
                }
                _ => panic!("unknown comment: {line}"),
            }
            continue;
        }
        let (name, labels, number) = sample(line);
        let (family, kind) = current.as_ref().expect("type before the first sample");
        let suffixes: &[&str] = match (&**kind, format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("info", Format::OpenMetrics) => &["_info"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let rest =
            name.strip_prefix(&**family).unwrap_or_else(|| panic!("not part of {family}: {line}"));
        assert!(suffixes.contains(&rest), "not part of {family}: {line}");
        assert!(seen.insert((name.clone(), labels.clone())), "duplicate: {line}");
        read.samples.push((name, labels, number));
    }
    read
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect("name and number");
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let (labels, number) = match rest.strip_prefix('{') {
        None => (Labels::new(), rest),
        Some(rest) => {
            let mut chars = rest.chars();
            (pairs(&mut chars), chars.as_str())
        }
    };
    let number = number.strip_prefix(' ').expect("number");
    (name.to_owned(), labels, number.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
}

fn pairs(chars: &mut Chars<'_>) -> Labels {
    let mut labels = Labels::new();
    loop {
        let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_name(&name), "{name:?} is not a label name");
        assert_eq!(chars.next(), Some('"'));
        let mut value = String::new();
        loop {
            match chars.next().expect("value ends with a quote") {
                '"' => break,
                '\n' => panic!("a value contains a newline"),
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('"' | '\\')) => c,
                    other => panic!("not an escape sequence: {other:?}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(name, value).is_none(), "duplicate label");
        match chars.next() {
            Some(',') => {}
            Some('}') => return labels,
            other => panic!("unexpected after a value: {other:?}"),
        }
    }
}
