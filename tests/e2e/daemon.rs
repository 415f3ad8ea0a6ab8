//! A dockerd that is late, is killed, or hangs.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use whalewatch_tests::beats::{beats, script, wait_for_beats};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::dockerd::Dockerd;
use whalewatch_tests::oracle::mark;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{config, environment, wait};

/// How long a name may take once the daemon is back: the longest pause between two tries to reach
/// it, and some.
const BACK_LIMIT: Duration = Duration::from_mins(1);

/// A folder for a daemon of the test's own: short, since sockets have short paths.
fn daemon_dir(name: &str) -> PathBuf {
    environment::scratch(name)
}

#[track_caller]
fn start_dockerd(dir: &Path) -> Dockerd {
    let daemon = Dockerd::start(dir).unwrap_or_else(|e| panic!("{e:#}"));
    let tar = environment::get(environment::IMAGE_TAR);
    daemon.import(Path::new(&tar), &environment::image()).unwrap_or_else(|e| panic!("{e:#}"));
    daemon
}

/// Runs `/bin/true MARK` in a container and gives its exec as it was printed.
#[track_caller]
fn exec_in(tracer: &mut Tracer, docker: &Docker, container: &str) -> Event {
    let mark = mark("exec");
    docker.ok(&["exec", container, "/bin/true", &mark]);
    let args = ["/bin/true", mark.as_str()];
    tracer.wait_for("the marked exec", |events| {
        events.iter().find(|event| event.is_exec_of(&args)).cloned()
    })
}

/// Waits until events in a container are printed with `name`, and then no longer otherwise.
#[track_caller]
fn wait_until_named(tracer: &mut Tracer, docker: &Docker, container: &str, name: &str) {
    wait::until(&format!("its name is {name}"), BACK_LIMIT, || {
        let event = exec_in(tracer, docker, container);
        wait::when(event.state() == "resolved" && event.container_name() == Some(name))
    });
    for _ in 0..5 {
        let event = exec_in(tracer, docker, container);
        assert_eq!(event.container_name(), Some(name), "{}", event.0);
    }
}

#[test]
fn a_late_dockerd_gives_names_without_a_restart() {
    let dir = daemon_dir("late");
    let config = config::json_chain_with_docker(&dir.join("docker.sock"));
    let mut tracer = Tracer::run(&environment::scratch("late-tracer"), &config);
    let daemon = start_dockerd(&dir);
    let docker = daemon.client();
    let container = docker.start("late", &environment::image(), &["sleep", "1000000"]);
    wait_until_named(&mut tracer, &docker, &container.id, "late");
    tracer.stop().totals.assert_complete();
}

/// A container that runs `/bin/true MARK NUMBER` with NUMBER counting up, about 20 times a second.
fn beating(docker: &Docker, name: &str, mark: &str) -> whalewatch_tests::docker::Container {
    docker.start(name, &environment::image(), &["/bin/sh", "-c", &script(mark)])
}

#[test]
fn a_killed_dockerd_loses_no_event_and_names_return() {
    let mut daemon = start_dockerd(&daemon_dir("killed"));
    let docker = daemon.client();
    let mark = mark("beat");
    let container = beating(&docker, "steady", &mark);
    let config = config::json_chain_with_docker(&daemon.socket());
    let mut tracer = Tracer::run(&environment::scratch("killed-tracer"), &config);
    wait_for_beats(&mut tracer, &mark, 10);
    daemon.crash().unwrap_or_else(|e| panic!("{e:#}"));
    wait_for_beats(&mut tracer, &mark, 20);
    daemon.start_again().unwrap_or_else(|e| panic!("{e:#}"));
    let new = docker.start("new", &environment::image(), &["sleep", "1000000"]);
    wait_until_named(&mut tracer, &docker, &new.id, "new");
    docker.ok(&["rename", &new.id, "newer"]);
    wait_until_named(&mut tracer, &docker, &new.id, "newer");

    let finished = tracer.stop();
    finished.totals.assert_complete();
    let beats = beats(&finished.events, &mark);
    let first = beats.first().expect("there were beats").0;
    for (offset, (number, event)) in (0..).zip(&beats) {
        assert_eq!(*number, first + offset, "no beat is lost");
        assert_eq!(event.container_id(), Some(container.id.as_str()), "{}", event.0);
        assert_eq!(event.container_name(), Some("steady"), "{}", event.0);
    }
}

