//! The client against a fake runtime.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::protocol::{Report, Request};
use crate::runtimes::remote::testing::{
    Asked, Fake, LONG, MS, NOT_FOUND, Reply, UNIMPLEMENTED, hasty, next, not_known, says, settings,
    with_client,
};
use crate::tests::rig::{id, wait_until};

fn pod() -> m::Pod {
    m::Pod {
        id: id(1),
        metadata: Some(m::PodMetadata {
            name: "web-0".into(),
            uid: "u".into(),
            namespace: "shop".into(),
        }),
        ..m::Pod::default()
    }
}

fn nginx() -> m::Container {
    m::Container {
        id: id(7),
        pod: id(1),
        metadata: Some(m::ContainerMetadata { name: "nginx".into() }),
        image: Some(m::Image { image: format!("sha256:{}", id(3)), ..m::Image::default() }),
        state: 1,
        ..m::Container::default()
    }
}

/// A runtime with one pod, and one container in it.
fn serves(asked: &Asked) -> Reply {
    let wanted = || asked.read::<m::ListRequest>().filter.map(|filter| filter.id);
    let info = |json: &str| [("info".to_owned(), json.to_owned())].into();
    match &*asked.method {
        m::VERSION => says(&m::VersionResponse { runtime_name: "containerd".into() }),
        m::LIST_PODS => {
            let pods = vec![pod()].into_iter().filter(|p| wanted().is_none_or(|id| p.id == id));
            says(&m::ListPodsResponse { pods: pods.collect() })
        }
        m::LIST_CONTAINERS => {
            let all = vec![nginx()].into_iter().filter(|c| wanted().is_none_or(|id| c.id == id));
            says(&m::ListContainersResponse { containers: all.collect() })
        }
        m::CONTAINER_STATUS => says(&m::ContainerStatusResponse {
            status: Some(m::ContainerStatus {
                started_at: 5,
                image: Some(m::Image { image: "docker.io/nginx:1".into(), ..m::Image::default() }),
            }),
            info: info(r#"{"pid":70}"#),
        }),
        m::POD_STATUS => {
            says(&m::PodStatusResponse { info: info(r#"{"pid":71,"image":"pause:3"}"#) })
        }
        m::EVENTS => UNIMPLEMENTED,
        _ => NOT_FOUND,
    }
}

fn wait_for(reports: &std::sync::mpsc::Receiver<Report>, short: u32) -> Container {
    let about = |report| match report {
        Report::Container(container)
            if *container.id == *id(short) && container.init_pid.is_some() =>
        {
            Some(*container)
        }
        _ => None,
    };
    next(reports, LONG, about).expect("it is reported")
}

fn inspect(short: u32) -> Request {
    Request::Inspect(id(short).into(), Runtime::Other)
}

#[test]
fn containers_and_sandboxes_are_reported_with_their_pod() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _fake = Fake::at(&socket, serves);
    with_client(start, settings(&socket, true), |client, reports| {
        client.ask(inspect(7));
        client.ask(inspect(1));
        let nginx = wait_for(reports, 7);
        assert_eq!(nginx.name.as_deref(), Some("nginx"));
        assert_eq!(nginx.image.as_deref(), Some("docker.io/nginx:1"));
        assert_eq!((nginx.init_pid, nginx.started_at.unwrap().0), (Some(70), 5));
        assert_eq!((nginx.runtime, nginx.status), (Runtime::Containerd, State::Running));
        let fields = |c: &Container| c.kubernetes().map(|(_, v)| v.to_owned()).collect::<Vec<_>>();
        assert_eq!(fields(&nginx), ["web-0", "shop", "u", "nginx"]);
        client.ask(inspect(1));
        let sandbox = wait_for(reports, 1);
        assert_eq!(sandbox.name.as_deref(), Some("web-0"));
        assert_eq!((sandbox.image.as_deref(), sandbox.init_pid), (Some("pause:3"), Some(71)));
        assert_eq!(fields(&sandbox), ["web-0", "shop", "u"]);
    });
}

#[test]
fn container_listed_without_an_image_name_is_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _fake = Fake::at(&socket, serves);
    with_client(start, settings(&socket, true), |_, reports| {
        assert_eq!(wait_for(reports, 7).image.as_deref(), Some("docker.io/nginx:1"));
    });
}

#[test]
fn service_without_the_interface_is_not_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _fake = Fake::at(&socket, |_| UNIMPLEMENTED);
    with_client(start, settings(&socket, false), |client, reports| {
        client.ask(inspect(7));
        assert!(not_known(reports, LONG, &id(7)));
        client.ask(inspect(8));
        assert!(not_known(reports, MS(100), &id(8)), "at once, from now on");
    });
}

#[test]
fn docker_is_left_to_its_own_client() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _fake = Fake::at(&socket, |_| says(&m::VersionResponse { runtime_name: "docker".into() }));
    with_client(start, settings(&socket, false), |client, reports| {
        client.ask(inspect(7));
        assert!(not_known(reports, LONG, &id(7)));
    });
}

