//! Options of the `otlp` handler.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, KUBERNETES, Problem, Schema};
use whalewatch_kit::Template;
use whalewatch_net::{Secret, TlsOptions, address, headers};

/// Options of the `otlp` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpOptions {
    /// The protocol of the receiver: `grpc`, or `http` with messages in Protocol Buffers.
    pub protocol: Protocol,
    /// The address of the receiver, `http://` or `https://`. For `http`, an address without a path
    /// gets `/v1/logs`. Not set: `http://localhost:4317` for `grpc`, `http://localhost:4318` for
    /// `http`.
    pub endpoint: Option<String>,
    /// Headers of each request. A value is a text, or is read at the start:
    /// `{ env = "TOKEN", prefix = "Bearer " }`, `{ file = "/run/secrets/token" }`.
    pub headers: BTreeMap<String, Secret>,
    /// The certificates for an `https://` receiver.
    pub tls: TlsOptions,
    /// The compression of requests: `none` or `gzip`.
    pub compression: Compression,
    /// The longest wait for the answer to a request: `1ms` to `1h`.
    pub timeout: HumanDuration,
    /// The most events in one request, 1 to 10000. A request is sent with fewer when it reaches
    /// 2 MiB.
    pub batch: u32,
    /// The longest wait of an event for its request to become full, up to `1h`.
    pub interval: HumanDuration,
    /// The most events that wait for the receiver: at least `batch`, at most 10 million. When that
    /// many wait, further events are dropped and counted.
    pub max_queued: u32,
    /// The pause before a request is retried, `1ms` to `1h`. It doubles with each attempt and is
    /// shortened at random by up to a half. If the receiver requests a pause, that is used instead.
    pub retry_pause: HumanDuration,
    /// The longest pause before a request is retried, up to `1h`.
    pub retry_pause_max: HumanDuration,
    /// How long to retry a request before its events are dropped and counted, up to `24h`.
    pub give_up: HumanDuration,
    /// How long to send waiting events at the end of the run, up to `1h`. The rest are dropped and
    /// counted.
    pub stop_timeout: HumanDuration,
    /// Attributes of the resource, in addition to those that Whalewatch sets:
    /// `{ "deployment.environment.name" = "prod" }`.
    pub resource: BTreeMap<String, String>,
    /// The body of each record, a template: `{kind} {process.executable.path|?}`. Not set: the
    /// kind, the process and the container of the event.
    pub body: Option<String>,
    /// Whether to repeat the event's kind in the attribute `event.name`, for receivers older than
    /// OTLP 1.5, which do not have the field for it.
    pub event_name_attribute: bool,
}

/// The protocol of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC.
    #[default]
    Grpc,
    /// HTTP/1.1 with messages in Protocol Buffers.
    Http,
}

/// The compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// gzip.
    Gzip,
}

impl Default for OtlpOptions {
    fn default() -> Self {
        let seconds = |count| HumanDuration(Duration::from_secs(count));
        Self {
            protocol: Protocol::default(),
            endpoint: None,
            headers: BTreeMap::new(),
            tls: TlsOptions::default(),
            compression: Compression::default(),
            timeout: seconds(10),
            batch: 1000,
            interval: seconds(1),
            max_queued: 50_000,
            retry_pause: HumanDuration(Duration::from_millis(500)),
            retry_pause_max: seconds(30),
            give_up: seconds(300),
            stop_timeout: seconds(5),
            resource: BTreeMap::new(),
            body: None,
            event_name_attribute: false,
        }
    }
}

const BATCH_MAX: u32 = 10_000;
const QUEUE_MAX: u32 = 10_000_000;
const LOGS_PATH: PathAndQuery = PathAndQuery::from_static("/v1/logs");
/// The headers that the handler sets.
const OWN_HEADERS: [&str; 6] =
    ["content-type", "content-encoding", "content-length", "host", "te", "user-agent"];

/// The parsed texts of the options.
pub(crate) struct Parsed {
    pub(crate) uri: Uri,
    pub(crate) body: Option<Template>,
}

impl OtlpOptions {
    /// Returns every mistake in the options. `input` has the schemas of the input.
    pub(crate) fn check(&self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = self.numbers();
        match self.uri() {
            Ok(uri) => {
                problems.extend(self.tls.check("tls", uri.scheme_str() == Some("https")));
            }
            Err(problem) => problems.push(problem),
        }
        problems.extend(headers::check("headers", &self.headers, &OWN_HEADERS));
        problems.extend(self.resource.keys().filter_map(|name| check_attribute(name)));
        match self.template() {
            Ok(body) => problems.extend(body.iter().flat_map(|body| body.check(input))),
            Err(problem) => problems.push(problem),
        }
        problems
    }

    /// Parses the endpoint and the template.
    pub(crate) fn parse(&self) -> Result<Parsed, Problem> {
        Ok(Parsed { uri: self.uri()?, body: self.template()? })
    }

    fn template(&self) -> Result<Option<Template>, Problem> {
        self.body.as_deref().map(|text| Template::parse("body", text)).transpose()
    }

