//! The public text of Markdown, TOML and scripts.

use super::rust::Rust;

/// How a file's public text is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    Markdown,
    /// Comments begin with `#`: TOML, shell, Python.
    Hash,
}

impl Language {
    /// By the name's ending. Templates end in `.in` after that.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".in").unwrap_or(name);
        match name.rsplit_once('.')?.1 {
            "rs" => Some(Self::Rust),
            "md" => Some(Self::Markdown),
            "toml" | "sh" | "py" => Some(Self::Hash),
            _ => None,
        }
    }
}

/// Text that is read without a break, with the line that it begins in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) line: usize,
    pub(super) text: String,
    /// Whether it is a string in a test: read for phrases, not for spelling.
    pub(super) is_test_data: bool,
}

impl Passage {
    pub(super) fn new(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into(), is_test_data: false }
    }
}

/// Reads a file's public text, and the numbers of the lines that may be wide.
pub(super) fn read(name: &str, text: &str) -> (Vec<Passage>, Vec<usize>) {
    let mut passages = Vec::new();
    let mut verbatim = Vec::new();
    match Language::of(name) {
        Some(Language::Rust) => {
            let is_test = name.contains("tests/") || name.ends_with("tests.rs");
            Rust::read(text, is_test, &mut passages, &mut verbatim);
        }
        Some(Language::Markdown) => markdown(text, &mut passages, &mut verbatim),
        Some(Language::Hash) => hash(text, 1, &mut passages),
        None => {}
    }
    (passages, verbatim)
}

/// Reads Markdown. `verbatim` gets the lines that may be wide: tables, code, links' targets.
fn markdown(text: &str, passages: &mut Vec<Passage>, verbatim: &mut Vec<usize>) {
    let mut prose = Passage::new(1, String::new());
    let mut fence: Option<(Language, Passage)> = None;
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if let Some(info) = trimmed.strip_prefix("```") {
            in_code = !in_code;
            if let Some((language, code)) = fence.take() {
                match language {
                    Language::Rust => Rust::read_from(&code.text, code.line, passages),
                    _ => hash(&code.text, code.line, passages),
                }
            }
            let language = match info.split([',', ' ']).next() {
                Some("rust") => Some(Language::Rust),
                Some("toml") => Some(Language::Hash),
                _ => None,
            };
            let begin = Passage::new(index + 2, String::new());
            fence = language.filter(|_| in_code).map(|language| (language, begin));
            prose.text.push('\n');
            continue;
        }
        if in_code {
            if let Some((_, code)) = &mut fence {
                code.text.push_str(line);
                code.text.push('\n');
            }
            prose.text.push('\n');
            verbatim.push(index + 1);
            continue;
        }
        if trimmed.starts_with('|') || trimmed.contains("](") || trimmed.contains("]: ") {
            verbatim.push(index + 1);
        }
        prose.text.push_str(line);
        prose.text.push('\n');
    }
    passages.push(prose);
}

/// Reads comments that begin with `#`. Those on successive lines are one passage.
fn hash(text: &str, first: usize, passages: &mut Vec<Passage>) {
    let mut block: Option<Passage> = None;
    for (index, line) in text.lines().enumerate() {
        let Some(at) = comment_at(line) else {
            passages.extend(block.take());
            continue;
        };
        let comment = line[at..].trim_start_matches('#');
        if line[..at].trim().is_empty() {
            let begin = || Passage::new(first + index, String::new());
            let block = block.get_or_insert_with(begin);
            block.text.push_str(comment);
            block.text.push('\n');
        } else {
            passages.extend(block.take());
            passages.push(Passage::new(first + index, comment));
        }
    }
    passages.extend(block);
}

/// Where a line's comment begins: at the first `#` outside quotes, after a space.
fn comment_at(line: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' && before.is_whitespace() => return Some(at),
            None => {}
        }
        before = c;
    }
    None
}
