//! The mistakes that a configuration can have: their messages and places.

mod common;

use whalewatch_engine::config;

/// Returns the mistakes of a text as `line:column: message (hint)`.
fn mistakes(text: &str) -> Vec<String> {
    match config::validate(&common::registry(), "test.toml", text) {
        Ok(_) => Vec::new(),
        Err(found) => found
            .iter()
            .map(|(line, column, d)| {
                let hint = d.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
                format!("{line}:{column}: {}{hint}", d.message)
            })
            .collect(),
    }
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(mistakes(text), expected, "{text}");
}

const CHAIN: &str = "
[[chains]]
from = ['ticks']
through = ['even', 'out']
";

#[test]
fn valid_configuration_has_no_mistakes() {
    check(&format!("[handlers.out]\ntype = 'collect'\nnote = 'n'\n{CHAIN}"), &[]);
}

#[test]
fn syntax_errors_are_reported() {
    check(
        "[[chains]\nfrom = [",
        &["1:10: unclosed array table, expected `]`", "2:9: unclosed array, expected `]`"],
    );
}

#[test]
fn unknown_table_is_refused() {
    check(
        &format!(
            "[handler.out]\ntype = 'collect'\n[handlers.out]\ntype = 'collect'\nnote = 'n'\n{CHAIN}"
        ),
        &["1:2: unknown table or key \"handler\" (did you mean \"handlers\"?)"],
    );
}

#[test]
fn absent_handler_gets_its_remedy_as_hint() {
    let mut registry = common::registry();
    registry.absent_handler("colect", "build with it");
    let hints = |text: &str| -> Vec<Option<String>> {
        let found = config::validate(&registry, "test.toml", text).err().expect("a mistake");
        found.iter().map(|(_, _, diagnostic)| diagnostic.hint.clone()).collect()
    };
    let declared = format!("[handlers.out]\ntype = 'colect'\n{CHAIN}");
    let named = "[[chains]]\nfrom = ['ticks']\nthrough = ['colect']\n";
    for text in [declared.as_str(), named] {
        assert!(hints(text).contains(&Some("build with it".to_owned())), "{text}");
    }
    let tracker = "[trackers.in]\ntype = 'colect'\n";
    assert!(!hints(tracker).contains(&Some("build with it".to_owned())), "only for handlers");
}

#[test]
fn unknown_type_is_refused() {
    check(
        &format!("[handlers.out]\ntype = 'colect'\n{CHAIN}"),
        &["2:8: unknown handler type \"colect\" (did you mean \"collect\"?)"],
    );
}

#[test]
fn missing_type_is_refused() {
    check(
        &format!("[handlers.out]\nnote = 'n'\n{CHAIN}"),
        &["1:11: handler \"out\" has no type (add type = \"…\"; \
             known: alarm, always, block, closes, collect, even, later, manager, unlucky)"],
    );
}

#[test]
fn unknown_and_missing_options_are_refused() {
    check(
        &format!("[handlers.out]\ntype = 'collect'\nnot = 'n'\n{CHAIN}"),
        &[
            "1:11: handler \"out\": option \"note\" is missing (note (string): Where to note.)",
            "3:1: handler \"out\", not: unknown option \"not\" (did you mean \"note\"?)",
        ],
    );
}

#[test]
fn option_of_the_wrong_type_is_refused() {
    check(
        &format!("[handlers.out]\ntype = 'collect'\nnote = 5\n{CHAIN}"),
        &["3:8: handler \"out\", note: invalid type: integer \"5\", expected a string"],
    );
}

#[test]
fn all_wrong_options_of_a_part_are_reported() {
    check(
        "
[handlers.u]
type = 'unlucky'
fails = 1
holds = 'no'
[handlers.out]
type = 'collect'
note = 'n'
[[chains]]
from = ['ticks']
through = ['u', 'out']
",
        &[
            "4:9: handler \"u\", fails: invalid type: integer \"1\", expected a boolean",
            "5:9: handler \"u\", holds: invalid type: string \"no\", expected a boolean",
        ],
    );
}

#[test]
fn option_of_a_part_without_options_is_refused() {
    check(
        "
[trackers.t]
type = 'ticks'
rate = 5
[[chains]]
from = ['t']
through = ['closes']
",
        &["4:1: tracker \"t\", rate: unknown option \"rate\" (it has no options)"],
    );
}

#[test]
fn missing_chain_is_refused() {
    check(
        "",
        &["1:1: no chain is defined (add [[chains]], and below it from = [\"process\"] \
             and through = [\"container\", \"stdout\"])"],
    );
}

#[test]
fn chain_without_its_lists_is_refused() {
    check(
        "[[chains]]\nfrom = []\nto = ['x']",
        &[
            "1:1: a chain needs \"through\", a list of names",
            "2:8: \"from\" is empty: name at least one",
            "3:1: unknown key \"to\" in a chain (known: from, through, name)",
        ],
    );
}

#[test]
fn chain_lists_must_be_lists_of_names() {
    check(
        "[[chains]]\nfrom = 'ticks'\nthrough = [1]",
        &["2:8: \"from\" must be a list of names", "3:11: \"through\" must be a list of names"],
    );
}

#[test]
fn unknown_names_in_a_chain_are_refused() {
    check(
        "[[chains]]\nfrom = ['tics']\nthrough = ['evn', 'closes']",
        &[
            "2:9: no tracker is called \"tics\" (did you mean \"ticks\"?)",
            "3:12: no handler is called \"evn\" (did you mean \"even\"?)",
        ],
    );
}

