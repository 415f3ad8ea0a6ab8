//! A strict reader of both text formats, written from their specifications, to test against.

use std::collections::{BTreeMap, BTreeSet};
use std::str::Chars;

use crate::accept::Format;

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// What a page says.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Types of metrics by their names.
    pub(crate) types: BTreeMap<String, String>,
    /// Name, labels, number.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

impl Read {
    /// The number of a sample; the labels stand as `a=1,b=2`, in the order of their names.
    pub(crate) fn number(&self, name: &str, labels: &str) -> Option<f64> {
        let shown = |labels: &Labels| {
            labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        self.of(name).find(|(found, _)| shown(found) == labels).map(|(_, number)| number)
    }

    /// The samples of that name.
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
        Format::OpenMetrics => page.strip_suffix("# EOF\n").expect("the mark of the end"),
    };
    assert!(body.ends_with('\n'), "the last line has an end");
    let (mut read, mut current, mut seen) = (Read::default(), None, BTreeSet::new());
    for line in body.trim_end_matches('\n').split('\n') {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name) = (words.next().expect("a word"), words.next().expect("a name"));
            assert!(is_name(name), "{line}");
            match keyword {
                "HELP" => assert!(words.next().is_some_and(|help| !help.is_empty()), "{line}"),
                "TYPE" => {
                    let kind = words.next().expect("a type").to_owned();
                    current = Some((name.to_owned(), kind.clone()));
                    assert!(read.types.insert(name.to_owned(), kind).is_none(), "twice: {line}");
                }
                _ => panic!("what is this: {line}"),
            }
            continue;
        }
        let (name, labels, number) = sample(line);
        let (family, kind) = current.as_ref().expect("a type before the first sample");
        let suffixes: &[&str] = match (&**kind, format) {
            ("counter", Format::OpenMetrics) => &["_total"],
            ("info", Format::OpenMetrics) => &["_info"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let rest =
            name.strip_prefix(&**family).unwrap_or_else(|| panic!("not of {family}: {line}"));
        assert!(suffixes.contains(&rest), "not of {family}: {line}");
        assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
        read.samples.push((name, labels, number));
    }
    read
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect("a name and more");
    let (name, rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let (labels, number) = match rest.strip_prefix('{') {
        None => (Labels::new(), rest),
        Some(rest) => {
            let mut chars = rest.chars();
            (pairs(&mut chars), chars.as_str())
        }
    };
    let number = number.strip_prefix(' ').expect("a number");
    (name.to_owned(), labels, number.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
}

fn pairs(chars: &mut Chars<'_>) -> Labels {
    let mut labels = Labels::new();
    loop {
        let name: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_name(&name), "{name:?} is no label");
        assert_eq!(chars.next(), Some('"'));
        let mut value = String::new();
        loop {
            match chars.next().expect("a value has an end") {
                '"' => break,
                '\n' => panic!("a value goes over its line"),
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('"' | '\\')) => c,
                    other => panic!("no escape: {other:?}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(name, value).is_none(), "a label stands twice");
        match chars.next() {
            Some(',') => {}
            Some('}') => return labels,
            other => panic!("after a value comes {other:?}"),
        }
    }
}
