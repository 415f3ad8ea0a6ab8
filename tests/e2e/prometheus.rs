//! A real Prometheus scrapes what containers do, and its answers are compared with what they did.

mod server;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use server::{Prometheus, free_port, get};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{environment, wait};

const LIMIT: Duration = Duration::from_secs(30);

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// Counts processes with their containers, exports the counts at `port`, and prints the events.
/// Events wait long for names.
fn config(port: u16, options: &str) -> String {
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[trackers.procs]
type = "process"

[handlers.metrics]
type = "prometheus"
listen = "127.0.0.1:{port}"
{options}

[handlers.out]
type = "stdout"
format = "json"

[[chains]]
from = ["procs"]
through = ["container", "metrics", "out"]
"#,
        environment::docker_socket().display()
    )
}

/// Metrics of processes in containers: programs by their arguments, and a histogram of their pids.
const METRICS: &str = r#"
[[handlers.metrics.metrics]]
name = "events_total"
labels = ["kind", "container.name", "attribution.state"]

[[handlers.metrics.metrics]]
name = "programs_total"
when = 'kind == "process.exec" && has(container.name)'
labels = ["container.name", { args = "process.command_args" }]

[[handlers.metrics.metrics]]
name = "pids"
kind = "histogram"
when = 'kind == "process.exec" && has(container.name)'
value = "process.vpid"
buckets = [1, 1000000000]
labels = ["container.name"]
"#;

/// Runs `/bin/true` in a container `times` times.
#[track_caller]
fn run_in(container: &str, mark: &str, times: usize) {
    let script = format!("for i in $(seq {times}); do /bin/true {mark}; done");
    docker().ok(&["exec", container, "sh", "-c", &script]);
}

fn programs(container: &str, mark: &str) -> String {
    format!("programs_total{{container_name=\"{container}\",args=\"/bin/true {mark}\"}}")
}

#[test]
fn two_scrapers_count_exactly_also_after_a_kill() {
    let (dir, port) = (environment::scratch("prometheus-exact"), free_port());
    let mut tracer = Tracer::run(&dir, &config(port, METRICS));
    let mut first = Prometheus::start(&dir.join("first"), port);
    let second = Prometheus::start(&dir.join("second"), port);
    let names = ["prometheus-a", "prometheus-b"];
    let [a, b] = names.map(|name| docker().start(name, &environment::image(), &["sleep", "1000"]));
    run_in(&a.name, "one", 5);
    run_in(&b.name, "one", 3);
    for scraper in [&first, &second] {
        scraper.wait_for(&programs(&a.name, "one"), 5.0);
        scraper.wait_for(&programs(&b.name, "one"), 3.0);
        assert_eq!(scraper.number("up"), Some(1.0));
    }

    first.kill();
    run_in(&a.name, "one", 7);
    second.wait_for(&programs(&a.name, "one"), 12.0);
    first.start_again();
    run_in(&a.name, "two", 2);
    for scraper in [&first, &second] {
        scraper.wait_for(&programs(&a.name, "one"), 12.0);
        scraper.wait_for(&programs(&a.name, "two"), 2.0);
    }

    // Now nothing happens in them any more, and every number has to be that of the events that were
    // printed.
    drop((a, b));
    for name in names {
        let printed = tracer.wait_for("the container's first process has ended", |events| {
            let of_it = || events.iter().filter(|event| event.container_name() == Some(name));
            let sleep = of_it().find(|event| event.is_exec_of(&["sleep", "1000"]))?.key()?;
            let ended = |key| of_it().any(|e| e.kind() == "process.exit" && e.key() == Some(key));
            let all_ended = of_it().filter_map(Event::key).all(ended);
            (ended(sleep) && all_ended).then(|| {
                let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
                of_it().for_each(|e| *kinds.entry(e.kind().to_owned()).or_default() += 1);
                kinds
            })
        });
        for (kind, count) in printed {
            let labels = format!("container_name=\"{name}\",kind=\"{kind}\"");
            second.wait_for(&format!("sum(events_total{{{labels}}})"), count.into());
            if kind == "process.exec" {
                let pids = format!("container_name=\"{name}\"");
                second.wait_for(&format!("pids_count{{{pids}}}"), count.into());
                second.wait_for(&format!("pids_bucket{{{pids},le=\"+Inf\"}}"), count.into());
            }
        }
    }
    assert_eq!(first.number("min_over_time(up[1h])"), Some(1.0), "no scrape has failed");
    // Whalewatch's own health, as the engine reports it.
    for part in [
        "whalewatch_tracker_events_generated_total{tracker=\"procs\"}",
        "whalewatch_handler_events_in_total{handler=\"out\"}",
        "whalewatch_handler_queue_limit_batches{handler=\"metrics\"}",
        "whalewatch_handler_containers{handler=\"container\"}",
    ] {
        wait::until(part, LIMIT, || second.number(part).filter(|number| *number > 0.0));
    }
    let finished = tracer.stop();
    finished.totals.assert_complete();
    finished.totals.assert_nothing_vanished("procs", &["container", "metrics", "out"]);
}

