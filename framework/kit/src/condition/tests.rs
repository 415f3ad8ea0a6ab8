//! Tests of methods, of extra fields and of conditions simplified for one kind.

use proptest::prelude::*;
use whalewatch_core::{Accessor, Batch, EventRef, Texts, Type, Value};

use super::*;
use whalewatch_testing::{Odd, Ran, example};

/// An event with two extra fields.
struct More<'a>(EventRef<'a>);

impl Subject for More<'_> {
    fn value(&self, accessor: Accessor) -> Value<'_> {
        match accessor {
            Accessor::Extra(0) => Value::Text(b"nginx"),
            Accessor::Extra(1) => Value::Texts(Texts(b"systemd\0nginx\0")),
            other => EventRef::value(&self.0, other),
        }
    }
}

fn extra() -> [Extra; 2] {
    [
        Extra { name: "parent.comm".into(), ty: Type::Text },
        Extra { name: "ancestors.comm".into(), ty: Type::Texts },
    ]
}

fn schemas() -> [Schema; 2] {
    [Schema::of::<Ran>(), Schema::of::<Odd>()]
}

fn ran() -> Ran {
    Ran { args: Some(b"sh\0-ic\0d\xc3\xa9j\xc3\xa0\0".to_vec()), ..example() }
}

fn holds(text: &str) -> bool {
    let condition = Condition::parse("when", text).expect("a condition");
    assert_eq!(condition.check_with(&schemas(), &extra()), [], "{text}");
    let batch = Batch::new("t".into(), vec![ran()]);
    let test = condition.compile_with(&batch.schema(), None, &extra()).expect("checked");
    let event = batch.get(0).expect("an event");
    let holds = test.holds(More(event));
    assert_eq!(test.for_kind("process.exec").holds(More(event)), holds, "{text}, for its kind");
    holds
}

fn problems(text: &str) -> Vec<Problem> {
    match Condition::parse("when", text) {
        Ok(condition) => condition.check_with(&schemas(), &extra()),
        Err(problem) => vec![problem],
    }
}

#[test]
fn methods_mean_what_cel_says() {
    for (text, want) in [
        ("process.executable.path.matches('^/bin/(true|false)$')", true),
        ("process.executable.path.matches('TRUE')", false),
        ("process.executable.path.matches('(?i)TRUE')", true),
        (r"process.executable.path.matches(r'\d')", false),
        ("size(process.command_args) == 3", true),
        ("process.command_args.size() > 3", false),
        ("size('déjà') == 4", true),
        ("size(process.comm) == 4", true),
        ("size([1, 2]) == 2", true),
        ("size(list) == 0", false), // These events have none.
        ("size(list) != 0", true),
        ("size(list) == null", true),
        ("size(process.comm) == null", false),
        ("process.command_args.exists(a, a.startsWith('-i'))", true),
        ("process.command_args.exists(a, a == process.comm)", false),
        ("process.command_args.exists(a, a in ['x', 'sh'])", true),
        ("process.command_args.exists(a, a.matches('^-[a-z]*c'))", true),
        ("process.command_args.exists(a, size(a) == 4)", true),
        ("process.command_args.all(a, size(a) < 5)", true),
        ("process.command_args.all(a, a != 'sh')", false),
        ("list.exists(a, true) || list.all(a, true)", false),
        ("['/sbin/', '/bin/'].exists(p, process.executable.path.startsWith(p))", true),
        ("['/sbin/', '/bin/'].all(p, process.executable.path.startsWith(p))", false),
        ("['^/bin/'].exists(p, process.executable.path.matches(p))", true),
        ("[1, process.pid].exists(n, n == 19920)", true),
        ("[].exists(x, true)", false),
        ("[].all(x, false)", true),
        // Nested: the inner name hides the outer one.
        ("process.command_args.exists(a, ['-', 'x'].exists(p, a.startsWith(p)))", true),
        (
            "process.command_args.exists(a, ancestors.comm.exists(b, a == 'sh' && b == 'nginx'))",
            true,
        ),
        ("process.command_args.exists(a, ancestors.comm.exists(a, a == 'sh'))", false),
        (
            "['q'].exists(p, process.command_args.exists(a, \
                 ancestors.comm.all(b, a != p && b != a)))",
            true,
        ),
        // Extra fields.
        ("parent.comm == 'nginx' && has(parent)", true),
        ("'systemd' in ancestors.comm", true),
        ("parent == null", false),
    ] {
        assert_eq!(holds(text), want, "{text}");
    }
}

