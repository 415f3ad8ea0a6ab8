//! Every mistake a configuration can have: what is said of it, and where.

mod common;

use whalewatch_engine::config;

/// What is said of a text, without the pictures: line:column, message, hint.
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
fn a_valid_configuration_has_no_mistakes() {
    check(&format!("[handlers.out]\ntype = 'collect'\nnote = 'n'\n{CHAIN}"), &[]);
}

#[test]
fn broken_syntax() {
    check(
        "[[chains]\nfrom = [",
        &["1:10: unclosed array table, expected `]`", "2:9: unclosed array, expected `]`"],
    );
}

#[test]
fn an_unknown_table() {
    check(
        &format!(
            "[handler.out]\ntype = 'collect'\n[handlers.out]\ntype = 'collect'\nnote = 'n'\n{CHAIN}"
        ),
        &["1:2: unknown table or key \"handler\" (did you mean \"handlers\"?)"],
    );
}

#[test]
fn an_unknown_type() {
    check(
        &format!("[handlers.out]\ntype = 'colect'\n{CHAIN}"),
        &["2:8: unknown type of handler \"colect\" (did you mean \"collect\"?)"],
    );
}

#[test]
fn a_missing_type() {
    check(
        &format!("[handlers.out]\nnote = 'n'\n{CHAIN}"),
        &[
            "1:11: handler \"out\" has no type (add type = \"…\"; known: alarm, always, block, closes, collect, even, later, manager, unlucky)",
        ],
    );
}

#[test]
fn an_unknown_option_and_a_missing_one() {
    check(
        &format!("[handlers.out]\ntype = 'collect'\nnot = 'n'\n{CHAIN}"),
        &[
            "1:11: handler \"out\": option \"note\" is missing (note (string): Where to note.)",
            "3:1: handler \"out\", not: unknown option \"not\" (did you mean \"note\"?)",
        ],
    );
}

#[test]
fn an_option_of_the_wrong_type() {
    check(
        &format!("[handlers.out]\ntype = 'collect'\nnote = 5\n{CHAIN}"),
        &["3:8: handler \"out\", note: invalid type: integer \"5\", expected a string"],
    );
}

#[test]
fn two_wrong_options_of_one_part() {
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
fn an_option_for_a_part_that_has_none() {
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
fn no_chain() {
    check(
        "",
        &[
            "1:1: there is no chain (add [[chains]] and below it from = [\"process\"] and through = [\"container\", \"stdout\"])",
        ],
    );
}

#[test]
fn a_chain_without_its_lists() {
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
fn lists_that_are_no_lists_of_names() {
    check(
        "[[chains]]\nfrom = 'ticks'\nthrough = [1]",
        &["2:8: \"from\" has to be a list of names", "3:11: \"through\" has to be a list of names"],
    );
}

#[test]
fn unknown_names_in_a_chain() {
    check(
        "[[chains]]\nfrom = ['tics']\nthrough = ['evn', 'closes']",
        &[
            "2:9: no tracker is called \"tics\" (did you mean \"ticks\"?)",
            "3:12: no handler is called \"evn\" (did you mean \"even\"?)",
        ],
    );
}

#[test]
fn a_part_twice_in_a_chain() {
    check(
        "[[chains]]\nfrom = ['ticks', 'ticks']\nthrough = ['even', 'even', 'closes']",
        &[
            "2:18: tracker \"ticks\" stands twice in this chain",
            "3:20: handler \"even\" stands twice in this chain",
        ],
    );
}

#[test]
fn a_part_that_no_chain_uses() {
    check(
        "[trackers.t]\ntype = 'ticks'\n[handlers.h]\ntype = 'even'\n[[chains]]\nfrom = ['ticks']\nthrough = ['closes']",
        &[
            "1:11: tracker \"t\" is used by no chain (name it in a chain's \"from\", or take it out)",
            "3:11: handler \"h\" is used by no chain (name it in a chain's \"through\", or take it out)",
        ],
    );
}

#[test]
fn a_handler_that_cannot_take_what_flows_into_it() {
    check(
        "[[chains]]\nfrom = ['ticks', 'tacks']\nthrough = ['even', 'closes']",
        &["3:12: handler \"even\" cannot take tack events (it takes tick events only)"],
    );
}

#[test]
fn an_output_in_the_middle_and_no_output_at_the_end() {
    check(
        "[[chains]]\nfrom = ['ticks']\nthrough = ['closes', 'even']",
        &[
            "3:12: handler \"closes\" passes nothing on, so nothing can stand behind it (move it to the end of the chain)",
            "3:22: the chain ends with \"even\", which only passes events on (end it with one of: block, closes, collect)",
        ],
    );
}

#[test]
fn a_shared_handler_declared_twice() {
    check(
        "[handlers.manager]\ntype = 'manager'\nnote = 'a'\n[manager]\nnote = 'b'\n[[chains]]\nfrom = ['ticks']\nthrough = ['manager', 'closes']",
        &[
            "4:2: handler \"manager\" is declared twice (use either [manager] or [handlers.manager])",
        ],
    );
}

#[test]
fn two_chains_of_one_name() {
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
fn five_mistakes_are_told_at_once() {
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
            "3:8: unknown type of handler \"colect\" (did you mean \"collect\"?)",
            "6:1: handler \"even\", odd: unknown option \"odd\" (it has no options)",
            "7:2: unknown table or key \"container\" (known: trackers, handlers, chains, tests, manager)",
            "10:9: no tracker is called \"tick\" (did you mean \"ticks\"?)",
            "12:1: unknown key \"then\" in a chain (known: from, through, name)",
        ],
    );
}

#[test]
fn names_of_types_are_unique_and_plain() {
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
fn the_graph_shows_chains_and_needs() {
    let text = "[manager]\nnote = 'x'\n[[chains]]\nname = 'c'\nfrom = ['open']\nthrough = ['manager', 'closes']";
    let plan = config::validate(&common::registry(), "t", text).unwrap_or_else(|e| panic!("{e}"));
    let graph = plan.graph();
    let nodes: Vec<&str> = graph.nodes.iter().map(|n| &*n.label).collect();
    assert_eq!(nodes, ["open", "ticks", "manager", "closes"]);
    let edges: Vec<String> =
        graph.edges.iter().map(|e| format!("{}-{}>{}", e.from, e.label, e.to)).collect();
    assert_eq!(edges, ["t0-c>h0", "h0-c>h1c0", "t1-needs>h0"]);
}
