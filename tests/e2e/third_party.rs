//! Third-party handlers: one from `whalewatch new handler`, and the one in `examples/geo-handler`.
//! Both are crates outside the workspace, which these tests build and run as programs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{cargo, environment, wait};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").into()
}

/// Runs cargo in a crate outside the workspace, with the workspace's build artifacts. Returns its
/// output.
#[track_caller]
fn run_cargo(dir: &Path, args: &[&str]) -> String {
    let mut command = cargo::cargo(dir, args);
    command.env("CARGO_TARGET_DIR", target());
    let done = command.output().expect("cargo can be started");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(done.status.success(), "cargo {args:?}: {said}");
    said
}

/// Returns cargo's target folder, which this test's program is in.
fn target() -> PathBuf {
    let here = std::env::current_exe().expect("this program has a path");
    here.ancestors().nth(3).expect("target/debug/deps/e2e").to_owned()
}

/// Runs a program to its end. Returns whether it succeeded, and its two outputs.
#[track_caller]
fn run(program: &Path, args: &[&str]) -> (bool, String, String) {
    let done = Command::new(program).args(args).output().expect("the program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn a_new_handler_builds_and_works_in_trace() {
    let dir = environment::scratch("new-handler");
    let made = dir.join("whalewatch-once");
    let (done, said, error) = run(
        &environment::program(),
        &[
            "new",
            "handler",
            "once",
            "--path",
            made.to_str().expect("a UTF-8 path"),
            "--whalewatch",
            root().to_str().expect("a UTF-8 path"),
        ],
    );
    assert!(done, "{error}");
    assert!(said.contains("trace --through once"), "prints the next commands: {said}");

    // With the default settings: below this repository, its own would apply.
    run_cargo(&made, &["fmt", "--check", "--", "--config", "use_small_heuristics=Default"]);
    for more in [&["--no-default-features"][..], &[]] {
        let said = run_cargo(&made, &[&["test", "--offline"], more].concat());
        assert!(said.contains("3 passed; 0 failed"), "{said}");
    }
    run_cargo(&made, &["build", "--offline"]);
    let program = target().join("debug/whalewatch-once");

    let chain = made.join("once.toml");
    let chain = chain.to_str().expect("a UTF-8 path");
    let (done, _, error) = run(&program, &["check", chain]);
    assert!(done, "{error}");
    let (_, list, _) = run(&program, &["list", "handlers"]);
    assert!(list.contains("once: passes on the first events"), "{list}");

    let socket = format!("unix://{}", environment::docker_socket().display());
    let mut trace = vec!["trace", "--through", "once", "--format", "json", "--endpoint", &socket];
    trace.extend(["--when", "once.number == 1 && process.comm == 'ww-once'", "--print-config"]);
    let (done, config, error) = run(&program, &trace);
    assert!(done, "{error}");
    let mut tracer = Tracer::start(&program, &dir, &config);
    // A name that nothing else on the machine has, in three processes.
    let named = dir.join("ww-once");
    fs::copy("/bin/true", &named).expect("a program can be copied");
    for _ in 0..3 {
        assert!(Command::new(&named).status().expect("it starts").success());
    }
    let number = tracer.wait_for("the new handler's field is seen", |events| {
        events.first().map(|event| event.0["once"]["number"].clone())
    });
    assert_eq!(number, 1);
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert_eq!(finished.events.len(), 1, "only the first passes: {:?}", finished.events);
    assert!(finished.totals.handler("once", "filtered") >= 2);
}

/// Connects to an address of this host, both ends to their end.
fn connect(to: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((to, 0)).expect("every address of 127.0.0.0/8 is ours");
    let mut stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (mut accepted, _) = listener.accept().expect("a connection");
    stream.write_all(b"x").expect("it is taken");
    accepted.read_exact(&mut [0]).expect("it came");
    listener.local_addr().expect("bound").port()
}

/// The connection that we asked for to a port.
fn connected(events: &[Event], port: u16) -> Option<&Value> {
    let ours = |event: &&Event| {
        event.kind() == "network.connect"
            && event.0["process"]["pid"] == std::process::id()
            && event.0["network"]["peer"]["port"] == port
    };
    events.iter().find(ours).map(|event| &event.0)
}

fn geo_program() -> PathBuf {
    run_cargo(&root().join("examples/geo-handler"), &["build", "--locked"]);
    target().join("debug/whalewatch-geo")
}

#[test]
fn a_third_party_handler_locates_connections() {
    let program = geo_program();
    let dir = environment::scratch("geo");
    let table = dir.join("table.csv");
    let lines = "127.7.0.0/16,XA,64496,Example Carrier\n127.7.8.0/24,XB,64497,Branch, two\n";
    fs::write(&table, lines).expect("the scratch folder can be written to");
    let config = format!(
        r#"[container]
runtime = "none"

[handlers.places]
type = "geo"
table = "{}"

[handlers.far]
type = "filter"
when = "geo.as.number in [64496, 64497] || kind == 'network.connect' && geo == null"

[handlers.out]
type = "stdout"

[[chains]]
from = ["network", "process"]
through = ["container", "places", "far", "out"]
"#,
        table.display()
    );
    let mut tracer = Tracer::start(&program, &dir, &config);
    let [near, far, nowhere] = [[127, 7, 1, 2], [127, 7, 8, 9], [127, 9, 0, 1]].map(Ipv4Addr::from);
    let [near, far, nowhere] = [near, far, nowhere].map(connect);
    tracer.wait_for("all three are reported", |events| {
        wait::when([near, far, nowhere].iter().all(|port| connected(events, *port).is_some()))
    });
    let finished = tracer.stop();
    finished.totals.assert_complete();
    finished.totals.assert_conserved();
    let place = |port| {
        let event = connected(&finished.events, port).expect("an event");
        event["geo"].clone()
    };
    assert_eq!(
        place(near),
        json!({"country": {"iso_code": "XA"}, "as": {"number": 64496},
               "organization": {"name": "Example Carrier"}})
    );
    assert_eq!(place(far)["organization"]["name"], "Branch, two");
    assert_eq!(place(nowhere), Value::Null);
    let process = |event: &Event| event.kind().starts_with("process.");
    assert!(!finished.events.iter().any(process), "the filter knows what other events lack");
}

#[test]
fn the_example_chain_is_valid_and_mistakes_are_reported() {
    let program = geo_program();
    let dir = environment::scratch("geo-mistakes");
    let chain = fs::read_to_string(root().join("examples/geo-handler/geo.toml")).expect("a chain");
    let check = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).expect("the scratch folder can be written to");
        run(&program, &["check", file.to_str().expect("a UTF-8 path")])
    };
    let (done, _, error) = check("good.toml", &chain);
    assert!(done, "{error}");
    let (done, _, error) =
        check("field.toml", &chain.replace("geo.organization", "geo.organisation"));
    assert!(!done && error.contains("did you mean `geo.organization.name`?"), "{error}");
    let before = chain.replace(r#""places", "abroad""#, r#""abroad", "places""#);
    let (done, _, error) = check("order.toml", &before);
    assert!(
        !done && error.contains("no incoming event has a field `geo.organization.name`"),
        "{error}"
    );
    let (done, _, error) = check(
        "nothing.toml",
        "[[chains]]\nfrom = [\"process\"]\nthrough = [\"geo\", \"stdout\"]\n",
    );
    assert!(!done && error.contains("add the `network` tracker to"), "{error}");
    let (done, _, error) =
        run(&program, &["trace", "network", "--through", "geo", "--duration", "300ms"]);
    assert!(done, "{error}");
}
