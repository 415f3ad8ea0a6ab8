//! Selects the rules: the built-in rules, and those of the configuration and of files, without the
//! disabled ones.

use serde::Deserialize;
use whalewatch_core::{Problem, Schema};

use crate::options::{RuleOptions, RulesOptions};
use crate::rule::Rule;

/// The built-in rules, by subject.
const PACK: [(&str, &str); 4] = [
    ("processes", include_str!("pack/processes.toml")),
    ("files", include_str!("pack/files.toml")),
    ("network", include_str!("pack/network.toml")),
    ("escapes", include_str!("pack/escapes.toml")),
];

/// A rule file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleFile {
    #[serde(default)]
    pub(crate) rules: Vec<RuleOptions>,
}

impl Written {
    /// A rule from a file. Its problems name the file and the rule.
    pub(crate) fn in_file(rule: RuleOptions, file: &str, pack: bool) -> Self {
        let key = format!("{file}: rule \"{}\": ", rule.name);
        Self { rule, key, pack }
    }
}

/// A rule as configured, and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) rule: RuleOptions,
    /// Prefix of its options in problems: `rules[3].`, or the file's name.
    pub(crate) key: String,
    /// Whether it is a built-in rule. Such a rule may be about events that do not come in.
    pub(crate) pack: bool,
}

/// The enabled rules.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) rules: Vec<Rule>,
    /// Names of enabled built-in rules that are idle because their events do not come in.
    pub(crate) idle: Vec<String>,
    pub(crate) problems: Vec<Problem>,
}

/// Returns the built-in rules.
///
/// # Panics
/// If a built-in rule is invalid, which a test rules out.
pub(crate) fn pack() -> impl Iterator<Item = Written> {
    PACK.iter().flat_map(|(name, text)| {
        let file: RuleFile =
            toml::from_str(text).unwrap_or_else(|error| panic!("the pack's {name}: {error}"));
        let written = move |rule| Written { rule, key: format!("pack/{name}.toml: "), pack: true };
        file.rules.into_iter().map(written)
    })
}

/// Selects the enabled rules, and checks them against the input. `files` is `None` if the rule
/// files are not to be read; then unknown names may belong to rules in them.
pub(crate) fn select(
    options: &RulesOptions,
    files: Option<Vec<Written>>,
    input: &[Schema],
) -> Selection {
    let mut selection = Selection::default();
    let complete = files.is_some() || options.files.is_empty();
    let inline = options.rules.iter().enumerate();
    let mut own: Vec<Written> = inline
        .map(|(i, rule)| Written { rule: rule.clone(), key: format!("rules[{i}]."), pack: false })
        .collect();
    own.extend(files.unwrap_or_default());
    selection.refuse_duplicates(&own);
    let replaced = |of: &Written| own.iter().any(|own| own.rule.name == of.rule.name);
    let pack: Vec<Written> = if options.pack { pack().collect() } else { Vec::new() };
    let pack = pack.into_iter().filter(|of| !replaced(of)).collect::<Vec<_>>();

    let mut known = Vec::new();
    for written in pack.iter().chain(&own) {
        match Rule::read(&written.rule, &written.key, options.except.get(&written.rule.name)) {
            Ok(rule) => known.push((rule, written.pack)),
            Err(problems) => selection.problems.extend(problems),
        }
    }
    let broken = known.len() < pack.len() + own.len();
    if complete && !broken {
        selection.refuse_unknown(options, &known);
    }
    for (mut rule, pack) in known {
        let selected = |words: &[String]| words.iter().any(|word| rule.is_selected_by(word));
        if !(rule.enabled && !selected(&options.disable) || selected(&options.enable)) {
            continue;
        }
        let problems = rule.resolve(input);
        if problems.is_empty() {
            selection.rules.push(rule);
        } else if pack && problems.iter().all(|problem| !problem.key.starts_with("except.")) {
            selection.idle.push(rule.name);
        } else {
            selection.problems.extend(problems);
        }
    }
    if complete && !broken && selection.rules.is_empty() && selection.problems.is_empty() {
        let nothing = if selection.idle.is_empty() {
            Problem::new("", "no rule is enabled").hint("set pack = true, or write [[rules]]")
        } else {
            Problem::new("", "no enabled rule is about events that come in").hint(
                "name more trackers in the chain's \"from\": process, files, network, privilege",
            )
        };
        selection.problems.push(nothing);
    }
    selection
}

impl Selection {
    fn refuse_duplicates(&mut self, own: &[Written]) {
        for (i, written) in own.iter().enumerate() {
            let name = &written.rule.name;
            if own[..i].iter().any(|other| other.rule.name == *name) {
                let message = format!("two rules are named \"{name}\"");
                let key = format!("{}name", written.key);
                self.problems.push(Problem::new(key, message).hint("rename one of them"));
            }
        }
    }

    /// Reports names and tags that select no rule.
    fn refuse_unknown(&mut self, options: &RulesOptions, known: &[(Rule, bool)]) {
        for (option, words) in [("disable", &options.disable), ("enable", &options.enable)] {
            for word in
                words.iter().filter(|word| !known.iter().any(|(r, _)| r.is_selected_by(word)))
            {
                let message = format!("there is no rule {word:?}");
                self.problems.push(Problem::new(option, message).hint(hint(word, known)));
            }
        }
        for name in
            options.except.keys().filter(|name| !known.iter().any(|(r, _)| r.name == **name))
        {
            let message = format!("there is no rule {name:?}");
            let key = format!("except.{name}");
            self.problems.push(Problem::new(key, message).hint(hint(name, known)));
        }
    }
}

fn hint(word: &str, known: &[(Rule, bool)]) -> String {
    let names = known.iter().map(|(rule, _)| &*rule.name);
    let near = names.clone().find(|name| name.contains(word) || word.contains(name));
    match near.or_else(|| whalewatch_kit::fields::nearest(word, names)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write a rule's name, \"tag:T1059\" for a tag, or \"*\" for all".to_owned(),
    }
}
