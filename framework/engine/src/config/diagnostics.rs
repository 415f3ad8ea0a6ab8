//! Mistakes in a configuration, and their display.

use std::fmt;

use super::Span;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The range of the text that it is about, in bytes.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What was expected, or how to fix it.
    pub hint: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }
}

/// All mistakes of a configuration, in the order of the text.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    file: String,
    text: String,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(file: &str, text: &str, mut found: Vec<Diagnostic>) -> Self {
        found.sort_by_key(|d| (d.span.start, d.span.end));
        Self { file: file.to_owned(), text: text.to_owned(), found }
    }

    /// Returns the mistakes, each with its line and column. Both start at 1; columns count
    /// characters.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (usize, usize, &Diagnostic)> {
        self.found.iter().map(|diagnostic| {
            let (line, column) = position(&self.text, diagnostic.span.start);
            (line, column, diagnostic)
        })
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, column, diagnostic) in self.iter() {
            let message = plain(&diagnostic.message);
            writeln!(f, "error: {}:{line}:{column}: {message}", self.file)?;
            if let Some(source) = self.text.lines().nth(line - 1) {
                let width = underline(&self.text, &diagnostic.span, source, column);
                let (shown, before, width) = window(source, column - 1, width);
                let gutter = line.to_string();
                let margin = " ".repeat(gutter.len());
                writeln!(f, "  {gutter} | {shown}")?;
                writeln!(f, "  {margin} | {}{}", " ".repeat(before), "^".repeat(width))?;
            }
            if let Some(hint) = &diagnostic.hint {
                writeln!(f, "  hint: {}", plain(hint))?;
            }
        }
        let count = self.found.len();
        write!(f, "{count} {} in {}", if count == 1 { "mistake" } else { "mistakes" }, self.file)
    }
}

impl std::error::Error for Diagnostics {}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Returns how many characters to mark: the span, up to the end of its first line.
fn underline(text: &str, span: &Span, line: &str, column: usize) -> usize {
    let marked = text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("");
    let rest = line.chars().count().saturating_sub(column - 1);
    marked.chars().count().min(rest).max(1)
}

/// Number of characters that are shown before and after the start of a mark.
const AROUND: usize = 60;

/// Returns the part of a line around a mark, and the mark's position and width in it.
fn window(line: &str, mark: usize, width: usize) -> (String, usize, usize) {
    let skip = mark.saturating_sub(AROUND);
    let mut shown = String::from(if skip > 0 { "…" } else { "" });
    let before = mark - skip + usize::from(skip > 0);
    // Each character takes one column, so that the mark is below its place.
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '·',
        c => c,
    };
    let mut rest = line.chars().skip(skip);
    shown.extend(rest.by_ref().take(mark - skip + AROUND).map(visible));
    if rest.next().is_some() {
        shown.push('…');
    }
    (shown, before, width.min(AROUND))
}

/// Escapes control characters, since the text may quote the file, and shortens it to 1000
/// characters.
fn plain(text: &str) -> String {
    const MAX_CHARS: usize = 1000;
    let mut plain = String::new();
    for c in text.chars().take(MAX_CHARS) {
        if c.is_control() {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_is_shown_with_its_line_and_a_mark() {
        let text = "a = 1\nname = \"ö\" # x\n";
        let found = vec![Diagnostic::new(13..17, "no such name").hint("did you mean \"o\"?")];
        let shown = Diagnostics::new("f.toml", text, found).to_string();
        assert_eq!(
            shown,
            "error: f.toml:2:8: no such name\n\
             \x20 2 | name = \"ö\" # x\n\
             \x20   |        ^^^\n\
             \x20 hint: did you mean \"o\"?\n\
             1 mistake in f.toml"
        );
    }

    #[test]
    fn span_at_or_past_the_end_of_the_text_is_shown() {
        let shown =
            |span| Diagnostics::new("f", "a\nb", vec![Diagnostic::new(span, "m")]).to_string();
        assert!(shown(3..3).starts_with("error: f:2:2: m"), "{}", shown(3..3));
        assert!(shown(9..12).starts_with("error: f:2:2: m"), "{}", shown(9..12));
    }

    #[test]
    fn long_line_is_cut_around_the_mark() {
        let text = format!("x = '{}' y", "a".repeat(70_000));
        let at = text.len() - 1;
        let shown =
            Diagnostics::new("f", &text, vec![Diagnostic::new(at..at + 1, "m")]).to_string();
        assert!(shown.starts_with("error: f:1:70008: m\n"), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].chars().count() < 140, "{shown}");
        let mark = lines[2].chars().position(|c| c == '^');
        assert_eq!(mark.and_then(|at| lines[1].chars().nth(at)), Some('y'), "{shown}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "a = \u{1b}]0;pwned\u{7}";
        let found = vec![Diagnostic::new(4..5, "no \"\u{1b}\" here").hint("\u{7}")];
        let shown = Diagnostics::new("f", text, found).to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}
