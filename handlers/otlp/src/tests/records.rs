//! Tests of the content of records, decoded with the messages generated from OpenTelemetry's files.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use proptest::prelude::*;
use prost::Message as _;
use whalewatch_core::{Attribution, Container, Evidence, Status, Type};
use whalewatch_kit::Template;
use whalewatch_testing::{Odd, Ran, TestEvent, TestType, bare, example, named};

use super::*;
use crate::groups::{Groups, SCHEMA_URL};

const NOW: u64 = 1_800_000_000_000_000_000;

fn groups() -> Groups {
    Groups::new("node-1", &BTreeMap::new(), None, false)
}

fn request(groups: &mut Groups, batches: &[Batch]) -> Vec<ResourceLogs> {
    for batch in batches {
        groups.add(batch, NOW, |_| ());
    }
    let request = ExportLogsServiceRequest::decode(groups.request()).expect("a request");
    request.resource_logs
}

fn one(batch: Batch) -> LogRecord {
    let mut all = request(&mut groups(), &[batch]);
    all.remove(0).scope_logs.remove(0).log_records.remove(0)
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<&str, &Any> {
    let map: BTreeMap<_, _> = pairs
        .iter()
        .map(|pair| {
            (&*pair.key, pair.value.as_ref().and_then(|v| v.value.as_ref()).expect("a value"))
        })
        .collect();
    assert_eq!(map.len(), pairs.len(), "a key appears twice: {pairs:?}");
    map
}

fn text(value: &str) -> Any {
    Any::StringValue(value.to_owned())
}

fn texts(values: &[&str]) -> Any {
    let values = values.iter().map(|v| AnyValue { value: Some(text(v)) }).collect();
    Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values })
}

#[test]
fn an_event_becomes_a_record_with_all_its_fields() {
    let record = one(Batch::new("procs".into(), vec![example()]));
    assert_eq!(record.time_unix_nano, 1_795_441_580_171_234_567);
    assert_eq!(record.observed_time_unix_nano, NOW);
    assert_eq!((record.severity_number, &*record.severity_text), (9, "INFO"));
    assert_eq!(record.event_name, "process.exec");
    let body = record.body.expect("a body").value.expect("a value");
    assert_eq!(body, text("process.exec by true[19920]"));
    let attributes = attributes(&record.attributes);
    assert_eq!(attributes["process.pid"], &Any::IntValue(19920));
    assert_eq!(attributes["process.executable.path"], &text("/bin/true"));
    assert_eq!(attributes["process.command_args"], &texts(&["/bin/true"]));
    assert!(!attributes.contains_key("process.exit.code"), "fields without a value are left out");
    assert!(!attributes.contains_key("time") && !attributes.contains_key("kind"));
    assert_eq!(record.dropped_attributes_count, 0);
}

#[test]
fn every_type_of_value_has_its_type_in_a_record() {
    let record = one(Batch::new("odd".into(), vec![Odd]));
    let got = attributes(&record.attributes);
    let empty = texts(&[]);
    let want = BTreeMap::from([
        ("container.own", Any::IntValue(1)),
        ("a.yes", Any::BoolValue(true)),
        ("a.b.c", Any::IntValue(-5)),
        ("when", text("1970-01-01T00:00:02.000000000Z")),
        ("list", empty),
        ("name", text("\x1b]0;x\x07")),
        ("a.yes.deep", Any::IntValue(7)),
        ("host.zone", text("b")),
    ]);
    assert_eq!(got, want.iter().map(|(key, value)| (*key, value)).collect());
    assert_eq!(record.observed_time_unix_nano, NOW);
}

/// Values that the types of OpenTelemetry cannot represent.
#[derive(Clone)]
struct Alert;

impl TestType for Alert {
    const NAME: &'static str = "alert";
    const KINDS: &'static [&'static str] = &["alert"];
    const FIELDS: &'static [(&'static str, Type)] =
        &[("alert.severity", Type::Text), ("large", Type::Uint), ("raw", Type::Text)];
}

#[test]
fn an_alert_has_its_severity_and_large_or_odd_values() {
    let alert = TestEvent::<Alert>::of("alert")
        .at(NOW + 5)
        .with("alert.severity", "high")
        .with("large", u64::MAX)
        .with("raw", &b"a\xff"[..]);
    let record = one(Batch::new("t".into(), vec![alert]));
    assert_eq!((record.severity_number, &*record.severity_text), (17, "high"));
    let attributes = attributes(&record.attributes);
    assert_eq!(attributes["large"], &text("18446744073709551615"));
    assert_eq!(attributes["raw"], &Any::BytesValue(b"a\xff".to_vec()));
    assert_eq!(record.observed_time_unix_nano, NOW + 5, "not before the time of the event");
}

fn in_pod(container: &Container) -> Arc<Container> {
    let labels = [
        ("io.kubernetes.pod.name".to_owned(), "web-0".to_owned()),
        ("io.kubernetes.container.name".to_owned(), "nginx".to_owned()),
    ];
    Arc::new(Container { labels: labels.into(), ..container.clone() })
}

