//! The client against a fake containerd.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proptest::prelude::*;
use prost::Message as _;
use whalewatch_core::Status as State;

use super::answers::{container, happened};
use super::*;
use crate::protocol::{Report, Request};
use crate::runtimes::remote::testing::{
    Asked, Fake, LONG, MS, NOT_FOUND, Reply, hasty, name, next, not_known, says, settings,
    with_client,
};
use crate::tests::rig::{id, refuse, wait_until};

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn record(id: &str, pairs: &[(&str, &str)]) -> m::Record {
    let image = "docker.io/library/web:1".to_owned();
    m::Record { id: id.to_owned(), labels: labels(pairs), image, ..m::Record::default() }
}

fn running(id: &str, pid: u32) -> m::Task {
    m::Task { id: id.to_owned(), pid, status: 2 }
}

/// A containerd with a container of that name in the namespace `default`, and one of Docker's.
fn serves(asked: &Asked, name: &str) -> Reply {
    let web = record(&id(7), &[("nerdctl/name", name)]);
    let namespaces = ["default", "moby"].map(|name| m::Namespace { name: name.to_owned() });
    let known = asked.namespace != "moby";
    match &*asked.method {
        m::LIST_NAMESPACES => says(&m::ListNamespacesResponse { namespaces: namespaces.into() }),
        m::LIST_TASKS => says(&m::ListTasksResponse { tasks: vec![running(&id(7), 70)] }),
        m::LIST_CONTAINERS => says(&m::ContainerResponse { container: Some(web) }),
        m::GET_CONTAINER if known && asked.read::<m::One>().id == id(7) => {
            says(&m::ContainerResponse { container: Some(web) })
        }
        m::GET_TASK => says(&m::GetTaskResponse { process: Some(running(&id(7), 70)) }),
        m::SUBSCRIBE => Reply::GoesOn(Vec::new()),
        _ => NOT_FOUND,
    }
}

fn inspect(short: u32) -> Request {
    Request::Inspect(id(short).into(), Runtime::Other)
}

#[test]
fn hung_daemon_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let hangs = Arc::new(AtomicBool::new(true));
    let hung = Arc::clone(&hangs);
    let answer =
        move |asked: &Asked| if hung.load(SeqCst) { Reply::Hangs } else { serves(asked, "web") };
    let fake = Fake::at(&dir.path().join("s"), answer);
    with_client(start, hasty(&dir.path().join("s"), true), |client, reports| {
        let before = Instant::now();
        for n in 0..1000 {
            client.ask(inspect(n));
            client.ask(Request::Refresh { processes: true });
        }
        assert!(before.elapsed() < LONG, "{:?}", before.elapsed());
        wait_until(|| fake.asked(m::LIST_NAMESPACES) >= 2); // it has given up once
        hangs.store(false, SeqCst); // it wakes up
        assert_eq!(name(reports, LONG).as_deref(), Some("web"));
    });
}

#[test]
fn late_daemon_is_noticed_at_once_when_a_container_appears() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    with_client(start, settings(&socket, true), |client, reports| {
        refuse(&socket, 6); // the pauses have grown to two seconds meanwhile
        let _fake = Fake::at(&socket, |asked| serves(asked, "web"));
        let before = Instant::now();
        client.ask(inspect(7));
        assert_eq!(name(reports, LONG).as_deref(), Some("web"));
        assert!(before.elapsed() < MS(1500), "{:?}", before.elapsed());
    });
}

#[test]
fn daemon_that_comes_back_is_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let fake = Fake::at(&socket, |asked| serves(asked, "web"));
    with_client(start, settings(&socket, true), |_, reports| {
        assert_eq!(name(reports, LONG).as_deref(), Some("web"));
        fake.die();
        let _fake = Fake::at(&socket, |asked| serves(asked, "renamed"));
        // A report from the first one may still be under way.
        while name(reports, LONG).expect("it is listed again") != "renamed" {}
    });
}

#[test]
fn daemon_whose_event_stream_ends_is_followed_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let fake = Fake::at(&socket, |asked| match &*asked.method {
        m::SUBSCRIBE => Reply::Says(Vec::new()),
        _ => serves(asked, "web"),
    });
    with_client(start, settings(&socket, true), |_, reports| {
        for _ in 0..2 {
            assert_eq!(name(reports, LONG).as_deref(), Some("web"));
        }
        assert!(fake.asked(m::SUBSCRIBE) >= 2);
    });
}

