//! Every event of a container's processes carries that container, from the first to the last.

use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use whalewatch_tests::docker::{Container, Docker};
use whalewatch_tests::oracle::{Oracle, mark};
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{config, environment, wait};

const ROUNDS: usize = 25;

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// Whalewatch with the shared dockerd.
#[track_caller]
fn tracer(test: &str) -> Tracer {
    let config = config::json_chain_with_docker(&environment::docker_socket());
    Tracer::run(&environment::scratch(test), &config)
}

/// `docker run --rm --name NAME IMAGE /bin/true MARK`, to its end.
#[track_caller]
fn run_true(oracle: &Mutex<Oracle>, name: &str) -> String {
    let mark = mark(name);
    let cid = environment::scratch(&format!("cid-{name}")).join("cid");
    let cid_option = format!("--cidfile={}", cid.display());
    let image = environment::image();
    docker().ok(&["run", "--rm", &cid_option, "--name", name, &image, "/bin/true", &mark]);
    let id = std::fs::read_to_string(&cid).expect("docker wrote the container's id");
    oracle.lock().expect("no other test panics in here").in_container(&mark, id.trim(), name);
    mark
}

/// A marked process on the host.
#[track_caller]
fn host_true(oracle: &Mutex<Oracle>) -> String {
    let mark = mark("host");
    assert!(Command::new("/bin/true").arg(&mark).status().expect("/bin/true").success());
    oracle.lock().expect("no other test panics in here").on_host(&mark);
    mark
}

#[test]
fn short_containers_are_named_one_after_another() {
    let tracer = tracer("sequential");
    let oracle = Mutex::new(Oracle::default());
    for round in 0..ROUNDS {
        run_true(&oracle, &format!("seq-{round}"));
        host_true(&oracle);
    }
    oracle.into_inner().expect("all have ended").see_out(tracer);
}

#[test]
fn short_containers_are_named_eight_at_once() {
    let tracer = tracer("parallel");
    let oracle = Mutex::new(Oracle::default());
    thread::scope(|scope| {
        for lane in 0..8 {
            let oracle = &oracle;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    run_true(oracle, &format!("par-{lane}-{round}"));
                }
            });
        }
        for _ in 0..ROUNDS {
            host_true(&oracle);
        }
    });
    oracle.into_inner().expect("all have ended").see_out(tracer);
}

#[test]
fn docker_execs_belong_to_the_container() {
    let container = docker().start("execs", &environment::image(), &["sleep", "1000000"]);
    let tracer = tracer("execs");
    let mut oracle = Oracle::default();
    for _ in 0..ROUNDS {
        let mark = mark("exec");
        docker().ok(&["exec", &container.id, "/bin/true", &mark]);
        oracle.in_container(&mark, &container.id, &container.name);
    }
    oracle.see_out(tracer);
}

#[test]
fn children_belong_to_their_parents_container() {
    const CHILDREN: usize = 20;
    let tracer = tracer("children");
    let marks: Vec<String> = (0..CHILDREN).map(|_| mark("child")).collect();
    let script = format!("/bin/true {};", marks.join("; /bin/true "));
    // A shell of a shell, so that some are grandchildren; the last command keeps it from running
    // the script in its place.
    let script = format!("sh -c '{script} :'; :");
    let container = docker().start("children", &environment::image(), &["/bin/sh", "-c", &script]);
    let mut oracle = Oracle::default();
    for mark in &marks {
        oracle.in_container(mark, &container.id, &container.name);
    }
    let finished = oracle.see_out(tracer);
    let of_container = |event: &&Event| event.container_id() == Some(&container.id);
    let forks = finished.events.iter().filter(|event| event.kind() == "process.fork");
    let forks = forks.filter(of_container).count();
    assert!(forks > CHILDREN, "{forks} forks for {CHILDREN} children and a shell");
}

/// A container of 20 processes whose first one runs `/bin/true MARK` on SIGUSR1.
#[track_caller]
fn twenty_processes(name: &str, mark: &str) -> Container {
    let script = format!(
        "trap '/bin/true {mark}' USR1; i=0; \
         while [ $i -lt 19 ]; do sleep 1000000 & i=$((i + 1)); done; while :; do wait; done"
    );
    let container = docker().start(name, &environment::image(), &["/bin/sh", "-c", &script]);
    wait::until("20 processes run", Duration::from_secs(20), || {
        wait::when(container.pids().len() == 20)
    });
    container
}