#[test]
fn records_of_one_container_share_a_resource() {
    let web = in_pod(&named("ab", "web", "reg:5000/nginx:1.27", Status::Running));
    let again = in_pod(&named("ab", "web", "reg:5000/nginx:1.27", Status::Paused));
    let pending = Arc::new(bare("cd"));
    let inside = |container: &_| Attribution::container(Arc::clone(container), Evidence::Cgroup);
    let batch = Batch::new("procs".into(), vec![example(); 6]).with_attributions([
        inside(&web),
        Attribution::host(Evidence::Cgroup),
        inside(&again),
        inside(&pending),
        Attribution::unknown(),
        inside(&web),
    ]);
    let mut groups = groups();
    let all = request(&mut groups, &[batch]);
    let sizes: Vec<_> = all.iter().map(|r| r.scope_logs[0].log_records.len()).collect();
    assert_eq!(sizes, [3, 2, 1]);
    for logs in &all {
        assert_eq!((&*logs.schema_url, &*logs.scope_logs[0].schema_url), (SCHEMA_URL, SCHEMA_URL));
        assert_eq!(logs.scope_logs[0].scope.as_ref().expect("a scope").name, "whalewatch");
    }
    let resource = |i: usize| attributes(&all[i].resource.as_ref().expect("a resource").attributes);
    let common = [
        ("host.name", text("node-1")),
        ("os.type", text("linux")),
        ("service.name", text("whalewatch")),
    ];
    let own = [
        ("container.id", text("ab")),
        ("container.name", text("web")),
        ("container.image.name", text("reg:5000/nginx")),
        ("container.image.tags", texts(&["1.27"])),
        ("container.runtime.name", text("docker")),
        ("k8s.pod.name", text("web-0")),
        ("k8s.container.name", text("nginx")),
    ];
    let want: BTreeMap<_, _> = common.iter().chain(&own).map(|(k, v)| (*k, v)).collect();
    assert_eq!(resource(0), want);
    assert_eq!(resource(1), common.iter().map(|(k, v)| (*k, v)).collect());
    assert_eq!(resource(2)["container.id"], &text("cd"));
    assert!(!resource(2).contains_key("container.name"), "its name is not known yet");

    let of = |group: usize, record: usize| {
        attributes(&all[group].scope_logs[0].log_records[record].attributes)
    };
    assert_eq!(of(0, 0)["container.status"], &text("running"));
    assert_eq!(
        of(0, 1)["container.status"],
        &text("paused"),
        "the state changes, so it is not in the resource"
    );
    assert_eq!(of(1, 0)["attribution.state"], &text("host"));
    assert_eq!(of(1, 1)["attribution.state"], &text("unknown"), "unknown is not host");
    assert!(!of(0, 0).contains_key("container.id"));
    assert!(!of(0, 0).contains_key("k8s.pod.name"));
    assert_eq!(request(&mut groups, &[]), [], "a record was sent twice");
}

#[test]
fn options_set_the_body_and_the_event_name() {
    let body =
        Template::parse("body", "{process.executable.path} on {host.name}").expect("a template");
    let resource = BTreeMap::from([("deployment.environment.name".into(), "prod".into())]);
    let mut groups = Groups::new("node-1", &resource, Some(body), true);
    let path = Some("/bin/\u{1b}[2J");
    let batch = Batch::new("procs".into(), vec![Ran { path, ..example() }]);
    let mut all = request(&mut groups, &[batch]);
    let logs = all.remove(0);
    let resource = logs.resource.expect("a resource").attributes;
    assert_eq!(attributes(&resource)["deployment.environment.name"], &text("prod"));
    let record = &logs.scope_logs[0].log_records[0];
    let body = record.body.as_ref().and_then(|body| body.value.as_ref()).expect("a body");
    assert_eq!(body, &text(r"/bin/\x1b[2J on node-1"));
    assert_eq!(attributes(&record.attributes)["event.name"], &text("process.exec"));
}

proptest! {
    #[test]
    fn any_arguments_and_containers_make_a_valid_request(
        args in prop::collection::vec(prop::collection::vec(1u8.., 0..200), 0..6),
        turns in prop::collection::vec(0usize..40, 1..60),
    ) {
        let containers: Vec<_> = (0..40)
            .map(|i| named(&format!("id{i}"), &format!("name{i}"), "i", Status::Running))
            .collect();
        let joined = args.iter().flat_map(|arg| arg.iter().copied().chain([0])).collect();
        let event = Ran { args: Some(joined), ..example() };
        let batch = Batch::new("procs".into(), vec![event; turns.len()]);
        let batch = batch.with_attributions(turns.iter().map(|turn| {
            Attribution::container(Arc::clone(&containers[*turn]), Evidence::Cgroup)
        }));
        let all = request(&mut groups(), &[batch]);
        let counts: BTreeMap<_, _> = all.iter().map(|logs| {
            let resource = attributes(&logs.resource.as_ref().expect("a resource").attributes);
            let Any::StringValue(id) = resource["container.id"] else { panic!("{resource:?}") };
            (id.clone(), logs.scope_logs[0].log_records.len())
        }).collect();
        let mut want = BTreeMap::new();
        for i in &turns {
            *want.entry(format!("id{i}")).or_insert(0) += 1;
        }
        prop_assert_eq!(counts, want);
        let record = &all[0].scope_logs[0].log_records[0];
        let got = attributes(&record.attributes);
        let Any::ArrayValue(list) = got["process.command_args"] else { panic!("{got:?}") };
        let list: Vec<_> = list.values.iter().map(|value| match &value.value {
            Some(Any::StringValue(text)) => text.as_bytes().to_vec(),
            Some(Any::BytesValue(bytes)) => bytes.clone(),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(list, args);
    }
}
