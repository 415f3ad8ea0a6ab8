//! The client against a fake daemon: a thread that speaks just enough HTTP on a Unix socket and
//! misbehaves as configured. (The end-to-end tests use the real daemon.)

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{HumanDuration, Runtime, Status};

use crate::options::{ContainerOptions, RuntimeChoice, RuntimeClient};
use crate::protocol::{Client as _, Report, Request};
use crate::runtimes::{Clients, start};
use crate::tests::rig::{id, inspect, ms, refuse, wait_until};

/// How the fake daemon treats requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behavior {
    /// Accepts and never answers.
    Hangs,
    /// Answers.
    Serves,
    /// Answers lists and events, but knows no container when asked to inspect one.
    Denies,
}

struct FakeDaemon {
    socket: PathBuf,
    behavior: Arc<Mutex<Behavior>>,
    name: Arc<Mutex<String>>,
    /// Events from before the client connects.
    past: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
    inspections: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl FakeDaemon {
    fn at(socket: PathBuf, behavior: Behavior) -> Self {
        let daemon = Self {
            socket,
            behavior: Arc::new(Mutex::new(behavior)),
            name: Arc::new(Mutex::new("web".into())),
            past: Arc::default(),
            requests: Arc::default(),
            lists: Arc::default(),
            inspections: Arc::default(),
            dead: Arc::default(),
            streams: Arc::default(),
        };
        let listener = UnixListener::bind(&daemon.socket).unwrap();
        let (behavior, name) = (daemon.behavior.clone(), daemon.name.clone());
        let past = daemon.past.clone();
        let requests = daemon.requests.clone();
        let (lists, inspections) = (daemon.lists.clone(), daemon.inspections.clone());
        let (dead, streams) = (daemon.dead.clone(), daemon.streams.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if dead.load(SeqCst) {
                    break;
                }
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let serve = Serve {
                    stream,
                    behavior: behavior.clone(),
                    name: name.clone(),
                    past: past.clone(),
                    requests: requests.clone(),
                    lists: lists.clone(),
                    inspections: inspections.clone(),
                };
                thread::spawn(move || serve.run());
            }
        });
        daemon
    }

    /// Ends as on SIGKILL: connections break, and the socket refuses new ones.
    fn die(self) {
        self.dead.store(true, SeqCst);
        std::fs::remove_file(&self.socket).unwrap();
        for stream in self.streams.lock().unwrap().drain(..) {
            // It may be closed already.
            stream.shutdown(std::net::Shutdown::Both).unwrap_or_default();
        }
    }
}

struct Serve {
    stream: UnixStream,
    behavior: Arc<Mutex<Behavior>>,
    name: Arc<Mutex<String>>,
    /// Events from before the client connects.
    past: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    lists: Arc<AtomicUsize>,
    inspections: Arc<AtomicUsize>,
}

