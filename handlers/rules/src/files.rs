//! Reads rule files when the run begins. A check of the configuration reads no files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::select::{RuleFile, Written};

/// Largest rule file, in bytes.
const LARGEST: u64 = 4 << 20;

/// Reads every file, and the `.toml` files of every folder, sorted by name.
///
/// # Errors
/// If a file cannot be read or contains no rules. Names the file, the place and the reason.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Written>, String> {
    let mut rules = Vec::new();
    for path in paths {
        for file in expand(path)? {
            let name = file.display();
            let text = read_text(&file)
                .map_err(|error| format!("cannot read rules from {name}: {error}"))?;
            let read: RuleFile =
                toml::from_str(&text).map_err(|error| syntax_error(&file, &text, &error))?;
            if read.rules.is_empty() {
                return Err(format!("{name} contains no rules: write them as [[rules]] tables"));
            }
            let name = name.to_string();
            let written = |rule| Written::in_file(rule, &name, false);
            rules.extend(read.rules.into_iter().map(written));
        }
    }
    Ok(rules)
}

fn expand(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path)
        .map_err(|error| format!("cannot read rules from {}: {error}", path.display()))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Formats a syntax error: `rules/web.toml:3:8: unknown field …`
fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let line = before.split('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = error.message().trim().replace('`', "\"");
    format!("{}:{line}:{column}: {message}", path.display())
}
