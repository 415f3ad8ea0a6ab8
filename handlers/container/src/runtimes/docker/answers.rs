//! The daemon's answers in our words. Nothing in them is trusted to be there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage};
use whalewatch_core::{Container, Runtime, Status, Timestamp};

use crate::request::News;

/// What an event of the daemon's stream says.
pub(super) struct Happened {
    pub(super) news: News,
    /// What a container that is removed was called.
    pub(super) called: Option<Container>,
    /// This container is worth an inspection: more has changed than the event tells.
    pub(super) look_at: Option<Arc<str>>,
}

/// Reads an event of the daemon's stream; `None` if it is nothing to us.
pub(super) fn happened(event: EventMessage, runtime: Runtime) -> Option<Happened> {
    let actor = event.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let attributes = actor.attributes.unwrap_or_default();
    let alone = |news| Some(Happened { news, called: None, look_at: None });
    let status = |id, status| alone(News::Status { id, status });
    match event.action?.as_str() {
        "create" => {
            alone(News::Container(Box::new(told(&id, attributes, Status::Created, runtime))))
        }
        "start" => Some(Happened {
            look_at: Some(id.as_str().into()),
            called: None,
            news: News::Container(Box::new(told(&id, attributes, Status::Running, runtime))),
        }),
        "unpause" => status(id, Status::Running),
        "pause" => status(id, Status::Paused),
        "die" => status(id, Status::Exited),
        "destroy" => Some(Happened {
            called: Some(told(&id, attributes, Status::Unknown, runtime)),
            look_at: None,
            news: News::Removed { id },
        }),
        "rename" => alone(News::Renamed { name: name(attributes.get("name")?)?, id }),
        _ => None,
    }
}

/// Reads of an event what its container is called, and nothing of how it fares.
pub(super) fn called(event: EventMessage, runtime: Runtime) -> Option<Container> {
    let actor = event.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let attributes = actor.attributes.unwrap_or_default();
    let told = told(&id, attributes, Status::Unknown, runtime);
    match event.action?.as_str() {
        "create" | "start" | "destroy" => Some(told),
        // Among the labels are an exit code and an old name.
        "die" | "rename" => Some(Container { labels: BTreeMap::new(), ..told }),
        _ => None,
    }
}

/// The attributes of these events are the container's name and image and, among them, its labels.
fn told(
    id: &str,
    mut attributes: HashMap<String, String>,
    status: Status,
    runtime: Runtime,
) -> Container {
    let name = attributes.remove("name").and_then(|n| name(&n));
    let image = attributes.remove("image");
    Container {
        name: name.map(Into::into),
        image: image.map(Into::into),
        status,
        labels: attributes.into_iter().collect(),
        ..Container::bare(id, runtime)
    }
}

/// A container of the daemon's list.
pub(super) fn listed(summary: ContainerSummary, runtime: Runtime) -> Option<Container> {
    let names = summary.names.unwrap_or_default();
    // A linked container has names like /other/alias as well.
    let own = names.iter().find(|n| !n.trim_start_matches('/').contains('/'));
    let state = summary.state.map(|s| Status::parse(s.as_ref()));
    let status = state.filter(|&s| s != Status::Unknown);
    Some(Container {
        name: own.or(names.first()).and_then(|n| name(n)).map(Into::into),
        image: summary.image.map(Into::into),
        status: status.unwrap_or_else(|| Status::parse(&summary.status.unwrap_or_default())),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        ..Container::bare(summary.id?, runtime)
    })
}

/// A container that was inspected.
pub(super) fn inspected(answer: ContainerInspectResponse, runtime: Runtime) -> Option<Container> {
    let config = answer.config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok());
    Some(Container {
        name: answer.name.as_deref().and_then(name).map(Into::into),
        image: config.image.map(Into::into),
        status: state.status.map_or(Status::Unknown, |s| Status::parse(s.as_ref())),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        init_pid: pid.filter(|&pid| pid != 0),
        started_at: state.started_at.as_deref().and_then(time),
        ..Container::bare(answer.id?, runtime)
    })
}