#[test]
fn refusing_daemon_is_asked_again_before_anything_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let refuses = Arc::new(AtomicBool::new(true));
    let refused = Arc::clone(&refuses);
    let fake = Fake::at(&socket, move |asked| match &*asked.method {
        m::GET_CONTAINER | m::LIST_TASKS if refused.load(SeqCst) => Reply::Fails(14),
        _ => serves(asked, "web"),
    });
    with_client(start, settings(&socket, true), |client, reports| {
        client.ask(inspect(7));
        wait_until(|| fake.asked(m::GET_CONTAINER) >= 2);
        refuses.store(false, SeqCst);
        let answer = next(reports, LONG, |report| match report {
            Report::Container(_) | Report::NotKnown { .. } => Some(report),
            _ => None,
        });
        assert!(matches!(answer, Some(Report::Container(_))), "{answer:?}");
    });
}

#[test]
fn unknown_container_is_reported_after_a_few_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let fake = Fake::at(&socket, |asked| serves(asked, "web"));
    with_client(start, settings(&socket, true), |client, reports| {
        for _ in 0..100 {
            client.ask(inspect(8));
        }
        assert!(not_known(reports, LONG, &id(8)));
        assert_eq!(fake.asked(m::GET_CONTAINER), 5);
    });
}

#[test]
fn unexpected_runtime_without_a_socket_knows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    with_client(start, settings(&dir.path().join("s"), false), |client, reports| {
        client.ask(inspect(7));
        assert!(not_known(reports, LONG, &id(7)));
    });
}

#[test]
fn containers_of_docker_are_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let fake = Fake::at(&socket, |asked| serves(asked, "web"));
    with_client(start, settings(&socket, true), |client, reports| {
        assert_eq!(name(reports, LONG).as_deref(), Some("web"));
        client.ask(Request::Inspect(id(9).into(), Runtime::Docker));
        assert!(not_known(reports, LONG, &id(9)));
        client.ask(Request::Inspect("moby/web".into(), Runtime::Other));
        assert!(not_known(reports, LONG, "moby/web"));
    });
    assert_eq!(fake.asked(m::GET_CONTAINER), 0);
}

#[test]
fn events_are_followed() {
    let event = |topic: &str, event: Vec<u8>| m::Envelope {
        namespace: "default".into(),
        topic: topic.into(),
        event: Some(m::Any { value: event, ..m::Any::default() }),
    };
    let of = |id: &str| m::Event { container: id.into() }.encode_to_vec();
    let exit = |id: &str, process: &str| {
        m::Exit { container: id.into(), process: process.into() }.encode_to_vec()
    };
    let id = || "default/web".to_owned();
    let status = |status| Some(Report::Status { id: id(), status });
    for (topic, bytes, report, look_at) in [
        ("/containers/create", of("web"), None, true),
        ("/containers/update", of("web"), None, true),
        ("/containers/delete", of("web"), Some(Report::Removed { id: id() }), false),
        ("/tasks/start", of("web"), status(State::Running), true),
        ("/tasks/exit", exit("web", "web"), status(State::Exited), false),
        ("/tasks/paused", of("web"), status(State::Paused), false),
        ("/tasks/resumed", of("web"), status(State::Running), false),
    ] {
        let look_at = look_at.then(|| id().into());
        assert_eq!(happened(&event(topic, bytes)), Some(Happened { report, look_at }), "{topic}");
    }
    assert_eq!(happened(&event("/tasks/exit", exit("web", "an exec"))), None);
    assert_eq!(happened(&event("/tasks/oom", of("web"))), None);
    assert_eq!(
        happened(&m::Envelope { namespace: "moby".into(), ..event("/tasks/start", of("web")) }),
        None
    );
}

#[test]
fn event_reports_the_container_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let event = m::Envelope {
        namespace: "default".into(),
        topic: "/containers/create".into(),
        event: Some(m::Any {
            value: m::Event { container: id(7) }.encode_to_vec(),
            ..m::Any::default()
        }),
    };
    let event = Mutex::new(Some(event.encode_to_vec()));
    let _fake = Fake::at(&socket, move |asked| match &*asked.method {
        m::SUBSCRIBE => Reply::GoesOn(event.lock().unwrap().take().into_iter().collect()),
        m::GET_TASK => NOT_FOUND,
        m::LIST_TASKS => says(&m::ListTasksResponse { tasks: Vec::new() }),
        _ => serves(asked, "web"),
    });
    with_client(start, settings(&socket, true), |_, reports| {
        let reported = next(reports, LONG, |report| match report {
            Report::Container(container) => Some(container),
            _ => None,
        });
        let reported = reported.unwrap();
        assert_eq!((reported.name.as_deref(), reported.status), (Some("web"), State::Created));
        assert_eq!(reported.image.as_deref(), Some("docker.io/library/web:1"));
    });
}