impl Serve {
    fn run(mut self) {
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = self.stream.read(&mut chunk) {
            text.extend_from_slice(&chunk[..read]);
            while let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
                let request = String::from_utf8_lossy(&text[..end]).into_owned();
                text.drain(..end + 4);
                self.requests.fetch_add(1, SeqCst);
                if *self.behavior.lock().unwrap() != Behavior::Hangs {
                    self.answer(request.lines().next().unwrap());
                }
            }
        }
    }

    fn answer(&mut self, request: &str) {
        let name = self.name.lock().unwrap().clone();
        let (status, body) = if request.contains("/version") {
            ("200 OK", r#"{"ApiVersion":"1.41","Version":"20.10.0"}"#.to_owned())
        } else if request.contains("/events") {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            self.stream.write_all(head.as_bytes()).unwrap_or_default();
            let past = self.past.lock().unwrap().clone();
            let chunk = format!("{:x}\r\n{past}\r\n", past.len());
            if !past.is_empty() {
                self.stream.write_all(chunk.as_bytes()).unwrap_or_default();
            }
            return;
        } else if request.contains("/containers/json") {
            // A list of one, by its id, or of all.
            let one = request.contains("%22id%22");
            if one { &self.inspections } else { &self.lists }.fetch_add(1, SeqCst);
            let id = id(7);
            let body = format!(r#"[{{"Id":"{id}","Names":["/{name}"],"State":"running"}}]"#);
            ("200 OK", body)
        } else if *self.behavior.lock().unwrap() == Behavior::Denies || request.contains("/top") {
            ("404 Not Found", r#"{"message":"No such container"}"#.to_owned())
        } else {
            let id = request.split("/containers/").nth(1).unwrap().split('/').next().unwrap();
            ("200 OK", format!(r#"{{"Id":"{id}","Name":"/{name}"}}"#))
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(answer.as_bytes()).unwrap_or_default();
    }
}

/// Runs a test with a client in its own actix system, and with the client's reports.
fn with_client(socket: &std::path::Path, test: impl FnOnce(&Clients, &mpsc::Receiver<Report>)) {
    // Longer than any delay of a busy machine: a second request means more than lateness.
    with_timeout(LONG, socket, test);
}

fn with_timeout(
    timeout: Duration,
    socket: &std::path::Path,
    test: impl FnOnce(&Clients, &mpsc::Receiver<Report>),
) {
    let options = ContainerOptions {
        runtime: RuntimeChoice::only(RuntimeClient::Docker),
        endpoint: Some(format!("unix://{}", socket.display())),
        request_timeout: HumanDuration(timeout),
        refresh_interval: ms(50),
        ..ContainerOptions::default()
    };
    let (sender, reports) = mpsc::channel();
    let system = actix::System::new();
    let client = system.block_on(async {
        start(&options, move |reported| sender.send(reported.report).unwrap_or(()))
    });
    test(&client, &reports);
}

fn next_name(reports: &mpsc::Receiver<Report>, within: Duration) -> Option<String> {
    let until = Instant::now() + within;
    while let Ok(item) = reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if let Report::Container(container) = item {
            return container.name.as_deref().map(str::to_owned);
        }
    }
    None
}

/// An event in the daemon's format. `time` is in nanoseconds since 1970.
fn event(action: &str, id: &str, time: &str) -> String {
    let attributes = r#"{"name":"gone","image":"bb:1","team":"a"}"#;
    let actor = format!(r#"{{"ID":"{id}","Attributes":{attributes}}}"#);
    format!(r#"{{"Type":"container","Action":"{action}","Actor":{actor},"timeNano":{time}}}"#)
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn hung_daemon_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Behavior::Hangs);
    with_timeout(Duration::from_millis(300), &daemon.socket, |client, reports| {
        let before = Instant::now();
        for n in 0..1000 {
            client.ask(Request::Inspect(id(n).into(), Runtime::Docker));
            client.ask(Request::Refresh { processes: true });
        }
        assert!(before.elapsed() < LONG, "{:?}", before.elapsed());
        wait_until(|| daemon.requests.load(SeqCst) >= 2); // it has given up once
        *daemon.behavior.lock().unwrap() = Behavior::Serves; // it wakes up
        assert_eq!(next_name(reports, LONG).as_deref(), Some("web"));
    });
}

#[test]
fn late_daemon_is_noticed_at_once_when_a_container_appears() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    with_client(&socket, |client, reports| {
        refuse(&socket, 6); // the pauses have grown to two seconds meanwhile
        let _daemon = FakeDaemon::at(socket.clone(), Behavior::Serves);
        let before = Instant::now();
        client.ask(inspect(7));
        assert_eq!(next_name(reports, LONG).as_deref(), Some("web"));
        assert!(before.elapsed() < Duration::from_millis(1500), "{:?}", before.elapsed());
    });
}

#[test]
fn daemon_that_comes_back_is_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let daemon = FakeDaemon::at(socket.clone(), Behavior::Serves);
    with_client(&socket, |_, reports| {
        assert_eq!(next_name(reports, LONG).as_deref(), Some("web"));
        daemon.die();
        let daemon = FakeDaemon::at(socket.clone(), Behavior::Denies);
        *daemon.name.lock().unwrap() = "renamed".into();
        // A report from the first one may still be under way.
        while next_name(reports, LONG).expect("it is listed again") != "renamed" {}
    });
}

#[test]
fn unknown_container_is_reported_after_a_few_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Behavior::Denies);
    with_client(&daemon.socket, |client, reports| {
        for _ in 0..100 {
            client.ask(inspect(8));
        }
        let not_known =
            || reports.recv_timeout(LONG).unwrap() == Report::NotKnown { id: id(8).into() };
        while !not_known() {}
        let asked = daemon.inspections.load(SeqCst);
        assert_eq!(asked, 5);
    });
}

#[test]
fn ended_container_is_named_from_earlier_events_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Behavior::Denies);
    let now = "4000000000000000000";
    *daemon.past.lock().unwrap() =
        [("start", 8, "1000000000"), ("die", 8, "1000000001"), ("start", 9, now)]
            .map(|(action, container, time)| event(action, &id(container), time))
            .join("\n");
    with_client(&daemon.socket, |client, reports| {
        let told = |wanted: u32| loop {
            match reports.recv_timeout(LONG).unwrap() {
                Report::Container(told) if *told.id == *id(wanted) => break told,
                Report::Container(told) => assert_ne!(*told.id, *id(8), "nobody has asked yet"),
                _ => {}
            }
        };
        assert_eq!(told(9).status, Status::Running, "later events are reported");
        client.ask(inspect(8));
        let told = told(8);
        assert_eq!((told.name.as_deref(), told.status), (Some("gone"), Status::Unknown));
        assert_eq!(
            told.labels["team"], "a",
            "from its start: its end has other attributes among the labels"
        );
    });
}

