//! Containers of containerd, without Docker and without Kubernetes: every event carries its
//! container, whichever of containerd's namespaces it is in.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use whalewatch_tests::beats::{beats, script, wait_for_beats};
use whalewatch_tests::containerd::Containerd;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::oracle::{Oracle, mark, unique};
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{config, environment, wait};

const NAMESPACES: [&str; 2] = ["default", "shop"];
const ROUNDS: usize = 20;
/// How long a name may take once the daemon is back.
const BACK_LIMIT: Duration = Duration::from_mins(1);

struct Setup {
    containerd: Containerd,
    image: String,
}

/// A containerd of the test's own that has the image in both namespaces. Its folder has a short
/// name, since sockets have short paths.
#[track_caller]
fn containerd(dir: &str) -> Setup {
    let dir = Path::new(&environment::get(environment::SCRATCH)).join(dir);
    let containerd = Containerd::start(&dir, None).unwrap_or_else(|e| panic!("{e:#}"));
    let docker = Docker::at(&environment::docker_socket());
    let mut image = String::new();
    for namespace in NAMESPACES {
        image = containerd
            .import(&docker, &environment::image(), namespace)
            .unwrap_or_else(|e| panic!("{e:#}"));
    }
    Setup { containerd, image }
}

impl Setup {
    #[track_caller]
    fn tracer(&self, test: &str) -> Tracer {
        let socket = self.containerd.socket();
        let options = format!(
            "hold = \"10s\"\nruntime = \"containerd\"\nendpoint = \"unix://{}\"",
            socket.display()
        );
        Tracer::run(&environment::scratch(test), &config::json_chain(&options))
    }

    /// `ctr run --rm IMAGE ID /bin/true MARK`, to its end.
    #[track_caller]
    fn run_true(&self, namespace: &str, id: &str, label: Option<&str>) -> String {
        let (mark, fifos) = (mark(namespace), self.containerd.fifos());
        let label = label.map(|name| format!("--label=nerdctl/name={name}"));
        let mut args = vec!["run", "--rm", &fifos];
        args.extend(label.as_deref());
        args.extend([&*self.image, id, "/bin/true", &mark]);
        self.containerd.ok(namespace, &args);
        mark
    }

    /// `ctr tasks exec ID /bin/true MARK`.
    #[track_caller]
    fn exec(&self, namespace: &str, id: &str) -> String {
        let (mark, fifos) = (mark("exec"), self.containerd.fifos());
        let args = ["tasks", "exec", &fifos, "--exec-id", &mark, id, "/bin/true", &mark];
        self.containerd.ok(namespace, &args);
        mark
    }

    /// A container in the background.
    #[track_caller]
    fn start(&self, namespace: &str, id: &str, name: &str, command: &[&str]) {
        let (label, fifos) = (format!("--label=nerdctl/name={name}"), self.containerd.fifos());
        let args = [&["run", "-d", "--null-io", &fifos, &label, &self.image, id], command].concat();
        self.containerd.ok(namespace, &args);
    }
}

/// An id of 64 hexadecimal digits.
fn long_id() -> String {
    format!("{:064x}", unique())
}

/// In both namespaces at once, a container after the other, each with what `about` gives: its id
/// for `ctr`, for us, its label, its name.
#[track_caller]
fn in_both_namespaces(
    dir: &str,
    test: &str,
    about: impl Fn(&str, usize) -> (String, String, Option<String>, String) + Sync,
) {
    let setup = containerd(dir);
    let tracer = setup.tracer(test);
    let oracle = Mutex::new(Oracle::default());
    thread::scope(|scope| {
        for namespace in NAMESPACES {
            let (setup, oracle, about) = (&setup, &oracle, &about);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let (id, ours, label, name) = about(namespace, round);
                    let mark = setup.run_true(namespace, &id, label.as_deref());
                    oracle.lock().expect("nobody panics in here").in_container(&mark, &ours, &name);
                }
            });
        }
    });
    let finished = oracle.into_inner().expect("all have ended").see_out(tracer);
    let mut ours = finished.events.iter().filter(|event| event.container_id().is_some());
    assert!(ours.all(|event| event.0["k8s"].is_null()), "none of them is in a pod");
}

