use super::*;

/// The line and the phrase of each problem.
fn found(name: &str, text: &str) -> Vec<(usize, String)> {
    let phrase = |what: String| what.split('"').nth(1).unwrap_or(&what).to_owned();
    let problems = problems(name, text).into_iter();
    problems.map(|problem| (problem.line, phrase(problem.what))).collect()
}

fn none(name: &str, text: &str) {
    assert_eq!(found(name, text), [], "{text}");
}

fn one(name: &str, text: &str, line: usize, phrase: &str) {
    assert_eq!(found(name, text), [(line, phrase.to_owned())], "{text}");
}

#[test]
fn phrases_are_found_in_markdown() {
    for (text, phrase) in [
        ("It is told at once.", "told"),
        ("This tells of files.", "tells of"),
        ("A socket is no field.", "is no field"),
        ("A socket *is no* `field`.", "is no `"),
        ("Made anew.", "anew"),
        ("How to Mend it", "mend"),
        ("A queue stands before each handler.", "stands before"),
        ("in a file of its own", "of its own"),
        ("a third party's crate", "third party's"),
        ("killed for want of memory", "for want of"),
        ("That comes to 3.", "comes to"),
        ("then what is gone ends", "what is gone"),
        ("What came in is counted.", "what came in"),
        ("It takes down what it sees.", "takes down"),
        ("It holds up the chain.", "holds up"),
        ("the so many largest", "so many"),
        ("It is taken for a container.", "is taken for"),
        ("Whoever reads it waits.", "whoever"),
    ] {
        one("a.md", text, 1, phrase);
    }
}

#[test]
fn good_english_is_not_reported() {
    for text in [
        "Sources are told apart by name.",
        "There is no field, and there are no others. Why is there no field?",
        "It is no longer there.",
        "Recommend it. It stands for a name. One stands in for another.",
        "It ends of its own accord.",
        "When it comes to cost, measure.",
        "The answer is: no field.",
        "* what it is\n* no field",
        "| is | no field |",
        "Run `what is gone` and [this](told.md).",
        "```console\n# told\n```",
    ] {
        none("a.md", text);
    }
}

#[test]
fn phrases_are_found_across_lines() {
    one("a.md", "\nkilled for\nwant of memory", 2, "for want of");
    one("a.rs", "fn f() {\n    // for\n    // want of memory\n}", 2, "for want of");
    one("a.rs", "const A: &str = \"a \\\n    for want \\\n of\";", 2, "for want of");
    one("a.toml", "a = 1\n# killed for\n# want of", 2, "for want of");
}

#[test]
fn separate_comments_are_not_joined() {
    none("a.rs", "/// for\n\n/// want of");
    none("a.rs", "/// for\n//! want of");
    none("a.rs", "/// for\n///\n/// want of");
    none("a.toml", "a = 1 # for\n# want of");
}

#[test]
fn comments_strings_and_test_names_of_rust_are_read() {
    for text in [
        "/// told",
        "//! told",
        "let a = 1; // told",
        "/* told */",
        "let a = \"it was told\";",
        "let a = r#\"it \"was\" told\"#;",
        "let a = ('\"', \"told\");",
        "let a = ('\\'', \"told\");",
        "fn what_is_told_is_known() {}",
    ] {
        one("a.rs", text, 1, "told");
    }
}

#[test]
fn rust_code_is_not_read() {
    for text in [
        "let told = mend(anew);",
        "fn told<'a>(of: &'a str) -> &'a str { of }",
        "let a = \"{told}\";",
        "/// ```\n/// let told = 1;\n/// ```",
        "/// The field `told`.",
        "let a = '\"'; let told = 1; let b = '\"';",
    ] {
        none("a.rs", text);
    }
}

#[test]
fn code_blocks_of_markdown_are_read_for_comments() {
    one("a.md", "Text.\n\n```rust\nlet a = 1;\n// told\n```\n", 5, "told");
    one("a.md", "Text.\n\n```toml\na = \"told\" # mend\n```\n", 4, "mend");
    one("a.rs.in", "// told", 1, "told");
    none("a.md", "```rust\nlet told = 1;\n```\n");
}

#[test]
fn wide_lines_are_reported() {
    let wide = "word ".repeat(21);
    let wide = wide.trim_end();
    assert_eq!(wide.len(), 104);
    for (name, text) in [
        ("a.md", wide.to_owned()),
        ("a.rs", format!("// {wide}")),
        ("a.rs", format!("const A: &str = \"{wide}\";")),
        ("a.toml", format!("# {wide}")),
    ] {
        assert_eq!(found(name, &text).len(), 1, "{text}");
    }
    for (name, text) in [
        ("a.md", format!("| {wide} |")),
        ("a.md", format!("```\n{wide}\n```")),
        ("a.md", format!("{wide} [a](b)")),
        ("a.md", "x".repeat(120)),
        ("a.rs", format!("const A: &str = r#\"\n{wide}\n\"#;")),
        ("a.toml", format!("a = '{wide}'")),
    ] {
        none(name, &text);
    }
}

#[test]
fn spelling_reads_prose_and_no_code() {
    let text = "/// A word, `code` here.\nfn upto() {\n    bail!(\"no {upto} left\")\n}\n\
                #[cfg(test)]\nconst A: &str = \"fromat = 1\"; // Data.\n";
    let expected = ["a word here ", "", "no left ", "", "", "data "];
    assert_eq!(words("a.rs", text), expected.join("\n"));
    assert_eq!(words("src/tests.rs", "let a = \"fromat = 1\";"), "");
}
