//! What a request must be like; stricter than any collector is.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, SeverityNumber};

type Check = Result<(), String>;
type Attributes<'a> = BTreeMap<&'a str, &'a Any>;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
/// How far the clocks may be apart.
const SKEW: Duration = Duration::from_secs(1);

/// The first thing that is wrong with a request.
pub(crate) fn check(request: &ExportLogsServiceRequest) -> Check {
    want(!request.resource_logs.is_empty(), "a request has records")?;
    let mut resources = Vec::new();
    for logs in &request.resource_logs {
        let resource = logs.resource.as_ref().ok_or("a resource is missing")?;
        want(!resources.contains(&resource), "a resource is in a request only once")?;
        resources.push(resource);
        want(resource.dropped_attributes_count == 0, "nothing of a resource is dropped")?;
        let attributes = attributes(&resource.attributes)?;
        check_resource(&attributes).map_err(|why| format!("{why}: {resource:?}"))?;
        check_scopes(logs, &attributes)?;
    }
    Ok(())
}

fn want(holds: bool, what: &str) -> Check {
    if holds { Ok(()) } else { Err(format!("broken: {what}")) }
}

/// Keys are there and unique, values are there and of one type each.
fn attributes(pairs: &[KeyValue]) -> Result<Attributes<'_>, String> {
    let mut map = BTreeMap::new();
    for pair in pairs {
        want(!pair.key.is_empty() && pair.key.is_ascii(), "an attribute has a name")?;
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let value = value.ok_or_else(|| format!("{} has no value", pair.key))?;
        check_value(value).map_err(|why| format!("{}: {why}", pair.key))?;
        if map.insert(&*pair.key, value).is_some() {
            return Err(format!("{} is there twice", pair.key));
        }
    }
    Ok(map)
}

fn check_value(value: &Any) -> Check {
    match value {
        Any::StringValue(_) | Any::BoolValue(_) | Any::IntValue(_) => Ok(()),
        Any::BytesValue(bytes) => {
            want(std::str::from_utf8(bytes).is_err(), "text that is UTF-8 is a string")
        }
        Any::ArrayValue(list) => list.values.iter().try_for_each(|item| match &item.value {
            Some(Any::StringValue(_)) => Ok(()),
            Some(value @ Any::BytesValue(_)) => check_value(value),
            other => Err(format!("lists hold texts, not {other:?}")),
        }),
        other => Err(format!("events have no such values: {other:?}")),
    }
}

fn text<'a>(attributes: &Attributes<'a>, name: &str) -> Result<Option<&'a str>, String> {
    match attributes.get(name) {
        None => Ok(None),
        Some(Any::StringValue(text)) if !text.is_empty() => Ok(Some(text)),
        Some(other) => Err(format!("{name} is not text: {other:?}")),
    }
}

fn check_resource(attributes: &Attributes<'_>) -> Check {
    let text = |name: &str| text(attributes, name);
    want(text("service.name")? == Some("whalewatch"), "the service is named")?;
    want(text("host.name")?.is_some(), "the host is named")?;
    want(text("os.type")? == Some("linux"), "the system is named")?;
    let known = [
        "service.name",
        "host.name",
        "os.type",
        "container.id",
        "container.name",
        "container.image.name",
        "container.image.tags",
        "container.image.repo_digests",
        "container.runtime.name",
    ];
    let odd = attributes.keys().find(|name| !known.contains(name));
    want(odd.is_none(), "a resource has what the conventions have for it")?;
    match text("container.id")? {
        None => want(
            !attributes.keys().any(|name| name.starts_with("container.")),
            "nothing is said of a container without an id",
        ),
        Some(id) => {
            want(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "the id is whole")?;
            want(text("container.runtime.name")? == Some("docker"), "the runtime is named")?;
            let image = text("container.image.name")?;
            want(image.is_none_or(|image| !image.contains(':')), "the tag is separate")
        }
    }
}

fn check_scopes(logs: &ResourceLogs, resource: &Attributes<'_>) -> Check {
    want(logs.schema_url == SCHEMA, "the schema URL names the conventions' version")?;
    want(logs.scope_logs.len() == 1, "there is one scope")?;
    for scope_logs in &logs.scope_logs {
        let scope = scope_logs.scope.as_ref().ok_or("a scope is missing")?;
        want(scope.name == "whalewatch" && !scope.version.is_empty(), "the scope is named")?;
        want(scope_logs.schema_url == SCHEMA, "the schema URL names the conventions' version")?;
        want(!scope_logs.log_records.is_empty(), "no scope is empty")?;
        for record in &scope_logs.log_records {
            check_record(record, resource).map_err(|why| format!("{why}: {record:?}"))?;
        }
    }
    Ok(())
}

fn check_record(record: &LogRecord, resource: &Attributes<'_>) -> Check {
    check_times(record)?;
    let severity = SeverityNumber::try_from(record.severity_number);
    want(severity == Ok(SeverityNumber::Info), "a process event is not an alert")?;
    want(record.severity_text == "INFO", "the severity's text fits its number")?;
    let (first, second) = record.event_name.split_once('.').unwrap_or_default();
    want(!first.is_empty() && !second.is_empty(), "the event is named")?;
    let body = record.body.as_ref().and_then(|AnyValue { value, .. }| value.as_ref());
    let starts = |text: &String| text.starts_with(&record.event_name) && text.len() < 300;
    want(matches!(body, Some(Any::StringValue(text)) if starts(text)), "the body is a short text")?;
    want(record.dropped_attributes_count == 0, "nothing is dropped")?;
    want(record.flags == 0 && record.trace_id.is_empty(), "no trace is claimed")?;
    want(record.span_id.is_empty(), "no span is claimed")?;

    let attributes = attributes(&record.attributes)?;
    for elsewhere in ["time", "kind", "host.name", "container.id", "container.name"] {
        want(!attributes.contains_key(elsewhere), "a field is not repeated as an attribute")?;
    }
    if first == "process" {
        let pid = attributes.get("process.pid");
        want(matches!(pid, Some(Any::IntValue(pid)) if *pid > 0), "process.pid is a number")?;
        want(text(&attributes, "process.comm")?.is_some(), "process.comm is a text")?;
    }
    if record.event_name == "process.exec" {
        let args = attributes.get("process.command_args");
        want(matches!(args, Some(Any::ArrayValue(_))), "process.command_args is a list")?;
    }
    let (id, name) = (text(resource, "container.id")?, text(resource, "container.name")?);
    let fits = match text(&attributes, "attribution.state")? {
        Some("resolved") => id.is_some() && name.is_some(),
        Some("pending") => id.is_some() && name.is_none(),
        Some("host" | "unknown") => id.is_none(),
        _ => false,
    };
    want(fits, "the resource is the container of the attribution")
}

fn check_times(record: &LogRecord) -> Check {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (time, observed) = (record.time_unix_nano, record.observed_time_unix_nano);
    want(time > 0, "a record has its time")?;
    want(observed >= time, "nothing is observed before it happens")?;
    want(u128::from(observed) <= (now + SKEW).as_nanos(), "nothing is observed in the future")
}
