//! The public text of Rust files.

use super::text::Passage;

/// Reads comments, strings and test names. Knows as much of Rust's syntax as that needs.
pub(super) struct Rust<'a> {
    rest: &'a str,
    line: usize,
    /// Comments on successive lines, with their mark and the line they go up to.
    comment: Option<(Passage, &'a str, usize)>,
    /// Whether this is a test.
    is_test: bool,
    passages: &'a mut Vec<Passage>,
    verbatim: Option<&'a mut Vec<usize>>,
}

impl<'a> Rust<'a> {
    /// Reads a file. `verbatim` gets the lines that may be wide: those of raw strings.
    pub(super) fn read(
        text: &'a str,
        is_test: bool,
        passages: &'a mut Vec<Passage>,
        verbatim: &'a mut Vec<usize>,
    ) {
        let verbatim = Some(verbatim);
        Self { rest: text, line: 1, comment: None, is_test, passages, verbatim }.run();
    }

    /// Reads a part of a file that begins at a line.
    pub(super) fn read_from(text: &'a str, line: usize, passages: &'a mut Vec<Passage>) {
        Self { rest: text, line, comment: None, is_test: false, passages, verbatim: None }.run();
    }

    fn run(mut self) {
        while let Some(first) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                self.line_comment();
            } else if self.rest.starts_with("/*") {
                self.block_comment();
            } else if first == '"' {
                self.string();
            } else if let Some(hashes) = raw_string(self.rest) {
                self.raw_string(hashes);
            } else if first == '\'' {
                self.quote();
            } else if self.rest.starts_with("#[cfg(test)]") {
                self.is_test = true;
                self.advance(1);
            } else if is_of_name(first) {
                self.word();
            } else {
                self.advance(first.len_utf8());
            }
        }
        self.end_comment();
    }

    /// Goes on by this many bytes, and gives them.
    fn advance(&mut self, length: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.line += passed.matches('\n').count();
        self.rest = rest;
        passed
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let length = self.rest.find('\n').unwrap_or(self.rest.len());
        let comment = self.advance(length);
        let text = comment.trim_start_matches(['/', '!']);
        let mark = &comment[..comment.len() - text.len()];
        match &mut self.comment {
            Some((block, last_mark, last)) if *last_mark == mark && *last + 1 == line => {
                block.text.push('\n');
                block.text.push_str(text);
                *last = line;
            }
            _ => {
                self.end_comment();
                let block = Passage::new(line, text);
                self.comment = Some((block, mark, line));
            }
        }
    }

    /// Comments are Markdown: their code blocks are left out.
    fn end_comment(&mut self) {
        let Some((block, ..)) = self.comment.take() else { return };
        let mut text = String::new();
        let mut in_code = false;
        for line in block.text.lines() {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            if !in_code && !is_fence {
                text.push_str(line);
            }
            text.push('\n');
        }
        self.passages.push(Passage::new(block.line, text));
    }

    fn block_comment(&mut self) {
        let line = self.line;
        let length = self.rest.find("*/").map_or(self.rest.len(), |at| at + 2);
        let text = self.advance(length);
        self.passages.push(Passage::new(line, text));
    }

    fn string(&mut self) {
        let line = self.line;
        let mut text = String::new();
        self.advance(1);
        while let Some(c) = self.rest.chars().next() {
            let passed = match c {
                '"' => break,
                '\\' => 1 + self.rest[1..].chars().next().map_or(0, char::len_utf8),
                _ => c.len_utf8(),
            };
            match self.advance(passed) {
                // The text goes on after the next line's indentation.
                "\\\n" => text.push('\n'),
                escape if c == '\\' => text.push_str(if escape == "\\n" { ". " } else { "\"" }),
                plain => text.push_str(plain),
            }
        }
        self.advance(1);
        self.passages.push(Passage { line, text, is_test_data: self.is_test });
    }

    fn raw_string(&mut self, hashes: usize) {
        let line = self.line;
        let begin = self.rest.find('"').map_or(0, |at| at + 1);
        self.advance(begin);
        let end = format!("\"{}", "#".repeat(hashes));
        let length = self.rest.find(&end).unwrap_or(self.rest.len());
        let text = self.advance(length).to_owned();
        self.advance(end.len());
        if let Some(verbatim) = &mut self.verbatim {
            verbatim.extend(line..=self.line);
        }
        self.passages.push(Passage { line, text, is_test_data: self.is_test });
    }

    /// A character, or a lifetime.
    fn quote(&mut self) {
        let mut chars = self.rest.char_indices().skip(1);
        let length = match (chars.next(), chars.next()) {
            (Some((_, '\\')), Some((at, c))) => {
                let after = at + c.len_utf8();
                self.rest[after..].find('\'').map_or(1, |end| after + end + 1)
            }
            (_, Some((at, '\''))) => at + 1,
            _ => 1,
        };
        self.advance(length);
    }

    /// A name or keyword. After `fn`, a name of many words is a test's.
    fn word(&mut self) {
        let word = self.advance(name_length(self.rest));
        if word != "fn" || !self.rest.starts_with(' ') {
            return;
        }
        self.advance(1);
        let line = self.line;
        let name = self.advance(name_length(self.rest));
        if name.matches('_').count() >= 3 {
            self.passages.push(Passage::new(line, name.replace('_', " ")));
        }
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn name_length(text: &str) -> usize {
    text.find(|c| !is_of_name(c)).unwrap_or(text.len())
}

/// How many `#` begin a raw string, if one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| {
        text.strip_prefix(prefix).filter(|after| after.starts_with(['"', '#']))
    })?;
    let quote = after.trim_start_matches('#');
    quote.starts_with('"').then(|| after.len() - quote.len())
}