#[test]
fn short_containers_in_two_namespaces_are_named() {
    in_both_namespaces("c-short", "ctr-short", |namespace, round| {
        let (id, name) = (long_id(), format!("{namespace}-{round}"));
        (id.clone(), id, Some(name.clone()), name)
    });
}

#[test]
fn one_id_in_two_namespaces_is_two_containers() {
    in_both_namespaces("c-same", "ctr-same", |namespace, round| {
        let id = format!("web-{round}");
        (id.clone(), format!("{namespace}/{id}"), None, id)
    });
}

#[test]
fn programs_started_later_belong_to_the_container() {
    let setup = containerd("c-exec");
    let (id, mut oracle) = (long_id(), Oracle::default());
    setup.start("shop", &id, "execs", &["/bin/sleep", "1000000"]);
    let tracer = setup.tracer("ctr-exec");
    for _ in 0..ROUNDS {
        let mark = setup.exec("shop", &id);
        oracle.in_container(&mark, &id, "execs");
    }
    oracle.see_out(tracer);
}

/// Waits until events in a container are printed with its name.
#[track_caller]
fn wait_until_named(tracer: &mut Tracer, setup: &Setup, id: &str, name: &str) {
    wait::until(&format!("its name is {name}"), BACK_LIMIT, || {
        let mark = setup.exec("default", id);
        let args = ["/bin/true", mark.as_str()];
        let event = tracer.wait_for("the marked exec", |events| {
            events.iter().find(|event| event.is_exec_of(&args)).cloned()
        });
        wait::when(event.state() == "resolved" && event.container_name() == Some(name))
    });
}

#[test]
fn a_killed_containerd_loses_no_event_and_names_return() {
    let mut setup = containerd("c-kill");
    let (steady, new, mark) = (long_id(), long_id(), mark("beat"));
    let script = script(&mark);
    setup.start("default", &steady, "steady", &["/bin/sh", "-c", &script]);
    let mut tracer = setup.tracer("ctr-kill");
    wait_for_beats(&mut tracer, &mark, 10);
    setup.containerd.crash().unwrap_or_else(|e| panic!("{e:#}"));
    wait_for_beats(&mut tracer, &mark, 20);
    setup.containerd.start_again().unwrap_or_else(|e| panic!("{e:#}"));
    setup.start("default", &new, "new", &["/bin/sleep", "1000000"]);
    wait_until_named(&mut tracer, &setup, &new, "new");

    let finished = tracer.stop();
    finished.totals.assert_complete();
    let beats = beats(&finished.events, &mark);
    let first = beats.first().expect("there were beats").0;
    for (offset, (number, event)) in (0..).zip(&beats) {
        assert_eq!(*number, first + offset, "no beat is lost");
        assert_eq!(event.container_id(), Some(steady.as_str()), "{}", event.0);
        assert_eq!(event.container_name(), Some("steady"), "{}", event.0);
    }
}

#[test]
fn a_late_containerd_and_docker_each_give_their_names() {
    let dir = Path::new(&environment::get(environment::SCRATCH)).join("c-late");
    let socket = environment::docker_socket();
    let options = format!(
        "hold = \"2s\"\n[container.endpoints]\ndocker = \"unix://{}\"\ncontainerd = \"unix://{}\"",
        socket.display(),
        dir.join("c.sock").display()
    );
    let mut tracer = Tracer::run(&environment::scratch("ctr-late"), &config::json_chain(&options));
    let setup = containerd("c-late");
    let id = long_id();
    setup.start("default", &id, "late", &["/bin/sleep", "1000000"]);
    wait_until_named(&mut tracer, &setup, &id, "late");
    let docker = Docker::at(&socket);
    let container = docker.start("beside", &environment::image(), &["sleep", "1000000"]);
    let mark = mark("beside");
    docker.ok(&["exec", &container.id, "/bin/true", &mark]);
    let mut oracle = Oracle::default();
    oracle.in_container(&mark, &container.id, "beside");
    oracle.see_out(tracer);
}