#[test]
fn mistakes_in_methods_are_reported_with_their_offset() {
    for (text, at, message, hint) in [
        (
            "process.comm.matches('a(')",
            21,
            "invalid regular expression `a(`: unclosed group",
            "r'…'",
        ),
        ("process.comm.matches('(a{999}){999}')", 21, "it takes more than 1024 KiB", ""),
        (
            "process.comm.matches(process.comm)",
            13,
            "takes one regular expression, as a literal string",
            "file.path",
        ),
        ("process.comm.matches('a', 'b')", 13, "takes one regular expression", ""),
        (
            "process.command_args.matches('a')",
            21,
            "is a method of strings, not of",
            "exists(e, e.matches",
        ),
        (
            "process.pid.size() == 1",
            12,
            "`size` is a method of strings and lists, not of `process.pid`",
            "",
        ),
        ("process.comm.size(1) == 1", 13, "`size` takes no arguments", ""),
        ("size(process.comm)", 0, "a number is not a condition", "compare it"),
        ("process.command_args.exists(a)", 21, "takes a name and a condition", "exists(a, "),
        ("process.command_args.all(a.b, true)", 21, "takes a name and a condition", "all(a, "),
        ("process.command_args.exists(a, a.b == 'x')", 31, "`a` is an element of a list", ""),
        ("process.command_args.exists(a, a == 1)", 31, "cannot compare", ""),
        ("process.comm.exists(a, a == 'x')", 13, "is a method of lists, not of `process.comm`", ""),
        ("['a', 'b'].exists(p, p == 1)", 21, "cannot compare", ""),
        ("list.exists(a, b == 'x')", 15, "no incoming event has a field `b`", "'b'"),
        ("parent.com == 'x'", 0, "no incoming event has a field `parent.com`", "parent.comm"),
        ("process.comm.matchs('x')", 13, "there is no method `matchs`", "`matches`"),
    ] {
        let problems = problems(text);
        let [problem] = &problems[..] else { panic!("{text}: {problems:#?}") };
        assert!(problem.message.contains(message), "{text}: {problem:?}");
        assert_eq!(problem.offset, Some(at), "{text}: {problem:?}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{text}: {problem:?}");
    }
}

#[test]
fn nested_lists_are_bounded() {
    let mut text = "process.pid == 0".to_owned();
    for level in 0..20 {
        text = format!("[1, 2, 3, 4].exists(x{level}, {text})");
    }
    let problems = problems(&text);
    assert!(problems[0].message.contains("more than 10000 conditions"), "{problems:?}");
}

#[test]
fn kind_decides_the_parts_that_depend_on_it() {
    let never = |text: &str, kind: &str| {
        let condition = Condition::parse("when", text).expect("a condition");
        let test = condition.compile(&Schema::of::<Ran>(), None).expect("checked");
        test.for_kind(kind).never()
    };
    for text in [
        "kind == 'process.exec' && process.pid == 1",
        "kind in ['process.exec', 'x'] && process.pid == 1",
        "!(kind != 'process.exec') && process.pid == 1",
        "kind.startsWith('process.ex') && !kind.endsWith('t') && process.pid == 1",
        "process.pid == 1 && (kind == 'process.exec' || list == 'x')",
        "kind.matches('exec$') && process.pid == 1",
    ] {
        assert!(!never(text, "process.exec"), "{text}");
        assert!(never(text, "process.exit"), "{text}");
    }
    assert!(!never("process.pid == 1", "process.exit"));
    assert!(never("file.path == 'x'", "process.exit"), "no such field in these events");
}

#[test]
fn names_are_listed_in_order() {
    let text = "a.b == 1 && !(c in [d.e, 'x']) && has(f) && g.exists(h, h == i) && size(j) == 0";
    let condition = Condition::parse("when", text).expect("a condition");
    assert_eq!(condition.names(), ["a.b", "c", "d.e", "f", "g", "h", "h", "i", "j"]);
}

proptest! {
    #[test]
    fn condition_for_one_kind_means_the_same(
        parts in prop::collection::vec(prop::sample::select(vec![
            "kind == 'process.exec'", "kind == 'odd'", "process.pid == 19920",
            "process.comm == 'x'", "flag", "true", "null == kind", "&&", "||", "!", "(", ")",
            "process.command_args.exists(a,", "kind in ['process.exec']", "a == kind",
        ]), 0..12),
    ) {
        let text = parts.join(" ");
        if let Ok(condition) = Condition::parse("when", &text) {
            let batch = Batch::new("t".into(), vec![ran()]);
            if let Ok(test) = condition.compile(&batch.schema(), None) {
                let event = batch.get(0).expect("an event");
                prop_assert_eq!(test.holds(event), test.for_kind("process.exec").holds(event));
            }
        }
    }
}