/// Not a dockerd, but a stand-in for one that hangs: it takes every connection and never answers on
/// any.
struct HungSocket {
    thread: Option<JoinHandle<usize>>,
    path: PathBuf,
    stop: Sender<()>,
}

impl HungSocket {
    fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket in the scratch folder");
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || hold_all(&listener, &stopped));
        Self { thread: Some(thread), path: path.to_owned(), stop }
    }

    /// Ends it and tells how many connections it had taken.
    fn connections(mut self) -> usize {
        self.stop.send(()).expect("it listens until it is told to stop");
        // One more connection, so that it looks up from its waiting.
        drop(UnixStream::connect(&self.path));
        self.thread.take().and_then(|thread| thread.join().ok()).expect("it ends in peace")
    }
}

fn hold_all(listener: &UnixListener, stopped: &Receiver<()>) -> usize {
    let mut held = Vec::new();
    for stream in listener.incoming() {
        if stopped.try_recv().is_ok() {
            break;
        }
        held.push(stream);
    }
    held.len()
}

#[test]
fn a_hung_docker_socket_delays_no_host_event() {
    let dir = environment::scratch("hung");
    let socket = dir.join("hung.sock");
    let hung = HungSocket::listen(&socket);
    // Held events would come at least this much later: long enough to tell them from a busy
    // machine's pauses.
    let hold = Duration::from_secs(10);
    let options = format!(
        "endpoint = \"unix://{}\"\nhold = \"10s\"\nrequest_timeout = \"60s\"",
        socket.display()
    );
    let mut tracer = Tracer::run(&dir, &config::json_chain(&options));
    for _ in 0..50 {
        let mark = mark("host");
        let started = SystemTime::now();
        assert!(Command::new("/bin/true").arg(&mark).status().expect("/bin/true").success());
        let args = ["/bin/true", mark.as_str()];
        let event = tracer.wait_for("the host's exec", |events| {
            events.iter().find(|event| event.is_exec_of(&args)).cloned()
        });
        let delay = started.elapsed().expect("the clock does not jump");
        assert!(delay < hold, "delayed by {delay:?}: {}", event.0);
        assert_eq!(event.state(), "host", "{}", event.0);
    }
    tracer.stop().totals.assert_complete();
    assert!(hung.connections() > 0, "it did ask");
}

#[test]
fn a_hung_docker_socket_delays_container_events_by_at_most_hold() {
    let dir = environment::scratch("hung-container");
    let socket = dir.join("hung.sock");
    let hung = HungSocket::listen(&socket);
    let hold = Duration::from_millis(500);
    // What waited for the daemon would wait this long: far longer than a busy machine's pauses.
    let request_timeout = Duration::from_mins(1);
    let options = format!(
        "endpoint = \"unix://{}\"\nhold = \"500ms\"\nrequest_timeout = \"60s\"",
        socket.display()
    );
    let mut tracer = Tracer::run(&dir, &config::json_chain(&options));
    let docker = Docker::at(&environment::docker_socket());
    let container = docker.start("hung", &environment::image(), &["sleep", "1000000"]);
    for _ in 0..10 {
        let mark = mark("hung");
        docker.ok(&["exec", &container.id, "/bin/true", &mark]);
        let ended = SystemTime::now();
        let args = ["/bin/true", mark.as_str()];
        let event = tracer.wait_for("the container's exec", |events| {
            events.iter().find(|event| event.is_exec_of(&args)).cloned()
        });
        let delay = ended.elapsed().expect("the clock does not jump");
        assert!(delay < hold + request_timeout / 2, "delayed by {delay:?}: {}", event.0);
        assert_eq!(event.container_id(), Some(container.id.as_str()), "{}", event.0);
        assert_eq!(event.state(), "pending", "{}", event.0);
    }
    tracer.stop().totals.assert_complete();
    assert!(hung.connections() > 0, "it did ask");
}

#[test]
fn a_missing_docker_socket_leaves_ids_pending() {
    let dir = environment::scratch("missing-socket");
    let config = config::json_chain_with_docker(&dir.join("no-such.sock"));
    let mut tracer = Tracer::run(&dir, &config);
    let docker = Docker::at(&environment::docker_socket());
    let container = docker.start("missing", &environment::image(), &["sleep", "1000000"]);
    let event = exec_in(&mut tracer, &docker, &container.id);
    assert_eq!(event.container_id(), Some(container.id.as_str()), "{}", event.0);
    assert_eq!(event.state(), "pending", "{}", event.0);
    tracer.stop();
}
