//! Translation of the daemon's answers. Any field may be missing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage};
use whalewatch_core::{Container, Runtime, Status, Timestamp};

use crate::protocol::Report;

/// An event of the daemon's stream.
pub(super) struct Happened {
    pub(super) report: Report,
    /// The name of a container that was removed.
    pub(super) named: Option<Container>,
    /// A container to inspect, because more has changed than the event says.
    pub(super) look_at: Option<Arc<str>>,
}

/// Reads an event; `None` if it does not matter here.
pub(super) fn happened(event: EventMessage, runtime: Runtime) -> Option<Happened> {
    let actor = event.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let attributes = actor.attributes.unwrap_or_default();
    let alone = |report| Some(Happened { report, named: None, look_at: None });
    let changed = |id, status| alone(Report::Status { id, status });
    match event.action?.as_str() {
        "create" => {
            alone(Report::Container(Box::new(described(&id, attributes, Status::Created, runtime))))
        }
        "start" => Some(Happened {
            look_at: Some(id.as_str().into()),
            named: None,
            report: Report::Container(Box::new(described(
                &id,
                attributes,
                Status::Running,
                runtime,
            ))),
        }),
        "unpause" => changed(id, Status::Running),
        "pause" => changed(id, Status::Paused),
        "die" => changed(id, Status::Exited),
        "destroy" => Some(Happened {
            named: Some(described(&id, attributes, Status::Unknown, runtime)),
            look_at: None,
            report: Report::Removed { id },
        }),
        "rename" => alone(Report::Renamed { name: name(attributes.get("name")?)?, id }),
        _ => None,
    }
}

/// Reads the container's name, image and labels from an event, but not its status.
pub(super) fn name_in(event: EventMessage, runtime: Runtime) -> Option<Container> {
    let actor = event.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    let attributes = actor.attributes.unwrap_or_default();
    let described = described(&id, attributes, Status::Unknown, runtime);
    match event.action?.as_str() {
        "create" | "start" | "destroy" => Some(described),
        // Here an exit code or an old name is among the labels.
        "die" | "rename" => Some(Container { labels: BTreeMap::new(), ..described }),
        _ => None,
    }
}

/// Reads the container from an event's attributes: its name, its image and, beside them, its
/// labels.
fn described(
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

/// Reads a container in a listing.
pub(super) fn listed(summary: ContainerSummary, runtime: Runtime) -> Option<Container> {
    let names = summary.names.unwrap_or_default();
    // A linked container also has names like /other/alias.
    let own = names.iter().find(|n| !n.trim_start_matches('/').contains('/'));
    let state = summary.state.map(|s| status(s.as_ref())).filter(|&s| s != Status::Unknown);
    Some(Container {
        name: own.or(names.first()).and_then(|n| name(n)).map(Into::into),
        image: summary.image.map(Into::into),
        status: state.unwrap_or_else(|| status(&summary.status.unwrap_or_default())),
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        ..Container::bare(summary.id?, runtime)
    })
}

/// Reads an inspected container.
pub(super) fn inspected(answer: ContainerInspectResponse, runtime: Runtime) -> Option<Container> {
    let config = answer.config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok());
    Some(Container {
        name: answer.name.as_deref().and_then(name).map(Into::into),
        image: config.image.map(Into::into),
        status: state.status.map_or(Status::Unknown, |s| status(s.as_ref())),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        init_pid: pid.filter(|&pid| pid != 0),
        started_at: state.started_at.as_deref().and_then(time),
        ..Container::bare(answer.id?, runtime)
    })
}

/// Reads a status: the `State` word (`running`), or the `Status` line for people (`Up 3 minutes
/// (Paused)`, `Exited (0) 2 hours ago`). Anything else is [`Status::Unknown`].
fn status(text: &str) -> Status {
    let text = text.trim().to_ascii_lowercase();
    let first = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
    match first {
        "up" | "running" if text.contains("(paused)") => Status::Paused,
        "up" | "running" => Status::Running,
        "created" => Status::Created,
        "paused" => Status::Paused,
        "restarting" => Status::Restarting,
        "removing" | "removal" => Status::Removing,
        "exited" => Status::Exited,
        "dead" => Status::Dead,
        _ => Status::Unknown,
    }
}

fn name(text: &str) -> Option<String> {
    let name = text.trim_start_matches('/');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Reads a time. The daemon says 0001-01-01T00:00:00Z for never.
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
    fn status_is_read_from_the_word_and_from_the_line_for_people() {
        for (text, want) in [
            ("running", Status::Running),
            ("Up 3 minutes", Status::Running),
            ("Up 3 minutes (Paused)", Status::Paused),
            ("Up 5 seconds (health: starting)", Status::Running),
            ("Exited (137) 2 hours ago", Status::Exited),
            ("exited", Status::Exited),
            ("Created", Status::Created),
            ("Restarting (1) 4 seconds ago", Status::Restarting),
            ("Removal In Progress", Status::Removing),
            ("Dead", Status::Dead),
            ("", Status::Unknown),
            ("Upside down", Status::Unknown),
        ] {
            assert_eq!(status(text), want, "{text:?}");
        }
    }

    #[test]
    fn create_event_has_name_image_and_labels() {
        let described =
            event("create", &[("name", "web"), ("image", "bb:1"), ("team", "a")]).unwrap();
        let Report::Container(container) = described.report else {
            panic!("{:?}", described.report)
        };
        assert_eq!(container.name.as_deref(), Some("web"));
        assert_eq!(container.image.as_deref(), Some("bb:1"));
        assert_eq!(container.status, Status::Created);
        assert_eq!(container.labels, [("team".into(), "a".into())].into());
        assert_eq!(described.look_at, None);
        assert!(event("start", &[]).unwrap().look_at.is_some());
    }

    #[test]
    fn name_is_read_from_any_event_and_labels_from_clean_ones() {
        let read = |action: &str| {
            let attributes = [("name", "web"), ("image", "bb:1"), ("exitCode", "0")];
            let attributes = attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let actor = Some(EventActor { id: Some("x".into()), attributes: Some(attributes) });
            let event =
                EventMessage { action: Some(action.into()), actor, ..EventMessage::default() };
            name_in(event, Runtime::Docker)
                .map(|container| (container.name, container.labels.len()))
        };
        for (action, labels) in
            [("create", 1), ("start", 1), ("die", 0), ("destroy", 1), ("rename", 0)]
        {
            assert_eq!(read(action), Some((Some("web".into()), labels)), "{action}");
        }
        assert_eq!(read("exec_start: /bin/sh"), None);
        assert!(name_in(EventMessage::default(), Runtime::Docker).is_none());
    }

    #[test]
    fn known_events_are_read_and_others_ignored() {
        let id = || "x".to_owned();
        for (action, want) in [
            ("pause", Report::Status { id: id(), status: Status::Paused }),
            ("unpause", Report::Status { id: id(), status: Status::Running }),
            ("die", Report::Status { id: id(), status: Status::Exited }),
            ("destroy", Report::Removed { id: id() }),
            ("rename", Report::Renamed { id: id(), name: "new".into() }),
        ] {
            assert_eq!(event(action, &[("name", "/new")]).unwrap().report, want);
        }
        assert!(event("exec_start: /bin/sh", &[]).is_none());
        assert!(event("rename", &[]).is_none());
        assert!(happened_in_docker(EventMessage::default()).is_none());
    }

    #[test]
    fn listing_has_status_and_own_name_not_the_linked_one() {
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
    fn inspection_has_pid_and_start_unless_it_never_ran() {
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
