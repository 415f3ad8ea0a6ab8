//! The client against folders as podman and CRI-O write them. (What the real podman does is tested
//! in the repository's end-to-end tests.)

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use whalewatch_core::{Container, Runtime, Status};

use crate::options::{ContainerOptions, Endpoints, RuntimeChoice, RuntimeWord};
use crate::request::{Client as _, News, Request};
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

    /// Replaces the file as a whole, as they do.
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

/// Runs a client in an actix system of its own, and gives the test its news.
fn with_client(root: &Path, expected: bool, test: impl FnOnce(&Clients, &Receiver<News>)) {
    let options = ContainerOptions {
        runtime: RuntimeChoice::Word(RuntimeWord::Podman),
        endpoints: Endpoints { podman: Some(root.display().to_string()), ..Endpoints::default() },
        refresh_interval: ms(50),
        ..ContainerOptions::default()
    };
    let (sender, news) = channel();
    let tell = move |news| sender.send(news).unwrap_or(());
    let system = actix::System::new();
    let clients = system.block_on(async {
        if expected {
            return start(&options, move |heard| tell(heard.news));
        }
        let settings = super::Settings { expected, ..options.settings(crate::RuntimeKind::Podman) };
        let arbiter = actix::Arbiter::new();
        let client = super::start(&arbiter.handle(), settings, std::sync::Arc::new(tell));
        Clients { clients: vec![(crate::RuntimeKind::Podman, client)], arbiter }
    });
    test(&clients, &news);
}

fn ask(clients: &Clients, short: u32) {
    clients.ask(Request::Inspect(id(short).into(), Runtime::Podman));
}

/// The first news that is like that.
#[track_caller]
fn wait_for<T>(news: &Receiver<News>, want: impl Fn(&News) -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let item = news.recv_timeout(left).expect("the news come");
        if let Some(found) = want(&item) {
            return found;
        }
    }
}

fn told(short: u32) -> impl Fn(&News) -> Option<Container> {
    move |news| match news {
        News::Container(container) if *container.id == id(short) => Some((**container).clone()),
        _ => None,
    }
}

fn is(wanted: News) -> impl Fn(&News) -> Option<()> {
    move |news| (*news == wanted).then_some(())
}

#[test]
fn a_container_is_told_when_it_is_made_renamed_and_removed() {
    let storage = Storage::new();
    with_client(&storage.root(), true, |clients, news| {
        ask(clients, 1); // it has begun to watch when this is answered
        wait_for(news, is(News::NotKnown { id: id(1).into() }));
        storage.contain(&[(7, "web")]);
        let container = wait_for(news, told(7));
        assert_eq!((container.name.as_deref(), container.status), (Some("web"), Status::Created));
        assert_eq!(container.image.as_deref(), Some("bb:1"));
        assert_eq!(container.runtime, Runtime::Podman);
        storage.contain(&[(7, "web2"), (8, "db")]);
        wait_for(news, is(News::Renamed { id: id(7), name: "web2".into() }));
        assert_eq!(wait_for(news, told(8)).name.as_deref(), Some("db"));
        storage.contain(&[(8, "db")]);
        wait_for(news, is(News::Removed { id: id(7) }));
        fs::remove_dir_all(storage.root()).unwrap();
        wait_for(news, is(News::Removed { id: id(8) }));
    });
}

#[test]
fn both_files_are_read_and_one_that_was_half_written_is_read_again() {
    let storage = Storage::new();
    fs::write(storage.folder().join("containers.json"), "[{\"id\":\"0").unwrap();
    storage.write("volatile-containers.json", &[(8, "pod")]);
    with_client(&storage.root(), true, |clients, news| {
        ask(clients, 8);
        storage.contain(&[(7, "web")]);
        ask(clients, 7);
        ask(clients, 8);
        for (short, name) in [(7, "web"), (8, "pod")] {
            loop {
                // One of the first tries may have come before the file was whole.
                let found = wait_for(news, |news| match news {
                    News::NotKnown { id: denied } if **denied == id(short) => Some(None),
                    other => told(short)(other).map(Some),
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
fn what_runs_already_is_told_without_saying_that_it_was_just_made() {
    let storage = Storage::new();
    storage.contain(&[(7, "web")]);
    let userdata = storage.folder().join(id(7)).join("userdata");
    fs::write(userdata.join("config.json"), "{}").unwrap();
    with_client(&storage.root(), true, |clients, news| {
        ask(clients, 7);
        let container = wait_for(news, told(7));
        assert_eq!((container.name.as_deref(), container.status), (Some("web"), Status::Unknown));
    });
}

#[test]
fn a_listing_leaves_out_what_has_run_and_no_two_are_close() {
    let storage = Storage::new();
    storage.contain(&[(7, "made"), (8, "ended")]);
    let run = storage.dir.path().join("run").join(id(8)).join("userdata");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("pidfile"), "1").unwrap(); // a number that is another process's by now
    let text = json!({"mounts": [{"source": run.join("hosts")}]}).to_string();
    fs::write(storage.folder().join(id(8)).join("userdata/config.json"), text).unwrap();
    with_client(&storage.root(), true, |clients, news| {
        let began = Instant::now();
        for _ in 0..1000 {
            clients.ask(Request::Refresh { processes: true });
        }
        assert!(began.elapsed() < LONG, "asking waits");
        wait_for(news, is(News::Refreshed { running: vec![id(7)] }));
        std::thread::sleep(Duration::from_millis(200));
        let listings = news.try_iter().filter(|n| matches!(n, News::Refreshed { .. })).count();
        let most = usize::try_from(began.elapsed().as_millis() / 50).unwrap() + 1;
        assert!(listings <= most, "{listings} listings, at most {most}");
    });
}

#[test]
fn where_there_is_no_storage_containers_are_denied_at_once_and_one_that_comes_later_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    with_client(&root, false, |clients, news| {
        ask(clients, 7);
        wait_for(news, is(News::NotKnown { id: id(7).into() }));
        let storage = Storage { dir };
        fs::create_dir_all(storage.folder()).unwrap();
        storage.contain(&[(7, "late")]);
        let container = loop {
            ask(clients, 7);
            let answer = wait_for(news, |news| match news {
                News::NotKnown { .. } => Some(None),
                other => told(7)(other).map(Some),
            });
            if let Some(container) = answer {
                break container;
            }
        };
        assert_eq!(container.name.as_deref(), Some("late"));
    });
}

#[test]
fn a_file_that_is_none_or_too_large_takes_nothing_away() {
    let storage = Storage::new();
    storage.contain(&[(7, "web")]);
    with_client(&storage.root(), true, |clients, news| {
        ask(clients, 7);
        wait_for(news, told(7));
        let file = fs::File::create(storage.folder().join("volatile-containers.json")).unwrap();
        file.set_len(super::records::MOST_BYTES + 1).unwrap();
        ask(clients, 7);
        wait_for(news, told(7));
        assert!(!news.try_iter().any(|item| matches!(item, News::Removed { .. })));
    });
}
