//! The problems of invalid rules.

use std::fs;

use whalewatch_core::Schema;

use super::*;
use crate::Severity;

/// Returns the problems: key, message and hint.
fn wrong(text: &str) -> Vec<(String, String, String)> {
    let problems = Rules::check(&options(text), &[Schema::of::<AnyEvent>()]);
    let parts = |p: whalewatch_core::Problem| (p.key, p.message, p.hint.unwrap_or_default());
    problems.into_iter().map(parts).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_mistake_is_reported_with_its_key_and_a_fix() {
    let rule = |more: &str| format!("pack = false\n[[rules]]\nname = 'a'\n{more}");
    let when = "when = \"kind == 'file.open'\"\n";
    for (text, key, message, hint) in [
        ("pack = false".to_owned(), "", "no rule is enabled", "pack = true"),
        (rule(""), "rules[0].", "the rule has no condition", "when"),
        (rule("when = 'kind = 1'"), "rules[0].when", "unexpected `=`", "`==`"),
        (
            rule("when = \"file.pth == 'x'\""),
            "rules[0].when",
            "no incoming event has a field `file.pth`",
            "file.path",
        ),
        (
            rule("when = \"parent.com == 'x'\""),
            "rules[0].when",
            "no incoming event has a field `parent.com`",
            "parent.comm",
        ),
        (
            rule("when = \"kind == 'file.opn'\""),
            "rules[0].when",
            "no incoming event can meet this",
            "file.open",
        ),
        (
            rule(&format!("{when}description = '{{file.pth}}'")),
            "rules[0].description",
            "has a field `file.pth`",
            "file.path",
        ),
        (rule(&format!("{when}by = ['pid']")), "rules[0].by", "has a field `pid`", "process.pid"),
        (
            rule(&format!("{when}count = 1\nwithin = '1s'")),
            "rules[0].count",
            "from 2 to 10000, not 1",
            "",
        ),
        (rule(&format!("{when}count = 5")), "rules[0].", "`within` is missing", "within"),
        (
            rule(&format!("{when}within = '5s'")),
            "rules[0].within",
            "`within` needs count or steps",
            "",
        ),
        (
            rule(&format!("{when}count = 5\nwithin = '25h'")),
            "rules[0].within",
            "above 0s and at most 24h",
            "",
        ),
        (
            rule(&format!("{when}distinct = 'file.path'")),
            "rules[0].distinct",
            "`distinct` needs count",
            "",
        ),
        (
            rule(&format!("{when}count = 2\nwithin = '1s'\ndistinct = 'file.pth'")),
            "rules[0].distinct",
            "`file.pth`",
            "file.path",
        ),
        (rule(&format!("{when}learn = '1h'")), "rules[0].learn", "`learn` needs first", ""),
        (
            rule(&format!("{when}first = true\ncount = 2\nwithin = '1s'")),
            "rules[0].",
            "cannot be combined",
            "two rules",
        ),
        (rule(&format!("{when}tags = ['']")), "rules[0].tags", "\"\" is not a tag", "T1059"),
        (
            rule(&format!("within = '1s'\nsteps = [{{ {} }}]", when.trim())),
            "rules[0].steps",
            "2 to 8 steps, not 1",
            "`when`",
        ),
        (
            rule(
                "within = '1s'\nsteps = [{ name = 'x', when = 'x.file.path == y.file.path' }, \
                 { name = 'y', when = 'true' }]",
            ),
            "rules[0].steps[0].when",
            "the step \"x\" is not an earlier step",
            "",
        ),
        (
            rule(
                "within = '1s'\nsteps = [{ name = 'x', when = 'true' }, \
                 { when = \"x.file.pth == 'a'\" }]",
            ),
            "rules[0].steps[1].when",
            "no incoming event has a field `x.file.pth`",
            "file.path",
        ),
        (
            rule("within = '1s'\nsteps = [{ name = 'process', when = 'true' }, { when = 'true' }]"),
            "rules[0].steps[0].name",
            "is reserved for fields of events",
            "another name",
        ),
        (
            rule(
                "within = '1s'\nsteps = [{ name = 'x', when = 'true' }, \
                 { name = 'x', when = 'true' }]",
            ),
            "rules[0].steps[1].name",
            "two steps are named \"x\"",
            "",
        ),
        (
            rule(&format!("{when}[[rules]]\nname = 'a'\n{when}")),
            "rules[1].name",
            "two rules are named \"a\"",
            "rename one",
        ),
        (
            format!("pack = false\n[[rules]]\nname = 'a b'\n{when}"),
            "rules[0].name",
            "\"a b\" is not a valid rule name",
            "letters",
        ),
        (
            "disable = ['shell-from-servr']".to_owned(),
            "disable",
            "there is no rule",
            "shell-from-server",
        ),
        ("enable = ['tag:T1']".to_owned(), "enable", "there is no rule", "tag:"),
        (
            "[except]\nmicroscope = 'true'".to_owned(),
            "except.microscope",
            "there is no rule",
            "name",
        ),
        (
            "[except]\nreverse-shell = 'process.pd == 1'".to_owned(),
            "except.reverse-shell",
            "no incoming event has a field `process.pd`",
            "process.pid",
        ),
        (
            "max_keys = 0".to_owned(),
            "max_keys",
            "0 is out of range: expected 1 to 1000000",
            "write for example 1",
        ),
        ("order = '1h'".to_owned(), "order", "expected at most 1m", "delays alerts"),
    ] {
        let found = wrong(&text);
        let matching =
            found.iter().any(|(k, m, h)| k == key && m.contains(message) && h.contains(hint));
        assert!(matching, "{text}\n{found:#?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let found = wrong(
        "max_keys = 0\n[[rules]]\nname = 'a'\nwhen = 'x +'\n\
         [[rules]]\nname = '!'\nwhen = 'true'\ncount = 0",
    );
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn rules_are_disabled_enabled_and_replaced() {
    let names = |text: &str| {
        let selection = crate::select::select(&options(text), None, &[]);
        assert_eq!(selection.problems, []);
        selection.rules.into_iter().map(|rule| rule.name).collect::<Vec<_>>()
    };
    let all = names("");
    assert!(all.len() >= 15);
    assert_eq!(names("disable = ['reverse-shell']").len(), all.len() - 1);
    assert_eq!(names("disable = ['*']\nenable = ['reverse-shell']"), ["reverse-shell"]);
    let escapes = names("disable = ['*']\nenable = ['tag:T1611']");
    assert!(escapes.contains(&"host-namespace-entered".to_owned()) && escapes.len() < all.len());
    let own = "[[rules]]\nname = 'reverse-shell'\nseverity = 'info'\nwhen = 'true'";
    let selection = crate::select::select(&options(own), None, &[]);
    let own: Vec<_> = selection.rules.iter().filter(|rule| rule.name == "reverse-shell").collect();
    assert_eq!((own.len(), own[0].severity), (1, Severity::Info));
    assert_eq!(selection.rules.len(), all.len());
    let off = "pack = false\n[[rules]]\nname = 'a'\nwhen = 'true'\nenabled = false\n\
               [[rules]]\nname = 'b'\nwhen = 'true'";
    assert_eq!(names(off), ["b"]);
    assert_eq!(names(&format!("enable = ['a']\n{off}")), ["a", "b"]);
}

/// Builds the handler with a rule file, or returns why that fails.
fn with_file(text: &str) -> Result<Bench<Rules>, String> {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::write(dir.path().join("own.toml"), text).expect("file is written");
    fs::write(dir.path().join("README.md"), "no rules").expect("file is written");
    let options = RulesOptions { files: vec![dir.path().to_owned()], ..only("") };
    Bench::new::<AnyEvent>(&options).map_err(|problems| {
        let text: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
        text.join("\n").replace(&dir.path().display().to_string(), "DIR")
    })
}

#[test]
fn files_of_rules_are_read_when_the_run_begins() {
    let mut bench = with_file("[[rules]]\nname = 'a'\nwhen = \"kind == 'file.open'\"")
        .expect("valid rule file");
    deliver(&mut bench, &lines(r#"{ kind = "file.open", pid = 5 }"#));
    bench.end().expect("handler ends");
    assert_eq!(alerts(&bench).len(), 1);
}

#[test]
fn mistakes_in_files_are_reported_with_the_file() {
    for (text, want) in [
        ("[[rules]]\nname = 'a'\nwen = 'true'", "DIR/own.toml:3:1: unknown field \"wen\""),
        ("[[rules]\n", "DIR/own.toml:1:"),
        ("", "DIR/own.toml contains no rules"),
        (
            "[[rules]]\nname = 'a'\nwhen = \"file.pth == 'x'\"",
            "DIR/own.toml: rule \"a\": when at character 1: no incoming event has a field \
             `file.pth` (did you mean `file.path`?)",
        ),
    ] {
        let error = with_file(text).err().expect("file is refused");
        assert!(error.contains(want), "{text}: {error}");
    }
    let missing = RulesOptions { files: vec!["/nonexistent/rules.toml".into()], ..only("") };
    assert_eq!(Rules::check(&missing, &[Schema::of::<AnyEvent>()]), [], "a check reads no files");
    let Err(problems) = Bench::<Rules>::new::<AnyEvent>(&missing) else {
        panic!("it cannot be built")
    };
    assert!(problems[0].message.contains("/nonexistent/rules.toml: No such file"), "{problems:?}");
}
