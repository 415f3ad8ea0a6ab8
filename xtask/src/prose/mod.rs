//! `cargo xtask prose`: what a machine can check of the English in the repository.
//!
//! Three checks: phrases that have a plainer replacement ([`phrases::PHRASES`]), lines over
//! [`COLUMNS`] columns, and spelling, for which [codespell] is needed. The first two need no tools
//! and read
//!
//! * comments, string literals and test names of Rust files,
//! * Markdown, without code spans, tables' widths and code blocks (comments in blocks of Rust and
//!   TOML are read),
//! * comments of TOML files and scripts.
//!
//! codespell knows a list of common misspellings, so that it accepts names and terms that no
//! dictionary has, and both British and American spelling. Debian and Ubuntu package it. `typos`
//! works likewise, but is in neither, and a hunspell dictionary would need thousands of project
//! words.
//!
//! [codespell]: https://github.com/codespell-project/codespell

mod phrases;
mod rust;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use self::text::Language;
use crate::paths;

/// The most columns of a line.
const COLUMNS: usize = 100;

/// A word of this many characters cannot be wrapped: a path, a URL, a real cgroup's name.
const UNBREAKABLE: usize = 60;

const HELP: &str = "\
cargo xtask prose [PATH…]

Checks the wording and the width of lines in files and folders; without a path, in all of the
repository. Prints each place with what to write instead, and fails if there is one.
";

/// Places where a phrase or a long line stays.
struct Exception {
    /// The file.
    path: &'static str,
    /// Part of the line; all of the file where it is empty.
    text: &'static str,
    #[expect(dead_code, reason = "for readers")]
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception { path: "xtask/src/prose/phrases.rs", text: "", reason: "it lists the phrases" },
    Exception { path: "xtask/src/prose/tests.rs", text: "", reason: "it has bad examples" },
];

/// Runs the command.
pub(crate) fn main(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    if let Some(option) = args.iter().find(|arg| arg.starts_with('-')) {
        bail!("no option `{option}`\n\n{HELP}");
    }
    if args.is_empty() { check_all() } else { check(args.iter().map(PathBuf::from).collect()) }
}

/// Checks the whole repository.
pub(crate) fn check_all() -> Result<()> {
    let mut files = Vec::new();
    collect(&paths::root(), &mut files)?;
    for exception in EXCEPTIONS {
        let text = fs::read_to_string(paths::root().join(exception.path)).unwrap_or_default();
        let is_used = text.lines().any(|line| line.contains(exception.text));
        ensure!(
            is_used,
            "exception for {} in xtask/src/prose/mod.rs is unused: remove it",
            exception.path
        );
    }
    check(files)
}

/// Prepares a run of codespell over the public text of the repository.
///
/// It reads copies below the target folder, which have the same names and lines but no code: names
/// of variables and the misspellings that tests make on purpose are nobody's business.
pub(crate) fn spelling() -> Result<Command> {
    let mut files = Vec::new();
    collect(&paths::root(), &mut files)?;
    let copies = paths::target().join("xtask/prose");
    if copies.exists() {
        fs::remove_dir_all(&copies)?;
    }
    for file in &files {
        let name = name(file);
        let Ok(text) = fs::read_to_string(file) else { continue };
        let copy = copies.join(&name);
        fs::create_dir_all(copy.parent().unwrap_or(&copies))?;
        fs::write(copy, words(&name, &text))?;
    }
    let mut command = Command::new("codespell");
    command.current_dir(copies).args(["--ignore-words-list", &SPELLING_WORDS.join(",")]);
    Ok(command)
}

/// Words that codespell mistakes for misspellings.
const SPELLING_WORDS: &[&str] = &["crate"];

/// The words of a text's prose, each in its line.
fn words(name: &str, text: &str) -> String {
    let mut lines = vec![String::new(); text.lines().count()];
    let (passages, _) = text::read(name, text);
    for passage in passages.iter().filter(|passage| !passage.is_test_data) {
        let tokens = phrases::tokens(passage);
        for token in tokens.iter().filter(|token| token.is_word()) {
            if let Some(line) = lines.get_mut(token.line - 1) {
                line.push_str(&token.word);
                line.push(' ');
            }
        }
    }
    lines.join("\n")
}

fn check(paths: Vec<PathBuf>) -> Result<()> {
    let mut files = Vec::new();
    for path in &paths {
        collect(path, &mut files)?;
    }
    files.sort();
    let mut count = 0;
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let name = name(file);
        for problem in problems(&name, &text) {
            println!("{name}:{problem}");
            count += 1;
        }
    }
    ensure!(count == 0, "{count} places to rewrite in {} files read", files.len());
    Ok(())
}

/// A file's name as people call it: from the repository's root where it is in there.
fn name(file: &Path) -> String {
    let absolute = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let name = absolute.strip_prefix(paths::root()).unwrap_or(file);
    name.display().to_string()
}

/// Adds a file, or the files of a folder that have text to check.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || name == "target" || (name.starts_with('.') && name.len() > 1) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if Language::of(&name).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

/// A place to rewrite.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    /// Counted from 1.
    line: usize,
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

/// What is to be rewritten in a text, in the order of its lines.
fn problems(name: &str, text: &str) -> Vec<Problem> {
    let (passages, verbatim) = text::read(name, text);
    let mut problems: Vec<Problem> = passages.iter().flat_map(phrases::find).collect();
    let is_data = Language::of(name) == Some(Language::Hash);
    for (index, line) in text.lines().enumerate() {
        let is_exempt = is_data && !line.trim_start().starts_with('#');
        if is_too_wide(line) && !is_exempt && !verbatim.contains(&(index + 1)) {
            let width = line.chars().count();
            let what = format!("{width} columns wide: wrap at {COLUMNS}");
            problems.push(Problem { line: index + 1, what });
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    problems.retain(|problem| {
        let line = lines.get(problem.line - 1).copied().unwrap_or_default();
        !EXCEPTIONS.iter().any(|e| e.path == name && line.contains(e.text))
    });
    problems.sort_by_key(|problem| problem.line);
    problems
}

/// Whether a line is over the limit and has a space to wrap it at.
fn is_too_wide(line: &str) -> bool {
    line.chars().count() > COLUMNS
        && line.split_whitespace().all(|word| word.chars().count() < UNBREAKABLE)
}

#[cfg(test)]
mod tests;