fn name(text: &str) -> Option<String> {
    let name = text.trim_start_matches('/');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The daemon says 0001-01-01T00:00:00Z for never.
fn time(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerConfig, ContainerState, EventActor};

    fn happened_in_docker(event: EventMessage) -> Option<Happened> {
        happened(event, Runtime::Docker)
    }

    fn event(action: &str, attributes: &[(&str, &str)]) -> Option<Happened> {
        let owned = |&(k, v): &(&str, &str)| (k.to_owned(), v.to_owned());
        happened_in_docker(EventMessage {
            action: Some(action.into()),
            actor: Some(EventActor {
                id: Some("x".into()),
                attributes: Some(attributes.iter().map(owned).collect()),
            }),
            ..EventMessage::default()
        })
    }

    #[test]
    fn create_brings_name_image_and_labels_before_anything_runs() {
        let told = event("create", &[("name", "web"), ("image", "bb:1"), ("team", "a")]).unwrap();
        let News::Container(container) = told.news else { panic!("{:?}", told.news) };
        assert_eq!(container.name.as_deref(), Some("web"));
        assert_eq!(container.image.as_deref(), Some("bb:1"));
        assert_eq!(container.status, Status::Created);
        assert_eq!(container.labels, [("team".into(), "a".into())].into());
        assert_eq!(told.look_at, None);
        assert!(event("start", &[]).unwrap().look_at.is_some());
    }

    #[test]
    fn a_name_is_read_from_any_event_and_labels_from_those_with_nothing_else() {
        let read = |action: &str| {
            let attributes = [("name", "web"), ("image", "bb:1"), ("exitCode", "0")];
            let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let actor = Some(EventActor { id: Some("x".into()), attributes: Some(attributes) });
            let event =
                EventMessage { action: Some(action.into()), actor, ..EventMessage::default() };
            called(event, Runtime::Docker).map(|container| (container.name, container.labels.len()))
        };
        for (action, labels) in
            [("create", 1), ("start", 1), ("die", 0), ("destroy", 1), ("rename", 0)]
        {
            assert_eq!(read(action), Some((Some("web".into()), labels)), "{action}");
        }
        assert_eq!(read("exec_start: /bin/sh"), None);
        assert!(called(EventMessage::default(), Runtime::Docker).is_none());
    }

    #[test]
    fn each_event_is_read_and_others_are_nothing_to_us() {
        let id = || "x".to_owned();
        for (action, want) in [
            ("pause", News::Status { id: id(), status: Status::Paused }),
            ("unpause", News::Status { id: id(), status: Status::Running }),
            ("die", News::Status { id: id(), status: Status::Exited }),
            ("destroy", News::Removed { id: id() }),
            ("rename", News::Renamed { id: id(), name: "new".into() }),
        ] {
            assert_eq!(event(action, &[("name", "/new")]).unwrap().news, want);
        }
        assert!(event("exec_start: /bin/sh", &[]).is_none());
        assert!(event("rename", &[]).is_none());
        assert!(happened_in_docker(EventMessage::default()).is_none());
    }

    #[test]
    fn the_status_is_read_from_either_text_and_a_linked_name_is_not_its_own() {
        let summary = ContainerSummary {
            id: Some("x".into()),
            names: Some(vec!["/front/db".into(), "/db".into()]),
            status: Some("Up 3 minutes (Paused)".into()),
            ..ContainerSummary::default()
        };
        let container = listed(summary, Runtime::Docker).unwrap();
        assert_eq!(container.name.as_deref(), Some("db"));
        assert_eq!(container.status, Status::Paused);
        assert!(listed(ContainerSummary::default(), Runtime::Docker).is_none());
    }

    #[test]
    fn an_inspection_tells_pid_and_start_unless_it_never_ran() {
        let answer = |pid, started: &str| ContainerInspectResponse {
            id: Some("x".into()),
            name: Some("/web".into()),
            config: Some(ContainerConfig { image: Some("bb:1".into()), ..Default::default() }),
            state: Some(ContainerState {
                pid: Some(pid),
                started_at: Some(started.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let inspected = |answer| inspected(answer, Runtime::Docker);
        let ran = inspected(answer(42, "1970-01-01T00:00:01.5Z")).unwrap();
        assert_eq!((ran.init_pid, ran.started_at), (Some(42), Some(Timestamp(1_500_000_000))));
        let never = inspected(answer(0, "0001-01-01T00:00:00Z")).unwrap();
        assert_eq!((never.init_pid, never.started_at), (None, None));
        assert_eq!(inspected(answer(-1, "rubbish")).unwrap().init_pid, None);
    }
}