#[test]
fn containers_that_ran_before_are_known_at_start() {
    let name = |number| format!("before-{number}");
    let marks: Vec<String> = (0..5).map(|number| mark(&name(number))).collect();
    let containers: Vec<Container> =
        (0..5).map(|number| twenty_processes(&name(number), &marks[number])).collect();
    let mut tracer = tracer("running-before");
    let mut oracle = Oracle::default();
    for (container, mark) in containers.iter().zip(&marks) {
        signal(container.first_pid(), Signal::USR1);
        oracle.in_container(mark, &container.id, &container.name);
        tracer.wait_for_exit_of(&["/bin/true", mark]);
    }
    let pids: Vec<Vec<u32>> = containers.iter().map(Container::pids).collect();
    for &pid in pids.iter().flatten().rev() {
        signal(pid, Signal::KILL);
    }
    for (container, pids) in containers.iter().zip(&pids) {
        assert_eq!(pids.len(), 20);
        tracer.wait_for(&format!("all processes of {} have ended", container.name), |events| {
            wait::when(pids.iter().all(|&pid| ends_in(events, pid, container)))
        });
    }
    oracle.see_out(tracer);
}

fn signal(pid: u32, signal: Signal) {
    // A process of a container whose first process was killed is gone already.
    let pid = Pid::from_raw(pid.cast_signed()).expect("no pid is 0");
    let _gone = kill_process(pid, signal);
}

fn ends_in(events: &[Event], pid: u32, container: &Container) -> bool {
    events.iter().any(|event| {
        event.kind() == "process.exit"
            && event.key().is_some_and(|(exited, _)| exited == u64::from(pid))
            && event.container_id() == Some(&container.id)
            && event.container_name() == Some(&container.name)
    })
}

#[test]
fn a_renamed_container_has_its_new_name_at_once() {
    let container = docker().start("before-rename", &environment::image(), &["sleep", "1000000"]);
    let mut tracer = tracer("rename");
    let exec = |mark: &str| docker().ok(&["exec", &container.id, "/bin/true", mark]);
    let marks = [mark("rename"), mark("rename")];
    exec(&marks[0]);
    docker().ok(&["rename", &container.id, "after-rename"]);
    exec(&marks[1]);
    for (mark, name) in marks.iter().zip(["before-rename", "after-rename"]) {
        let args = ["/bin/true", mark.as_str()];
        let event = tracer.wait_for("the marked exec", |events| {
            events.iter().find(|event| event.is_exec_of(&args)).cloned()
        });
        assert_eq!(event.container_id(), Some(container.id.as_str()), "{}", event.0);
        assert_eq!(event.container_name(), Some(name), "{}", event.0);
    }
    tracer.stop();
}

#[test]
fn containers_have_events_when_they_come_and_go() {
    let mut tracer = tracer("come-and-go");
    let oracle = Mutex::new(Oracle::default());
    let mark = run_true(&oracle, "come-and-go");
    let args = ["/bin/true", mark.as_str()];
    tracer.wait_for("it is gone", |events| {
        let id = events.iter().find(|event| event.is_exec_of(&args))?.container_id()?;
        let has = |kind| events.iter().any(|e| e.kind() == kind && e.container_id() == Some(id));
        wait::when(has("container.found") && has("container.gone"))
    });
    tracer.stop();
}

#[test]
fn without_a_runtime_cgroups_give_the_ids() {
    let config = config::json_chain("runtime = \"none\"");
    let mut tracer = Tracer::run(&environment::scratch("no-runtime"), &config);
    let container = docker().start("no-runtime", &environment::image(), &["sleep", "1000000"]);
    let mark = mark("no-runtime");
    docker().ok(&["exec", &container.id, "/bin/true", &mark]);
    let args = ["/bin/true", mark.as_str()];
    let event = tracer.wait_for("the marked exec", |events| {
        events.iter().find(|event| event.is_exec_of(&args)).cloned()
    });
    assert_eq!(event.container_id(), Some(container.id.as_str()), "{}", event.0);
    assert_eq!(event.state(), "pending", "{}", event.0);
    tracer.stop();
}
