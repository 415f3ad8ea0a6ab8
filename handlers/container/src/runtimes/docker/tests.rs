//! The client against a fake daemon: a thread that speaks just enough HTTP on a Unix socket, and
//! does wrong as told. (What the real daemon does is tested in the repository's end-to-end tests.)

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{HumanDuration, Runtime, Status};

use crate::options::{ContainerOptions, RuntimeChoice, RuntimeWord};
use crate::request::{Client as _, News, Request};
use crate::runtimes::{Clients, start};
use crate::tests::rig::{id, inspect, ms, refuse};

/// How the fake daemon treats requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Accepts and never answers.
    Hangs,
    /// Answers.
    Serves,
    /// Serves lists and events, and knows no container when asked to inspect one.
    Denies,
}

struct FakeDaemon {
    socket: PathBuf,
    manner: Arc<Mutex<Manner>>,
    name: Arc<Mutex<String>>,
    /// What has happened before anybody asks.
    past: Arc<Mutex<String>>,
    lists: Arc<AtomicUsize>,
    inspections: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl FakeDaemon {
    fn at(socket: PathBuf, manner: Manner) -> Self {
        let daemon = Self {
            socket,
            manner: Arc::new(Mutex::new(manner)),
            name: Arc::new(Mutex::new("web".into())),
            past: Arc::default(),
            lists: Arc::default(),
            inspections: Arc::default(),
            dead: Arc::default(),
            streams: Arc::default(),
        };
        let listener = UnixListener::bind(&daemon.socket).unwrap();
        let (manner, name) = (daemon.manner.clone(), daemon.name.clone());
        let past = daemon.past.clone();
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
                    manner: manner.clone(),
                    name: name.clone(),
                    past: past.clone(),
                    lists: lists.clone(),
                    inspections: inspections.clone(),
                };
                thread::spawn(move || serve.run());
            }
        });
        daemon
    }

    /// As SIGKILL would: connections break, the socket refuses.
    fn die(self) {
        self.dead.store(true, SeqCst);
        std::fs::remove_file(&self.socket).unwrap();
        for stream in self.streams.lock().unwrap().drain(..) {
            // One that is closed already is as good.
            stream.shutdown(std::net::Shutdown::Both).unwrap_or_default();
        }
    }
}

struct Serve {
    stream: UnixStream,
    manner: Arc<Mutex<Manner>>,
    name: Arc<Mutex<String>>,
    /// What has happened before anybody asks.
    past: Arc<Mutex<String>>,
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
                if *self.manner.lock().unwrap() != Manner::Hangs {
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
        } else if *self.manner.lock().unwrap() == Manner::Denies || request.contains("/top") {
            ("404 Not Found", r#"{"message":"No such container"}"#.to_owned())
        } else {
            let id = request.split("/containers/").nth(1).unwrap().split('/').next().unwrap();
            ("200 OK", format!(r#"{{"Id":"{id}","Name":"/{name}"}}"#))
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(answer.as_bytes()).unwrap_or_default();
    }
}

/// Runs a client in an actix system of its own, and gives the test its news.
fn with_client(socket: &std::path::Path, test: impl FnOnce(&Clients, &mpsc::Receiver<News>)) {
    // Longer than a busy machine takes: who is asked twice has not been late.
    with_patience(LONG, socket, test);
}

fn with_patience(
    timeout: Duration,
    socket: &std::path::Path,
    test: impl FnOnce(&Clients, &mpsc::Receiver<News>),
) {
    let options = ContainerOptions {
        runtime: RuntimeChoice::Word(RuntimeWord::Docker),
        endpoint: Some(format!("unix://{}", socket.display())),
        request_timeout: HumanDuration(timeout),
        refresh_interval: ms(50),
        ..ContainerOptions::default()
    };
    let (sender, news) = mpsc::channel();
    let system = actix::System::new();
    let client = system
        .block_on(async { start(&options, move |heard| sender.send(heard.news).unwrap_or(())) });
    test(&client, &news);
}

fn name_told(news: &mpsc::Receiver<News>, within: Duration) -> Option<String> {
    let until = Instant::now() + within;
    while let Ok(item) = news.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if let News::Container(container) = item {
            return container.name.as_deref().map(str::to_owned);
        }
    }
    None
}

/// An event of the daemon's, as it writes them. `time` is in nanoseconds since 1970.
fn event(action: &str, id: &str, time: &str) -> String {
    let attributes = r#"{"name":"gone","image":"bb:1","team":"a"}"#;
    let actor = format!(r#"{{"ID":"{id}","Attributes":{attributes}}}"#);
    format!(r#"{{"Type":"container","Action":"{action}","Actor":{actor},"timeNano":{time}}}"#)
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_daemon_that_accepts_and_never_answers_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Manner::Hangs);
    with_patience(Duration::from_millis(300), &daemon.socket, |client, news| {
        let before = Instant::now();
        for n in 0..1000 {
            client.ask(Request::Inspect(id(n).into(), Runtime::Docker));
            client.ask(Request::Refresh { processes: true });
        }
        assert!(before.elapsed() < LONG, "{:?}", before.elapsed());
        assert_eq!(name_told(news, Duration::from_millis(700)), None);
        *daemon.manner.lock().unwrap() = Manner::Serves; // it wakes up
        assert_eq!(name_told(news, LONG).as_deref(), Some("web"));
    });
}

#[test]
fn a_late_daemon_is_noticed_and_at_once_when_a_container_appears() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    with_client(&socket, |client, news| {
        refuse(&socket, 6); // the pauses have grown to two seconds meanwhile
        let _daemon = FakeDaemon::at(socket.clone(), Manner::Serves);
        let before = Instant::now();
        client.ask(inspect(7));
        assert_eq!(name_told(news, LONG).as_deref(), Some("web"));
        assert!(before.elapsed() < Duration::from_millis(1500), "{:?}", before.elapsed());
    });
}

#[test]
fn a_daemon_that_dies_and_comes_back_is_listed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let daemon = FakeDaemon::at(socket.clone(), Manner::Serves);
    with_client(&socket, |_, news| {
        assert_eq!(name_told(news, LONG).as_deref(), Some("web"));
        daemon.die();
        let daemon = FakeDaemon::at(socket.clone(), Manner::Denies);
        *daemon.name.lock().unwrap() = "renamed".into();
        // What the first one said may still be under way.
        while name_told(news, LONG).expect("it is listed anew") != "renamed" {}
    });
}

#[test]
fn what_the_daemon_does_not_know_is_told_after_a_few_tries_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Manner::Denies);
    with_client(&daemon.socket, |client, news| {
        for _ in 0..100 {
            client.ask(inspect(8));
        }
        let not_known = || news.recv_timeout(LONG).unwrap() == News::NotKnown { id: id(8).into() };
        while !not_known() {}
        let asked = daemon.inspections.load(SeqCst);
        assert_eq!(asked, 5);
    });
}

