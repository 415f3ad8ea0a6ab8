//! Phrases that have a plainer replacement, and where a text has them.

use super::Problem;
use super::text::Passage;

/// A phrase that is not used in public text.
#[derive(Debug)]
pub(super) struct Phrase {
    /// The words. `a|b` matches either, `*` any word. Case does not matter.
    words: &'static str,
    /// What to write instead.
    instead: &'static str,
    /// Longer phrases that contain this one and are fine.
    unless: &'static [&'static str],
}

const fn phrase(words: &'static str, instead: &'static str) -> Phrase {
    Phrase { words, instead, unless: &[] }
}

impl Phrase {
    const fn unless(mut self, unless: &'static [&'static str]) -> Self {
        self.unless = unless;
        self
    }
}

/// The phrases, each with its replacement.
///
/// They are literal translations that English readers have to decode, or words that this project
/// uses for something else. Only phrases that are wrong wherever they appear belong here: a check
/// that cries wolf is switched off. "looks like" for the shape of a type is an example of one that
/// a machine cannot judge.
pub(super) const PHRASES: &[Phrase] = &[
    phrase("told", "reported, named, known, identified, says: the exact verb")
        .unless(&["told apart"]),
    phrase("tell|tells|telling of", "reports, names, says"),
    phrase("is|are|was|were no *", "is not a …, or: there is no …").unless(&[
        "there is|are|was|were no *",
        "is|are|was|were there no *",
        "is|are|was|were no longer|different|better|worse",
    ]),
    phrase("anew", "again, rebuilt, refreshed"),
    phrase("mend|mends|mended|mending", "fix, repair"),
    phrase(
        "stand|stands|stood|standing in|behind|before|between|beside|there",
        "is in, comes after, comes before, is between",
    )
    .unless(&["stand|stands|stood|standing in for"]),
    phrase("of one's|its|their|our own", "custom, its own …, a separate …")
        .unless(&["of its|their own accord"]),
    phrase("third party's", "third-party"),
    phrase("for want of", "because there is no …, without"),
    phrase("take|takes no more than", "accepts at most"),
    phrase("come|comes|came to", "is, reaches, arrives at").unless(&["when it comes|came to"]),
    phrase("what is|was|has gone", "the removed …, what was removed"),
    phrase("what came|comes in", "the input"),
    phrase("what is|was asked for", "the request"),
    phrase("take|takes|took|taken|taking down", "record; or: stop, remove"),
    phrase("play|plays|played|playing back", "replay"),
    phrase("hold|holds|held|holding up", "block, delay"),
    phrase("begin|begins|began|begun ahead", "starts early"),
    phrase("what is|was|had begun", "early work, what was started"),
    phrase("so many", "N, a number of, as many as").unless(&["so many * that"]),
    phrase("give|gives|gave|given|giving on", "pass on, emit"),
    phrase("is|are|was|were|be taken for", "is treated as, is mistaken for"),
    phrase("whoever", "the program that, the reader who, anyone who"),
    phrase("brings|bring|brought|bringing * to its|their|an end", "finishes, ends"),
    phrase("that which", "the … that"),
];

/// A word in lower case, [`ANY`] for one that is code, or [`BREAK`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) line: usize,
    pub(super) word: String,
}

impl Token {
    pub(super) fn is_word(&self) -> bool {
        self.word != ANY && self.word != BREAK
    }
}

/// Stands for code and placeholders: a word to `*` only.
const ANY: &str = "`";
/// Ends a phrase: punctuation, a new paragraph.
const BREAK: &str = "";

/// Finds the phrases in a passage.
pub(super) fn find(passage: &Passage) -> Vec<Problem> {
    let tokens = tokens(passage);
    let mut problems = Vec::new();
    for start in 0..tokens.len() {
        for phrase in PHRASES {
            let Some(end) = matches_at(&tokens, start, phrase.words) else { continue };
            if phrase.unless.iter().any(|longer| is_within(&tokens, start, end, longer)) {
                continue;
            }
            let words: Vec<&str> =
                tokens[start..end].iter().map(|token| token.word.as_str()).collect();
            let what = format!("\"{}\": write {}", words.join(" "), phrase.instead);
            problems.push(Problem { line: tokens[start].line, what });
        }
    }
    problems
}

/// Where a phrase ends that begins at `start`, if it does.
fn matches_at(tokens: &[Token], start: usize, words: &str) -> Option<usize> {
    let mut at = start;
    for word in words.split(' ') {
        let token = tokens.get(at)?.word.as_str();
        let is_match = match word {
            "*" => token != BREAK,
            _ => word.split('|').any(|choice| choice == token),
        };
        if !is_match {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// Whether a longer phrase covers the tokens from `start` to `end`.
fn is_within(tokens: &[Token], start: usize, end: usize, longer: &str) -> bool {
    let length = longer.split(' ').count();
    (start.saturating_sub(length)..=start)
        .any(|from| matches_at(tokens, from, longer).is_some_and(|to| to >= end))
}

/// Splits a passage into words. Code spans, links' targets and emphasis are left out.
pub(super) fn tokens(passage: &Passage) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = passage.line;
    let mut rest = passage.text.as_str();
    while let Some(first) = rest.chars().next() {
        let (length, word) = match first {
            '\n' => {
                line += 1;
                let is_blank = rest[1..].lines().next().is_none_or(|next| next.trim().is_empty());
                (1, if is_blank || begins_item(&rest[1..]) { Some(BREAK) } else { None })
            }
            '`' => (span(rest, '`'), Some(ANY)),
            '{' if !rest.starts_with("{{") => (span(rest, '}'), Some(ANY)),
            ']' if rest.starts_with("](") => (span(rest, ')'), None),
            ' ' | '\t' | '*' | '_' | '[' | ']' | '{' | '}' => (1, None),
            _ if is_of_word(first) => {
                let length = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                (length, Some(&rest[..length]))
            }
            _ => (first.len_utf8(), Some(BREAK)),
        };
        let begin = line;
        line += rest[..length].matches('\n').count() - usize::from(first == '\n');
        if let Some(word) = word {
            let word = word.trim_matches('\'').replace('’', "'").to_lowercase();
            tokens.push(Token { line: begin, word });
        }
        rest = &rest[length..];
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '’' | '-')
}

/// Whether a line begins a list's item, a table's row or a heading.
fn begins_item(line: &str) -> bool {
    let line = line.trim_start();
    ["* ", "- ", "|", "#"].iter().any(|mark| line.starts_with(mark))
        || line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

/// Bytes up to the character that ends a span; one where nothing does.
fn span(text: &str, end: char) -> usize {
    let first = text.chars().next().map_or(1, char::len_utf8);
    let paragraph = text.find("\n\n").unwrap_or(text.len());
    text[first..paragraph].find(end).map_or(first, |at| first + at + end.len_utf8())
}
