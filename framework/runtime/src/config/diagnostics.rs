//! Mistakes in a configuration, and how they are shown.

use std::fmt;

use super::Span;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it stands, in bytes.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What was expected, or how to mend it.
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

    /// Each mistake with its line and column, both from 1; columns count characters.
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
            writeln!(f, "error: {}:{line}:{column}: {}", self.file, diagnostic.message)?;
            if let Some(source) = self.text.lines().nth(line - 1) {
                let width = underline(&self.text, &diagnostic.span, source, column);
                let gutter = line.to_string();
                // Tabs count as one column here, so they are shown as one space: the mark stands below its place.
                writeln!(f, "  {gutter} | {}", source.replace('\t', " "))?;
                writeln!(
                    f,
                    "  {:gutter$} | {:skip$}{}",
                    "",
                    "",
                    "^".repeat(width),
                    gutter = gutter.len(),
                    skip = column - 1,
                )?;
            }
            if let Some(hint) = &diagnostic.hint {
                writeln!(f, "  hint: {hint}")?;
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

/// How many characters to mark: the span, but not beyond its first line.
fn underline(text: &str, span: &Span, line: &str, column: usize) -> usize {
    let marked = text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("");
    let rest = line.chars().count().saturating_sub(column - 1);
    marked.chars().count().min(rest).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_with_its_line_and_a_mark_below_its_place() {
        let text = "a = 1\nname = \"ö\" # x\n";
        let found = vec![Diagnostic::new(13..17, "no such name").hint("did you mean \"o\"?")];
        let shown = Diagnostics::new("f.toml", text, found).to_string();
        assert_eq!(
            shown,
            "error: f.toml:2:8: no such name\n  2 | name = \"ö\" # x\n    |        ^^^\n  hint: did you mean \"o\"?\n1 mistake in f.toml"
        );
    }

    #[test]
    fn places_at_and_past_the_end_of_the_text_are_shown_too() {
        let shown =
            |span| Diagnostics::new("f", "a\nb", vec![Diagnostic::new(span, "m")]).to_string();
        assert!(shown(3..3).starts_with("error: f:2:2: m"), "{}", shown(3..3));
        assert!(shown(9..12).starts_with("error: f:2:2: m"), "{}", shown(9..12));
    }
}
