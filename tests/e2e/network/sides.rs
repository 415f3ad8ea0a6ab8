//! Compares a workload's report of itself with the events.

use serde_json::{Value, json};
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Finished;

/// Where a workload ran.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Host,
    Container(&'a str),
}

/// A workload's report, and the place where it ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) report: &'a Value,
}

/// The events of a kind that this side's process did. Each has that process, its container and its
/// network namespace.
pub(crate) fn of_side<'a>(finished: &'a Finished, side: Side<'_>, kind: &str) -> Vec<&'a Event> {
    // A process in a container knows the pid that it has there; the first of another container may
    // have begun at the same tick.
    let pid = match side.place {
        Place::Host => "pid",
        Place::Container(_) => "vpid",
    };
    let ours = |event: &&Event| {
        let process = &event.0["process"];
        event.kind() == kind
            && process[pid] == side.report["pid"]
            && process["namespaces"]["net"] == side.report["namespace"]
            && ticks(&process["start_time"]) == side.report["start_time"].as_u64()
    };
    let events: Vec<&Event> = finished.events.iter().filter(ours).collect();
    for event in &events {
        assert_eq!(event.0["process"]["comm"], "workload", "{}", event.0);
        assert_eq!(event.0["network"]["namespace"], side.report["namespace"], "{}", event.0);
        match side.place {
            Place::Host => assert_eq!(event.state(), "host", "{}", event.0),
            Place::Container(name) => {
                assert_eq!(event.container_name(), Some(name), "{}", event.0);
            }
        }
    }
    events
}

/// Nanoseconds since boot in the clock ticks of `/proc`.
pub(crate) fn ticks(nanoseconds: &Value) -> Option<u64> {
    Some(nanoseconds.as_u64()? / 10_000_000)
}

#[track_caller]
pub(crate) fn only<'a>(finished: &'a Finished, side: Side<'_>, kind: &str) -> &'a Event {
    let events = of_side(finished, side, kind);
    let all: Vec<&Value> = finished.events.iter().map(|event| &event.0).collect();
    assert_eq!(events.len(), 1, "{kind} of {side:?} in {all:#?}");
    events[0]
}

/// Asserts what an event has under `network`, all of it; `bounded` are numbers that are above 0 and
/// at most so large.
#[track_caller]
pub(crate) fn check(event: &Event, expected: &Value, bounded: &[(&str, &Value)]) {
    let mut network = event.0["network"].clone();
    for (pointer, most) in bounded {
        let value = network.pointer(pointer).and_then(Value::as_u64);
        let most = most.as_u64().expect("the workload reports how long it took");
        let value = value.unwrap_or_else(|| panic!("no {pointer} in {}", event.0));
        assert!((1..=most).contains(&value), "{pointer} is {value}, not 1 to {most}: {}", event.0);
        take(&mut network, pointer);
    }
    take(&mut network, "/namespace"); // `of_side` has looked at it.
    assert_eq!(&network, expected, "{}", event.0);
}

/// Takes a value out, and the object that it was in where nothing is left in there.
pub(crate) fn take(value: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    if let Some(object) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
        object.remove(name);
        if object.is_empty() && !parent.is_empty() {
            take(value, parent);
        }
    }
}

#[track_caller]
pub(crate) fn check_error(event: &Event, number: i64, name: &str) {
    assert_eq!(event.0["error"], json!({"code": number, "type": name}), "{}", event.0);
}

/// Both ends of a connection, as one event has them.
pub(crate) fn ends(transport: &str, kind: &str, ends: &Value) -> Value {
    json!({"transport": transport, "type": kind, "local": ends["local"], "peer": ends["peer"]})
}

pub(crate) fn with(mut value: Value, more: &Value) -> Value {
    let (Some(object), Some(more)) = (value.as_object_mut(), more.as_object()) else { panic!() };
    object.extend(more.clone());
    value
}

/// The ends of a connection as the other side has them.
pub(crate) fn turned(ends: &Value) -> Value {
    json!({"local": ends["peer"], "peer": ends["local"]})
}
