//! Podman: no daemon, as root and as an ordinary user, and its service that speaks Docker's words.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use whalewatch_tests::oracle::{Oracle, mark};
use whalewatch_tests::output::Event;
use whalewatch_tests::podman::Podman;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{config, environment, wait};

const ROUNDS: usize = 20;

/// A podman of root's, with an image.
#[track_caller]
fn root(name: &str) -> Podman {
    let dir = Path::new(&environment::get(environment::SCRATCH)).join(name);
    with_image(Podman::root(&dir).unwrap_or_else(|e| panic!("{e:#}")))
}

#[track_caller]
fn with_image(podman: Podman) -> Podman {
    let tar = environment::get(environment::IMAGE_TAR);
    podman.import(Path::new(&tar), &environment::image()).unwrap_or_else(|e| panic!("{e:#}"));
    podman
}

/// Whalewatch that reads the records there.
#[track_caller]
fn tracer(test: &str, podman: &Podman) -> Tracer {
    let options = format!("runtime = \"podman\"\nendpoint = \"{}\"", podman.graphroot().display());
    Tracer::run(&environment::scratch(test), &config::json_chain(&options))
}

/// Runs marked processes, each in a container of its own and on the host.
#[track_caller]
fn run_marked(podman: &Podman, oracle: &mut Oracle, words: &str) {
    for round in 0..ROUNDS {
        let name = format!("{words}-{round}");
        let inside = mark(&name);
        let id = podman.run_to_end(&name, &environment::image(), &["/bin/true", &inside]);
        oracle.in_container(&inside, &id, &name);
        let outside = mark("host");
        assert!(Command::new("/bin/true").arg(&outside).status().expect("/bin/true").success());
        oracle.on_host(&outside);
    }
}

/// Runs `/bin/true MARK` in a container and gives its exec as it was printed.
#[track_caller]
fn exec_in(tracer: &mut Tracer, podman: &Podman, container: &str) -> Event {
    let mark = mark("exec");
    podman.ok(&["exec", container, "/bin/true", &mark]);
    let args = ["/bin/true", mark.as_str()];
    tracer.wait_for("the marked exec", |events| {
        events.iter().find(|event| event.is_exec_of(&args)).cloned()
    })
}

#[track_caller]
fn assert_named(event: &Event, id: &str, name: &str) {
    assert_eq!(event.container_id(), Some(id), "{}", event.0);
    assert_eq!(event.container_name(), Some(name), "{}", event.0);
    assert_eq!(event.state(), "resolved", "{}", event.0);
    assert_eq!(event.0["container"]["runtime"].as_str(), Some("podman"), "{}", event.0);
}

#[track_caller]
fn wait_until_gone(tracer: &mut Tracer, id: &str) {
    tracer.wait_for("it is gone", |events| {
        let is = |e: &&Event| e.kind() == "container.gone" && e.container_id() == Some(id);
        wait::when(events.iter().any(|e| is(&e)))
    });
}

#[test]
fn short_containers_are_named_at_once() {
    let podman = root("podman-short");
    let tracer = tracer("podman-short-tracer", &podman);
    let mut oracle = Oracle::default();
    run_marked(&podman, &mut oracle, "pod-short");
    oracle.see_out(tracer);
}

#[test]
fn exec_rename_and_removal_are_followed() {
    let podman = root("podman-follow");
    let mut tracer = tracer("podman-follow-tracer", &podman);
    let id = podman.start("before-rename", &environment::image(), &["sleep", "1000000"]);
    let event = exec_in(&mut tracer, &podman, &id);
    assert_named(&event, &id, "before-rename");
    let image = format!("localhost/{}", environment::image());
    assert_eq!(event.0["container"]["image"]["name"].as_str(), Some(image.as_str()), "{}", event.0);
    podman.ok(&["rename", &id, "after-rename"]);
    assert_named(&exec_in(&mut tracer, &podman, &id), &id, "after-rename");
    podman.ok(&["rm", "-f", "-t", "0", &id]);
    wait_until_gone(&mut tracer, &id);
    tracer.stop();
}