#[test]
fn part_that_is_twice_in_a_chain_is_refused() {
    check(
        "[[chains]]\nfrom = ['ticks', 'ticks']\nthrough = ['even', 'even', 'closes']",
        &[
            "2:18: tracker \"ticks\" is in this chain already",
            "3:20: handler \"even\" is in this chain already",
        ],
    );
}

#[test]
fn unused_part_is_refused() {
    check(
        "[trackers.t]\ntype = 'ticks'\n[handlers.h]\ntype = 'even'\n\
         [[chains]]\nfrom = ['ticks']\nthrough = ['closes']",
        &[
            "1:11: tracker \"t\" is not used by any chain \
             (name it in a chain's \"from\", or remove it)",
            "3:11: handler \"h\" is not used by any chain \
             (name it in a chain's \"through\", or remove it)",
        ],
    );
}

#[test]
fn events_that_a_handler_does_not_accept_are_refused() {
    check(
        "[[chains]]\nfrom = ['ticks', 'tacks']\nthrough = ['even', 'closes']",
        &["3:12: handler \"even\" does not accept tack events (it accepts only tick events)"],
    );
}

#[test]
fn outputs_must_be_at_the_end_of_a_chain() {
    check(
        "[[chains]]\nfrom = ['ticks']\nthrough = ['closes', 'even']",
        &[
            "3:12: handler \"closes\" does not pass events on, so no handler can follow it \
             (move it to the end of the chain)",
            "3:22: the chain ends with \"even\", which is not an output \
             (end it with one of: block, closes, collect)",
        ],
    );
}

#[test]
fn shared_handler_declared_twice_is_refused() {
    check(
        "[handlers.manager]\ntype = 'manager'\nnote = 'a'\n[manager]\nnote = 'b'\n\
         [[chains]]\nfrom = ['ticks']\nthrough = ['manager', 'closes']",
        &["4:2: handler \"manager\" is declared twice \
             (use either [manager] or [handlers.manager])"],
    );
}

#[test]
fn chains_of_the_same_name_are_refused() {
    check(
        "
[[chains]]
name = 'a'
from = ['ticks']
through = ['closes']
[[chains]]
name = 'a'
from = ['ticks']
through = ['closes']
",
        &["6:1: two chains are called \"a\""],
    );
}

#[test]
fn mistakes_in_tests_are_reported() {
    let chain = "[[chains]]\nfrom = ['ticks']\nthrough = ['closes']\n";
    check(&format!("{chain}[tests]"), &["4:1: tests must be a list of tables: write [[tests]]"]);
    let test = |rest: &str| format!("[[tests]]\nname = 'a'\n{rest}\n");
    let tests = [
        test("recording = 'r'\nchain = 'x'"),
        test("recording = 'r'"),
        test("recordng = 'r'"),
        String::from("[[tests]]\nrecording = 5"),
    ];
    check(
        &format!("{chain}{}", tests.concat()),
        &[
            "4:1: test \"a\": no chain is called \"x\" (did you mean \"1\"?)",
            "8:1: two tests are called \"a\"",
            "11:1: test \"a\": option \"recording\" is missing (recording (string): The recording \
             to replay, made by `whalewatch record`: a path relative to the folder of the \
             configuration.)",
            "13:1: test \"a\", recordng: unknown option \"recordng\" (did you mean \"recording\"?)",
            "14:1: test \"4\": option \"name\" is missing (name (string): Name of the test.)",
            "15:13: test \"4\", recording: invalid type: integer \"5\", expected a string",
        ],
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "
[handlers.out]
type = 'colect'
[handlers.even]
type = 'even'
odd = true
[container]
hold = 'x'
[[chains]]
from = ['tick']
through = ['even', 'out']
then = 'stop'
";
    check(
        text,
        &[
            "3:8: unknown handler type \"colect\" (did you mean \"collect\"?)",
            "6:1: handler \"even\", odd: unknown option \"odd\" (it has no options)",
            "7:2: unknown table or key \"container\" \
             (known: trackers, handlers, chains, tests, manager)",
            "10:9: no tracker is called \"tick\" (did you mean \"ticks\"?)",
            "12:1: unknown key \"then\" in a chain (known: from, through, name)",
        ],
    );
}

#[test]
fn type_names_must_be_unique_and_valid() {
    let error = |name: &str| match common::registry().handler::<common::Even>(name) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(
        error("even"),
        "the handler type \"even\" is registered twice: give one of them another name"
    );
    assert_eq!(error("even-2"), "");
    assert!(error("Even").starts_with("\"Even\" cannot name a handler type"), "{}", error("Even"));
    assert!(error("chains").starts_with("\"chains\" cannot name"), "{}", error("chains"));
}

#[test]
fn graph_has_chains_and_needs() {
    let text = "[manager]\nnote = 'x'\n\
                [[chains]]\nname = 'c'\nfrom = ['open']\nthrough = ['manager', 'closes']";
    let plan = config::validate(&common::registry(), "t", text).unwrap_or_else(|e| panic!("{e}"));
    let graph = plan.graph();
    let nodes: Vec<&str> = graph.nodes.iter().map(|n| &*n.label).collect();
    assert_eq!(nodes, ["open", "ticks", "manager", "closes"]);
    let edges: Vec<String> =
        graph.edges.iter().map(|e| format!("{}-{}>{}", e.from, e.label, e.to)).collect();
    assert_eq!(edges, ["t0-c>h0", "h0-c>h1c0", "t1-needs>h0"]);
}