#[test]
fn what_ended_before_the_daemon_was_asked_is_named_from_its_events_when_somebody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Manner::Denies);
    let now = "4000000000000000000";
    *daemon.past.lock().unwrap() =
        [("start", 8, "1000000000"), ("die", 8, "1000000001"), ("start", 9, now)]
            .map(|(action, container, time)| event(action, &id(container), time))
            .join("\n");
    with_client(&daemon.socket, |client, news| {
        let told = |wanted: u32| loop {
            match news.recv_timeout(LONG).unwrap() {
                News::Container(told) if *told.id == *id(wanted) => break told,
                News::Container(told) => assert_ne!(*told.id, *id(8), "nobody has asked yet"),
                _ => {}
            }
        };
        assert_eq!(told(9).status, Status::Running, "what happens from now on is told");
        client.ask(inspect(8));
        let told = told(8);
        assert_eq!((told.name.as_deref(), told.status), (Some("gone"), Status::Unknown));
        assert_eq!(told.labels["team"], "a", "of its start: its end has other things beside them");
    });
}

#[test]
fn what_was_asked_for_before_the_daemon_came_is_named_from_its_events_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("later"), Manner::Denies);
    *daemon.past.lock().unwrap() = event("start", &id(8), "1000000000");
    let socket = dir.path().join("s");
    with_client(&socket, |client, news| {
        client.ask(inspect(8));
        std::fs::rename(&daemon.socket, &socket).unwrap();
        let is = |news: News| matches!(news, News::Container(told) if *told.id == *id(8));
        assert!(std::iter::from_fn(|| news.recv_timeout(LONG).ok()).any(is));
    });
}

#[test]
fn one_that_is_removed_while_it_is_asked_for_has_its_name_from_that() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Manner::Serves);
    *daemon.past.lock().unwrap() = event("destroy", &id(8), "4000000000000000000");
    with_client(&daemon.socket, |client, news| {
        // Asked for before the daemon is there, and so before it says anything.
        client.ask(inspect(8));
        let mut told = std::iter::from_fn(|| news.recv_timeout(LONG).ok());
        let is = |news: &News| matches!(news, News::Container(told) if *told.id == *id(8));
        assert!(told.by_ref().any(|news| is(&news)), "its name");
        assert!(told.any(|news| news == News::Removed { id: id(8) }));
    });
}

#[test]
fn a_storm_of_refreshes_is_a_handful_of_lists() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::at(dir.path().join("s"), Manner::Serves);
    with_client(&daemon.socket, |client, news| {
        assert_eq!(name_told(news, LONG).as_deref(), Some("web"));
        let before = Instant::now();
        while before.elapsed() < Duration::from_millis(500) {
            client.ask(Request::Refresh { processes: false });
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(Duration::from_millis(100));
        let lists = daemon.lists.load(SeqCst);
        // One before, and one that was begun just now.
        let most = usize::try_from(before.elapsed().as_millis() / 50).unwrap() + 2;
        assert!((2..=most).contains(&lists), "{lists}, at most {most}, at 50 ms each");
    });
}