#[test]
fn earlier_request_is_answered_from_events_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("later"), Behavior::Denies);
    *daemon.past.lock().unwrap() = event("start", &id(8), "1000000000");
    let socket = dir.path().join("s");
    with_client(&socket, |client, reports| {
        client.ask(inspect(8));
        std::fs::rename(&daemon.socket, &socket).unwrap();
        let is = |report: Report| matches!(report, Report::Container(told) if *told.id == *id(8));
        assert!(std::iter::from_fn(|| reports.recv_timeout(LONG).ok()).any(is));
    });
}

#[test]
fn removed_container_is_named_from_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Behavior::Serves);
    *daemon.past.lock().unwrap() = event("destroy", &id(8), "4000000000000000000");
    with_client(&daemon.socket, |client, reports| {
        // Requested before the daemon is there, and so before its first event.
        client.ask(inspect(8));
        let mut told = std::iter::from_fn(|| reports.recv_timeout(LONG).ok());
        let is = |report: &Report| matches!(report, Report::Container(told) if *told.id == *id(8));
        assert!(told.by_ref().any(|report| is(&report)), "its name");
        assert!(told.any(|report| report == Report::Removed { id: id(8) }));
    });
}

#[test]
fn storm_of_refreshes_is_a_handful_of_lists() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Behavior::Serves);
    with_client(&daemon.socket, |client, reports| {
        assert_eq!(next_name(reports, LONG).as_deref(), Some("web"));
        let before = Instant::now();
        wait_until(|| {
            client.ask(Request::Refresh { processes: false });
            daemon.lists.load(SeqCst) >= 6
        });
        let lists = daemon.lists.load(SeqCst);
        // One before, and one that has just begun.
        let max = usize::try_from(before.elapsed().as_millis() / 50).unwrap() + 2;
        assert!(lists <= max, "{lists} lists, at most {max}, at 50 ms each");
    });
}
