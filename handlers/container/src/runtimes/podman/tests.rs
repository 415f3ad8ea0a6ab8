//! The client against folders as podman and CRI-O write them. (The end-to-end tests use the real
//! podman.)

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use whalewatch_core::{Container, Runtime, Status};

use crate::options::{ContainerOptions, Endpoints, RuntimeChoice, RuntimeClient};
use crate::protocol::{Client as _, Report, Request};
use crate::runtimes::{Clients, start};
use crate::tests::rig::{id, ms};

const LONG: Duration = Duration::from_secs(10);

/// A storage like podman's.
struct Storage {
    dir: tempfile::TempDir,
}

impl Storage {
    fn new() -> Self {
        let storage = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(storage.folder()).unwrap();
        storage
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn folder(&self) -> PathBuf {
        self.root().join("overlay-containers")
    }

    /// Replaces the file as a whole, as podman does.
    fn write(&self, file: &str, names: &[(u32, &str)]) {
        let entry = |&(short, name): &(u32, &str)| {
            fs::create_dir_all(self.folder().join(id(short)).join("userdata")).unwrap();
            let metadata = json!({"name": "first", "image-name": "bb:1"}).to_string();
            json!({"id": id(short), "names": [name], "metadata": metadata})
        };
        let text = json!(names.iter().map(entry).collect::<Vec<_>>()).to_string();
        let new = self.folder().join(".tmp-new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder().join(file)).unwrap();
    }

    fn contain(&self, names: &[(u32, &str)]) {
        self.write("containers.json", names);
    }
}

/// Runs a test with a client in its own actix system, and with the client's reports.
fn with_client(root: &Path, expected: bool, test: impl FnOnce(&Clients, &Receiver<Report>)) {
    let options = ContainerOptions {
        runtime: RuntimeChoice::only(RuntimeClient::Podman),
        endpoints: Endpoints { podman: Some(root.display().to_string()), ..Endpoints::default() },
        refresh_interval: ms(50),
        ..ContainerOptions::default()
    };
    let (sender, reports) = channel();
    let report_to = move |report| sender.send(report).unwrap_or(());
    let system = actix::System::new();
    let clients = system.block_on(async {
        if expected {
            return start(&options, move |reported| report_to(reported.report));
        }
        let settings = super::Settings { expected, ..options.settings(RuntimeClient::Podman) };
        let arbiter = actix::Arbiter::new();
        let client = super::start(&arbiter.handle(), settings, std::sync::Arc::new(report_to));
        Clients { clients: vec![(RuntimeClient::Podman, client)], arbiter }
    });
    test(&clients, &reports);
}

fn ask(clients: &Clients, short: u32) {
    clients.ask(Request::Inspect(id(short).into(), Runtime::Podman));
}

/// Returns the first report that the test is about.
#[track_caller]
fn wait_for<T>(reports: &Receiver<Report>, want: impl Fn(&Report) -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let item = reports.recv_timeout(left).expect("a report comes");
        if let Some(found) = want(&item) {
            return found;
        }
    }
}

fn reported(short: u32) -> impl Fn(&Report) -> Option<Container> {
    move |report| match report {
        Report::Container(container) if *container.id == id(short) => Some((**container).clone()),
        _ => None,
    }
}

fn is(wanted: Report) -> impl Fn(&Report) -> Option<()> {
    move |report| (*report == wanted).then_some(())
}

#[test]
fn container_is_reported_when_made_renamed_and_removed() {
    let storage = Storage::new();
    with_client(&storage.root(), true, |clients, reports| {
        ask(clients, 1); // once this is answered, it watches
        wait_for(reports, is(Report::NotKnown { id: id(1).into() }));
        storage.contain(&[(7, "web")]);
        let container = wait_for(reports, reported(7));
        assert_eq!((container.name.as_deref(), container.status), (Some("web"), Status::Created));
        assert_eq!(container.image.as_deref(), Some("bb:1"));
        assert_eq!(container.runtime, Runtime::Podman);
        storage.contain(&[(7, "web2"), (8, "db")]);
        wait_for(reports, is(Report::Renamed { id: id(7), name: "web2".into() }));
        assert_eq!(wait_for(reports, reported(8)).name.as_deref(), Some("db"));
        storage.contain(&[(8, "db")]);
        wait_for(reports, is(Report::Removed { id: id(7) }));
        fs::remove_dir_all(storage.root()).unwrap();
        wait_for(reports, is(Report::Removed { id: id(8) }));
    });
}

#[test]
fn both_files_are_read_and_a_partial_one_is_read_again() {
    let storage = Storage::new();
    fs::write(storage.folder().join("containers.json"), "[{\"id\":\"0").unwrap();
    storage.write("volatile-containers.json", &[(8, "pod")]);
    with_client(&storage.root(), true, |clients, reports| {
        ask(clients, 8);
        storage.contain(&[(7, "web")]);
        ask(clients, 7);
        ask(clients, 8);
        for (short, name) in [(7, "web"), (8, "pod")] {
            loop {
                // An early attempt may have found the partial file.
                let found = wait_for(reports, |report| match report {
                    Report::NotKnown { id: denied } if **denied == id(short) => Some(None),
                    other => reported(short)(other).map(Some),
                });
                let Some(container) = found else {
                    ask(clients, short);
                    continue;
                };
                assert_eq!(container.name.as_deref(), Some(name));
                break;
            }
        }
    });
}

#[test]
fn running_container_is_not_reported_as_created() {
    let storage = Storage::new();
    storage.contain(&[(7, "web")]);
    let userdata = storage.folder().join(id(7)).join("userdata");
    fs::write(userdata.join("config.json"), "{}").unwrap();
    with_client(&storage.root(), true, |clients, reports| {
        ask(clients, 7);
        let container = wait_for(reports, reported(7));
        assert_eq!((container.name.as_deref(), container.status), (Some("web"), Status::Unknown));
    });
}

#[test]
fn listings_leave_out_ended_containers_and_keep_the_interval() {
    let storage = Storage::new();
    storage.contain(&[(7, "made"), (8, "ended")]);
    let run = storage.dir.path().join("run").join(id(8)).join("userdata");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("pidfile"), "1").unwrap(); // another process has this pid by now
    let text = json!({"mounts": [{"source": run.join("hosts")}]}).to_string();
    fs::write(storage.folder().join(id(8)).join("userdata/config.json"), text).unwrap();
    with_client(&storage.root(), true, |clients, reports| {
        let began = Instant::now();
        for _ in 0..1000 {
            clients.ask(Request::Refresh { processes: true });
        }
        assert!(began.elapsed() < LONG, "asking waits");
        wait_for(reports, is(Report::Refreshed { running: vec![id(7)] }));
        let more = 4;
        for _ in 0..more {
            (0..100).for_each(|_| clients.ask(Request::Refresh { processes: true }));
            wait_for(reports, is(Report::Refreshed { running: vec![id(7)] }));
        }
        let least = more * Duration::from_millis(50);
        assert!(began.elapsed() >= least, "{more} more listings within {:?}", began.elapsed());
    });
}