#[test]
fn hung_runtime_is_heard_when_it_wakes() {
    static HANGS: AtomicBool = AtomicBool::new(true);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let answer = |asked: &Asked| if HANGS.load(SeqCst) { Reply::Hangs } else { serves(asked) };
    let fake = Fake::at(&socket, answer);
    with_client(start, hasty(&socket, false), |client, reports| {
        client.ask(inspect(7));
        wait_until(|| fake.asked(m::VERSION) >= 2); // it has given up once
        HANGS.store(false, SeqCst);
        assert_eq!(wait_for(reports, 7).name.as_deref(), Some("nginx"));
    });
}

#[test]
fn runtime_without_events_is_listed_once_until_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let answer = |asked: &Asked| match &*asked.method {
        m::EVENTS => Reply::Says(Vec::new()), // CRI-O without enable_pod_events
        _ => serves(asked),
    };
    let fake = Fake::at(&socket, answer);
    with_client(start, settings(&socket, true), |_, reports| {
        wait_for(reports, 7);
        wait_until(|| fake.asked(m::VERSION) >= 4); // heartbeats instead of events
        assert_eq!(fake.asked(m::EVENTS), 1);
        fake.die();
        let fake = Fake::at(&socket, answer);
        wait_for(reports, 7);
        assert_eq!(fake.asked(m::EVENTS), 1);
    });
}

#[test]
fn events_are_followed() {
    let event = |kind| m::Event { container: id(7), kind };
    let status = |status| Some(Report::Status { id: id(7), status });
    for (kind, report, look_at) in [
        (0, None, true),
        (1, status(State::Running), true),
        (2, status(State::Exited), false),
        (3, Some(Report::Removed { id: id(7) }), false),
    ] {
        let look_at = look_at.then(|| id(7).into());
        assert_eq!(answers::happened(event(kind)), Some(Happened { report, look_at }));
    }
    assert_eq!(answers::happened(event(9)), None);
    assert_eq!(answers::happened(m::Event { container: "x".into(), kind: 1 }), None);
}

proptest! {
    #[test]
    fn any_answer_is_read_without_panic(bytes: Vec<u8>, json: String, ids: bool) {
        let mut container = m::Container::decode(&*bytes).unwrap_or_default();
        let mut pod = m::Pod::decode(&*bytes).unwrap_or_default();
        if ids {
            (container.id, pod.id) = (id(7), id(1));
        }
        let told = answers::container(container, Some(&pod), Runtime::Other);
        let sandbox = answers::sandbox(&pod, Runtime::Other);
        let info = [("info".to_owned(), json)];
        for mut container in told.into_iter().chain(sandbox) {
            let status = m::ContainerStatus::decode(&*bytes).ok();
            let info: HashMap<_, _> = info.clone().into();
            let answer = m::ContainerStatusResponse { status, info: info.clone() };
            answers::complete(&mut container, answer);
            answers::complete_sandbox(&mut container, &m::PodStatusResponse { info });
        }
        if let Ok(event) = m::Event::decode(&*bytes) {
            drop(answers::happened(event));
        }
    }
}