    fn uri(&self) -> Result<Uri, Problem> {
        let endpoint = self.endpoint.as_deref().unwrap_or(match self.protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::Http => "http://localhost:4318",
        });
        let mut uri = address("endpoint", endpoint)?;
        let bare = uri.path() == "/" && uri.query().is_none();
        match self.protocol {
            Protocol::Grpc if !bare => {
                let message = format!("{endpoint:?} has a path or a query, but gRPC sets the path");
                let hint = "leave it out, or set protocol = \"http\"";
                return Err(Problem::new("endpoint", message).hint(hint));
            }
            Protocol::Http if bare => {
                let mut parts = uri.into_parts();
                parts.path_and_query = Some(LOGS_PATH);
                uri = Uri::from_parts(parts)
                    .map_err(|error| Problem::new("endpoint", error.to_string()))?;
            }
            Protocol::Grpc | Protocol::Http => {}
        }
        Ok(uri)
    }

    fn numbers(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(Problem::check_range("batch", self.batch, 1..=BATCH_MAX));
        if let Some(problem) = Problem::check_range("max_queued", self.max_queued, ..=QUEUE_MAX) {
            problems.push(problem.hint("more events would take gigabytes of memory"));
        } else if self.max_queued < self.batch {
            let message = format!(
                "{} is too small for one request of {} events",
                self.max_queued, self.batch
            );
            problems.push(Problem::new("max_queued", message).hint("set at least `batch`"));
        }
        for (key, duration, least) in [
            ("timeout", self.timeout, 1),
            ("interval", self.interval, 0),
            ("retry_pause", self.retry_pause, 1),
            ("retry_pause_max", self.retry_pause_max, 1),
            ("give_up", self.give_up, 0),
            ("stop_timeout", self.stop_timeout, 0),
        ] {
            let most = if key == "give_up" { 24 } else { 1 };
            let range = Duration::from_millis(least)..=Duration::from_hours(most);
            problems.extend(Problem::check_range(key, duration.0, range));
        }
        if self.retry_pause > self.retry_pause_max {
            let message = format!(
                "{} is longer than retry_pause_max, {}",
                self.retry_pause, self.retry_pause_max
            );
            let hint = "set a shorter retry_pause or a longer retry_pause_max";
            problems.push(Problem::new("retry_pause", message).hint(hint));
        }
        problems
    }
}

/// Checks the name of an attribute of the resource.
fn check_attribute(name: &str) -> Option<Problem> {
    let own = ["service.name", "host.name", "os.type"].contains(&name);
    let key = format!("resource.{name}");
    let of_pod = KUBERNETES.iter().any(|(field, _)| *field == name);
    if own || of_pod || name.starts_with("container.") {
        let message = format!("`{name}` is set by Whalewatch itself");
        return Some(Problem::new(key, message).hint("leave it out, or choose another name"));
    }
    name.is_empty().then(|| {
        let hint = "write a name such as \"deployment.environment.name\"";
        Problem::new(key, "the name of an attribute is empty").hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use whalewatch_testing::Ran;

    use super::*;

    fn problems(json: &str) -> Vec<(String, String)> {
        let options: OtlpOptions = serde_json::from_str(json).expect("options");
        let problems = options.check(&[Schema::of::<Ran>()]);
        assert!(problems.iter().all(|problem| problem.hint.is_some()), "{problems:?}");
        problems.into_iter().map(|problem| (problem.key, problem.message)).collect()
    }

    #[test]
    fn options_may_be_left_out_and_unknown_keys_are_refused() {
        assert_eq!(problems("{}"), []);
        assert_eq!(problems(r#"{"protocol":"http","endpoint":"https://x/otlp"}"#), []);
        assert!(serde_json::from_str::<OtlpOptions>(r#"{"endpiont":"x"}"#).is_err());
        assert!(serde_json::from_str::<OtlpOptions>(r#"{"protocol":"tcp"}"#).is_err());
    }

    #[test]
    fn check_reports_every_mistake_with_its_key() {
        for (json, key, word) in [
            (r#"{"endpoint":"localhost:4317"}"#, "endpoint", "no scheme"),
            (r#"{"endpoint":"http://x/v1/logs"}"#, "endpoint", "path"),
            (r#"{"batch":0}"#, "batch", "out of range"),
            (r#"{"batch":100,"max_queued":99}"#, "max_queued", "100"),
            (r#"{"max_queued":4000000000}"#, "max_queued", "out of range"),
            (r#"{"timeout":"0s"}"#, "timeout", "0s"),
            (r#"{"interval":"2h"}"#, "interval", "2h"),
            (r#"{"retry_pause":"1m"}"#, "retry_pause", "retry_pause_max"),
            (r#"{"tls":{"ca_file":"/x"}}"#, "tls", "https"),
            (r#"{"headers":{"te":"x"}}"#, "headers.te", "itself"),
            (r#"{"resource":{"host.name":"x"}}"#, "resource.host.name", "itself"),
            (r#"{"resource":{"container.id":"x"}}"#, "resource.container.id", "itself"),
            (r#"{"body":"{procss.pid}"}"#, "body", "procss.pid"),
            (r#"{"body":"{kind"}"#, "body", "not closed"),
        ] {
            let [(at, message)] = &problems(json)[..] else { panic!("one problem: {json}") };
            assert!(at == key && message.contains(word), "{json}: {at}: {message}");
        }
    }

    #[test]
    fn an_http_address_without_a_path_gets_v1_logs() {
        let uri = |endpoint: Option<&str>| {
            let endpoint = endpoint.map(str::to_owned);
            let options = OtlpOptions { protocol: Protocol::Http, endpoint, ..Default::default() };
            options.uri().expect("an address").to_string()
        };
        assert_eq!(uri(None), "http://localhost:4318/v1/logs");
        assert_eq!(uri(Some("https://x:1/")), "https://x:1/v1/logs");
        assert_eq!(uri(Some("https://x/otlp/logs?a=b")), "https://x/otlp/logs?a=b");
    }
}