#[test]
fn without_storage_containers_are_denied_until_it_appears() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    with_client(&root, false, |clients, reports| {
        ask(clients, 7);
        wait_for(reports, is(Report::NotKnown { id: id(7).into() }));
        let storage = Storage { dir };
        fs::create_dir_all(storage.folder()).unwrap();
        storage.contain(&[(7, "late")]);
        let container = loop {
            ask(clients, 7);
            let answer = wait_for(reports, |report| match report {
                Report::NotKnown { .. } => Some(None),
                other => reported(7)(other).map(Some),
            });
            if let Some(container) = answer {
                break container;
            }
        };
        assert_eq!(container.name.as_deref(), Some("late"));
    });
}

#[test]
fn file_that_is_too_large_removes_nothing() {
    let storage = Storage::new();
    storage.contain(&[(7, "web")]);
    with_client(&storage.root(), true, |clients, reports| {
        ask(clients, 7);
        wait_for(reports, reported(7));
        let file = fs::File::create(storage.folder().join("volatile-containers.json")).unwrap();
        file.set_len(super::records::MAX_BYTES + 1).unwrap();
        ask(clients, 7);
        wait_for(reports, reported(7));
        assert!(!reports.try_iter().any(|item| matches!(item, Report::Removed { .. })));
    });
}