#[test]
fn container_has_the_name_that_its_maker_gave_it() {
    let reported = |namespace: &str, record: m::Record| {
        let container = container(namespace, record, None, &Pods::default()).unwrap();
        (container.id.to_string(), container.name.unwrap().to_string())
    };
    let hex = id(7);
    let both = [("nerdctl/name", "shop"), ("io.kubernetes.container.name", "nginx")];
    assert_eq!(reported("default", record(&hex, &both)), (hex.clone(), "shop".into()));
    assert_eq!(reported("k8s.io", record(&hex, &both[1..])), (hex.clone(), "nginx".into()));
    assert_eq!(reported("a", record("web", &[])), ("a/web".into(), "web".into()));
    assert_eq!(reported("b", record("web", &[])), ("b/web".into(), "web".into()));
    assert_eq!(container("moby", record(&hex, &[]), None, &Pods::default()), None);
    assert_eq!(container("a", record("b/c", &[]), None, &Pods::default()), None);
}

#[test]
fn pods_are_read_from_the_plugins_records_without_labels() {
    let extended = |short: u32, extension: &str, json: &str| {
        let value = json.as_bytes().to_vec();
        let any = m::Any { value, ..m::Any::default() };
        m::Record { extensions: [(extension.to_owned(), any)].into(), ..record(&id(short), &[]) }
    };
    let sandbox = extended(
        1,
        "io.cri-containerd.sandbox.metadata",
        concat!(
            r#"{"Version":"v1","Metadata":{"Config":{"metadata":"#,
            r#"{"name":"web-0","uid":"u","namespace":"shop"}}}}"#
        ),
    );
    let json = format!(
        concat!(
            r#"{{"Version":"v1","Metadata":{{"SandboxID":"{}","#,
            r#""Config":{{"metadata":{{"name":"nginx"}}}}}}}}"#
        ),
        id(1)
    );
    let nginx = extended(2, "io.cri-containerd.container.metadata", &json);
    let mut pods = Pods::default();
    assert_eq!(pods.wanted(&nginx), Some(id(1)));
    assert_eq!(pods.wanted(&sandbox), None);
    pods.learn(&sandbox);
    assert_eq!(pods.wanted(&nginx), None);
    let reported = |record: &m::Record| container("k8s.io", record.clone(), None, &pods).unwrap();
    let (sandbox, nginx) = (reported(&sandbox), reported(&nginx));
    assert_eq!((sandbox.name.as_deref(), nginx.name.as_deref()), (Some("web-0"), Some("nginx")));
    let fields = |c: &Container| c.kubernetes().map(|(_, v)| v.to_owned()).collect::<Vec<_>>();
    assert_eq!(fields(&sandbox), ["web-0", "shop", "u"]);
    assert_eq!(fields(&nginx), ["web-0", "shop", "u", "nginx"]);
}

proptest! {
    #[test]
    fn any_event_is_read_without_panic(topic in 0..TOPICS, value: Vec<u8>, namespace: String) {
        let topic = answers::TOPICS[topic].to_owned();
        let event = Some(m::Any { value, ..m::Any::default() });
        drop(happened(&m::Envelope { namespace, topic, event }));
    }

    #[test]
    fn any_record_is_read_without_panic(bytes: Vec<u8>, value: Vec<u8>, namespace: String) {
        let mut record = m::Record::decode(&*bytes).unwrap_or_default();
        for of in ["sandbox", "container"] {
            let extension = format!("io.cri-containerd.{of}.metadata");
            let any = m::Any { value: value.clone(), ..m::Any::default() };
            record.extensions.insert(extension, any);
        }
        let mut pods = Pods::default();
        drop(pods.wanted(&record));
        pods.learn(&record);
        drop(container(&namespace, record, None, &pods));
    }
}

const TOPICS: usize = answers::TOPICS.len();