#[test]
fn hostile_arguments_reach_prometheus_unchanged() {
    let (dir, port) = (environment::scratch("prometheus-hostile"), free_port());
    let tracer = Tracer::run(&dir, &config(port, METRICS));
    let scraper = Prometheus::start(&dir.join("data"), port);
    let name = "prometheus-.hostile_";
    let container = docker().start(name, &environment::image(), &["sleep", "1000"]);
    let long = "long".repeat(100);
    let cut = format!("/bin/true {long}");
    let cut = format!("{}…", &cut[..253]);
    // What the shell makes of it, and what it is to be.
    let hostile = [
        (r#"'"} 1e9'"#, "/bin/true \"} 1e9"),
        (r"'a\nb\'", r"/bin/true a\nb\"),
        (r#""$(printf 'a\n# EOF\nup 0\nb')""#, "/bin/true a\n# EOF\nup 0\nb"),
        (r#""$(printf 'caf\303\251 \377')""#, "/bin/true caf\u{e9} \u{fffd}"),
        (r#""$(printf '\033[2J\r\t')""#, "/bin/true \u{1b}[2J\r\t"),
        (long.as_str(), cut.as_str()),
    ];
    for (word, _) in hostile {
        docker().ok(&["exec", &container.id, "sh", "-c", &format!("/bin/true {word}; true")]);
    }
    // By default, a dot does not match a newline.
    let args = "(?s:/bin/true.*)";
    let query = format!("programs_total{{container_name=\"{name}\",args=~\"{args}\"}}");
    let found = wait::until("all are there", LIMIT, || {
        let found = scraper.query(&query);
        wait::when(found.len() >= hostile.len()).map(|()| found)
    });
    let mut got: Vec<_> = found.iter().map(|(labels, n)| (labels["args"].as_str(), *n)).collect();
    let mut want = hostile.map(|(_, args)| (args, 1.0));
    got.sort_by_key(|(args, _)| *args);
    want.sort_by_key(|(args, _)| *args);
    assert_eq!(got, want);
    assert_eq!(scraper.number("min_over_time(up[1h])"), Some(1.0), "no scrape has failed");
    let (_, page) = get(port, "/metrics").expect("it is served");
    assert!(!page.contains('\u{0}') && page.ends_with('\n'));
    tracer.stop().totals.assert_complete();
}

#[test]
fn the_series_cap_is_reported_and_frees_itself() {
    let (dir, port) = (environment::scratch("prometheus-cap"), free_port());
    let metrics = r#"
max_series = 4
expire = "8s"
[[handlers.metrics.metrics]]
name = "programs_total"
when = '''process.executable.path == "/bin/true" && kind == "process.exec"
    && container.name.startsWith("prometheus-short-")'''
labels = ["container.name"]
"#;
    let mut tracer = Tracer::run(&dir, &config(port, metrics));
    let scraper = Prometheus::start(&dir.join("data"), port);
    let refused = "whalewatch_prometheus_refused_events_total\
                   {metric=\"programs_total\",reason=\"max_series\"}";
    scraper.wait_for(refused, 0.0);
    let short = |number: usize| {
        let name = format!("prometheus-short-{number}");
        docker().ok(&["run", "--rm", "--name", &name, &environment::image(), "/bin/true", &name]);
        name
    };
    // Until there are more series than the cap allows within the time that each is kept.
    let mut number = 0;
    let first = wait::until("the cap has refused something", LIMIT * 2, || {
        short(number);
        number += 1;
        scraper.number(refused).filter(|&refused| refused > 0.0)
    });
    assert!(first <= number as f64, "no more can be refused than there were");
    assert_eq!(scraper.number("max_over_time(whalewatch_prometheus_series[1h])"), Some(4.0));

    // No further events: all series expire, and there is room for the next.
    scraper.wait_for("whalewatch_prometheus_series", 0.0);
    let last = short(number);
    scraper.wait_for(&format!("programs_total{{container_name=\"{last}\"}}"), 1.0);
    let expired = scraper.number("whalewatch_prometheus_expired_total").expect("it is counted");
    // Read again: one more may have been refused since.
    let full = scraper.number(refused).expect("it is counted");
    // Counted and refused events are all events.
    let printed = tracer.wait_for("the last one was printed", |events| {
        let of_one = |event: &&Event| {
            event.kind() == "process.exec"
                && event.args().first() == Some(&"/bin/true")
                && event.container_name().is_some_and(|n| n.starts_with("prometheus-short-"))
        };
        let all: Vec<_> = events.iter().filter(of_one).collect();
        let seen = all.iter().any(|event| event.container_name() == Some(&*last));
        seen.then_some(all.len() as u64)
    });
    assert_eq!((expired + full) as u64 + 1, printed);
    let finished = tracer.stop();
    let warnings =
        finished.stderr.matches("max_series is reached, events with new label values").count();
    assert_eq!(warnings, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("every event is counted again"), "{}", finished.stderr);
    finished.totals.assert_complete();
}

#[test]
fn build_and_health_are_exported() {
    let (dir, port) = (environment::scratch("prometheus-own"), free_port());
    let config = config(port, "").replace(", \"out\"]", "]");
    let config = config.replace("[handlers.out]\ntype = \"stdout\"\nformat = \"json\"\n", "");
    let tracer = Tracer::run(&dir, &config);
    let scraper = Prometheus::start(&dir.join("data"), port);
    wait::until("scraped", LIMIT, || scraper.number("whalewatch_build_info"));
    for path in ["/healthz", "/-/healthy"] {
        let (status, _) = get(port, path).expect("it is served");
        assert!(status.contains(" 200 "), "{path}: {status}");
    }
    let memory = scraper.number("process_resident_memory_bytes").expect("it is exported");
    assert!((1e6..1e9).contains(&memory), "{memory} bytes");
    assert!(scraper.number("process_cpu_seconds_total").is_some_and(|used| used > 0.0));
    let started =
        |host: &str| format!("sum(whalewatch_events_total{{attribution_state=\"{host}\"}})");
    wait::until("the host's processes are counted", LIMIT, || {
        scraper.number(&started("host")).filter(|&count| count > 0.0)
    });
    // As the last handler of the chain, it delivers its events.
    let finished = tracer.stop();
    finished.totals.assert_complete();
    finished.totals.assert_nothing_vanished("procs", &["container", "metrics"]);
    assert_eq!(finished.totals.handler("metrics", "out"), finished.totals.handler("metrics", "in"));
}

#[test]
fn a_taken_port_fails_the_start_with_a_remedy() {
    let dir = environment::scratch("prometheus-port");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("a bound socket has an address").port();
    let file = dir.join("config.toml");
    std::fs::write(&file, config(port, "")).expect("the scratch folder can be written to");
    let mut command = Command::new(environment::program());
    let done = command.arg("run").arg("--config").arg(&file).output().expect("it can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("\"metrics\" cannot start"), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("set `listen`"), "{said}");
    assert!(!said.contains("watching:") && !said.contains("panicked"), "{said}");
}