#[test]
fn earlier_containers_are_named() {
    let podman = root("podman-before");
    let id = podman.start("ran-before", &environment::image(), &["sleep", "1000000"]);
    let mut tracer = tracer("podman-before-tracer", &podman);
    assert_named(&exec_in(&mut tracer, &podman, &id), &id, "ran-before");
    tracer.stop();
}

#[test]
fn rootless_containers_are_found_without_configuration() {
    let podman = with_image(Podman::rootless().unwrap_or_else(|e| panic!("{e:#}")));
    let scratch = environment::scratch("podman-rootless-tracer");
    let tracer = Tracer::run(&scratch, &config::json_chain("runtime = \"podman\""));
    let mut oracle = Oracle::default();
    run_marked(&podman, &mut oracle, "pod-user");
    oracle.see_out(tracer);
}

#[test]
fn the_service_of_podman_works_as_a_docker_endpoint() {
    let podman = root("podman-service");
    let service = podman.serve().unwrap_or_else(|e| panic!("{e:#}"));
    let socket = service.socket.display();
    let options = format!("runtime = \"podman\"\nendpoint = \"unix://{socket}\"");
    let scratch = environment::scratch("podman-service-tracer");
    let mut tracer = Tracer::run(&scratch, &config::json_chain(&options));
    let id = podman.start("served", &environment::image(), &["sleep", "1000000"]);
    wait::until("its name is told", Duration::from_secs(30), || {
        wait::when(exec_in(&mut tracer, &podman, &id).state() == "resolved")
    });
    assert_named(&exec_in(&mut tracer, &podman, &id), &id, "served");
    tracer.stop();
}

#[test]
fn short_containers_without_a_cgroup_are_named() {
    let podman = Podman::rootless_without_cgroups().unwrap_or_else(|e| panic!("{e:#}"));
    let podman = with_image(podman);
    let scratch = environment::scratch("podman-cgroupless-short-tracer");
    let mut tracer = Tracer::run(&scratch, &config::json_chain("runtime = \"podman\""));
    let (mut right, mut host) = (0, Vec::new());
    for round in 0..ROUNDS {
        let name = format!("no-cgroup-{round}");
        let mark = mark(&name);
        let id = podman.run_to_end(&name, &environment::image(), &["/bin/true", &mark]);
        let args = ["/bin/true", mark.as_str()];
        let event = tracer.wait_for("the marked exec", |events| {
            events.iter().find(|event| event.is_exec_of(&args)).cloned()
        });
        if event.container_id().is_none() {
            host.push(event.0);
            continue;
        }
        assert_named(&event, &id, &name);
        right += 1;
    }
    println!("{right} right, {} called the host's", host.len());
    tracer.stop();
    assert!(host.is_empty(), "{}", host[0]);
}

#[test]
fn a_container_without_a_cgroup_is_found_and_gone() {
    let podman = Podman::rootless_without_cgroups().unwrap_or_else(|e| panic!("{e:#}"));
    let podman = with_image(podman);
    let scratch = environment::scratch("podman-cgroupless-tracer");
    let mut tracer = Tracer::run(&scratch, &config::json_chain("runtime = \"podman\""));
    let id = podman.start("no-cgroup", &environment::image(), &["sleep", "1000000"]);
    assert_named(&exec_in(&mut tracer, &podman, &id), &id, "no-cgroup");
    tracer.wait_for("it is found", |events| {
        let is = |e: &Event| e.kind() == "container.found" && e.container_id() == Some(&id);
        let found = events.iter().find(|e| is(e))?;
        assert_eq!(found.container_name(), Some("no-cgroup"), "{}", found.0);
        Some(())
    });
    // Its record stays: what tells is the end of its first process.
    podman.ok(&["kill", &id]);
    wait_until_gone(&mut tracer, &id);
    tracer.stop();
}
