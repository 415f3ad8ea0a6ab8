//! Options of the `webhook` handler.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Template;
use whalewatch_net::{Secret, TlsOptions, address, headers};

use crate::body;

/// Options of the `webhook` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookOptions {
    /// The address of the receiver: an `http://` or `https://` URL. Put secrets into a header
    /// rather than into the URL.
    pub url: String,
    /// The HTTP method.
    #[serde(default)]
    pub method: Verb,
    /// The headers of each request. A value is a text, or is read when the handler starts:
    /// `{ env = "TOKEN", prefix = "Bearer " }`, `{ file = "/run/secrets/token" }`. The default
    /// `content-type` is `application/json`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A template for the body, in which JSON's own braces are doubled: `{{"text":
    /// "{kind} in {container.name|no container}", "pid": {process.pid|null}}}`. If the content type
    /// is JSON, values are escaped for a JSON string. Default: the event as one JSON object.
    #[serde(default)]
    pub body: Option<String>,
    /// Certificates for an `https://` receiver.
    #[serde(default)]
    pub tls: TlsOptions,
    /// How long the receiver may take to answer a request: 1ms to 1h.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// How many times to try to send a request: 1 to 100. After that its event is dropped and
    /// counted.
    #[serde(default = "tries")]
    pub tries: u32,
    /// The pause before a request is retried: 1ms to 1h. It doubles with each try, and is shortened
    /// at random by up to a half. A receiver can request another pause with `Retry-After`, of at
    /// most 1h.
    #[serde(default = "retry_pause")]
    pub retry_pause: HumanDuration,
    /// The longest such pause: 1ms to 1h, and not less than `retry_pause`.
    #[serde(default = "retry_pause_max")]
    pub retry_pause_max: HumanDuration,
    /// The most requests in a second, including retries. 0 means no limit.
    #[serde(default = "max_per_second")]
    pub max_per_second: u32,
    /// The most events that wait to be sent: 1 to 1,000,000. Further events are dropped and
    /// counted.
    #[serde(default = "max_queued")]
    pub max_queued: u32,
    /// How long to continue sending waiting events at the end: 0s to 1h. The rest are dropped and
    /// counted.
    #[serde(default = "stop_timeout")]
    pub stop_timeout: HumanDuration,
}

/// The HTTP method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Verb {
    /// POST.
    #[default]
    #[serde(rename = "POST")]
    Post,
    /// PUT.
    #[serde(rename = "PUT")]
    Put,
    /// PATCH.
    #[serde(rename = "PATCH")]
    Patch,
}

impl From<Verb> for Method {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Post => Self::POST,
            Verb::Put => Self::PUT,
            Verb::Patch => Self::PATCH,
        }
    }
}

fn timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(10))
}

fn tries() -> u32 {
    5
}

fn retry_pause() -> HumanDuration {
    HumanDuration(Duration::from_secs(1))
}

fn retry_pause_max() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}

fn max_per_second() -> u32 {
    10
}

fn max_queued() -> u32 {
    1000
}

fn stop_timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(5))
}

const TRIES_MAX: u32 = 100;
const QUEUE_MAX: u32 = 1_000_000;
/// The headers that the handler itself sets.
const OWN_HEADERS: [&str; 2] = ["content-length", "host"];

/// Parsed options.
pub(crate) struct Parsed {
    pub(crate) uri: Uri,
    pub(crate) body: Option<Template>,
    /// Whether the body is JSON.
    pub(crate) json: bool,
}

impl WebhookOptions {
    /// Creates options for requests to a URL, with defaults for everything else.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: Verb::default(),
            headers: BTreeMap::new(),
            body: None,
            tls: TlsOptions::default(),
            timeout: timeout(),
            tries: tries(),
            retry_pause: retry_pause(),
            retry_pause_max: retry_pause_max(),
            max_per_second: max_per_second(),
            max_queued: max_queued(),
            stop_timeout: stop_timeout(),
        }
    }

    /// Returns all mistakes in the options. `input` has the schemas of the incoming events.
    pub(crate) fn check(&self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = self.numbers();
        match address("url", &self.url) {
            Ok(uri) => problems.extend(self.tls.check("tls", uri.scheme_str() == Some("https"))),
            Err(problem) => problems.push(problem),
        }
        problems.extend(headers::check("headers", &self.headers, &OWN_HEADERS));
        if let Some(Secret::Elsewhere(_)) = self.content_type() {
            let message = "the content type must be known when the configuration is checked";
            let hint = "write \"application/json\", \"text/plain\" or another type directly";
            problems.push(Problem::new("headers.content-type", message).hint(hint));
        }
        match self.template() {
            Ok(Some(body)) => {
                problems.extend(body.check(input));
                if self.is_json() {
                    problems.extend(body::check_json(&body));
                }
            }
            Ok(None) if !self.is_json() => {
                let message = "the default body is JSON, but the content type is not";
                problems.push(
                    Problem::new("body", message).hint("set `body`, or remove the content type"),
                );
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
        problems
    }

    /// Parses the options' texts.
    pub(crate) fn parse(&self) -> Result<Parsed, Problem> {
        let uri = address("url", &self.url)?;
        Ok(Parsed { uri, body: self.template()?, json: self.is_json() })
    }

    fn template(&self) -> Result<Option<Template>, Problem> {
        self.body.as_deref().map(|text| Template::parse("body", text)).transpose()
    }

    fn content_type(&self) -> Option<&Secret> {
        let named = |(name, _): &(&String, &Secret)| name.eq_ignore_ascii_case("content-type");
        self.headers.iter().find(named).map(|(_, value)| value)
    }

    /// Returns whether the content type is JSON: `application/json`, or a type based on it such as
    /// `application/x+json`.
    fn is_json(&self) -> bool {
        let Some(Secret::Plain(text)) = self.content_type() else { return true };
        let ty = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        ty.ends_with("/json") || ty.ends_with("+json")
    }

    fn numbers(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, number, most) in
            [("tries", self.tries, TRIES_MAX), ("max_queued", self.max_queued, QUEUE_MAX)]
        {
            problems.extend(Problem::check_range(key, number, 1..=most));
        }
        for (key, duration, least) in [
            ("timeout", self.timeout, 1),
            ("retry_pause", self.retry_pause, 1),
            ("retry_pause_max", self.retry_pause_max, 1),
            ("stop_timeout", self.stop_timeout, 0),
        ] {
            let range = Duration::from_millis(least)..=Duration::from_hours(1);
            problems.extend(Problem::check_range(key, duration.0, range));
        }
        if self.retry_pause > self.retry_pause_max {
            let (pause, max) = (self.retry_pause, self.retry_pause_max);
            let message = format!("{pause} is longer than retry_pause_max, {max}");
            problems.push(Problem::new("retry_pause", message).hint("make it shorter"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_testing::Ran;

    use super::*;

    fn problems(json: &str) -> Vec<(String, String)> {
        let options: WebhookOptions = serde_json::from_str(json).expect("options");
        let problems = options.check(&[Schema::of::<Ran>()]);
        assert!(problems.iter().all(|problem| problem.hint.is_some()), "{problems:?}");
        problems.into_iter().map(|problem| (problem.key, problem.message)).collect()
    }

    #[test]
    fn only_the_url_is_required_and_unknown_options_are_refused() {
        assert_eq!(problems(r#"{"url":"https://x/hook"}"#), []);
        let options: WebhookOptions = serde_json::from_str(r#"{"url":"http://x"}"#).unwrap();
        assert_eq!(options, WebhookOptions::to("http://x"));
        for wrong in
            ["{}", r#"{"url":"http://x","boddy":"x"}"#, r#"{"url":"http://x","method":"GET"}"#]
        {
            assert!(serde_json::from_str::<WebhookOptions>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_its_key() {
        for (rest, key, word) in [
            (r#""url":"x""#, "url", "no scheme"),
            (r#""tries":0"#, "tries", "0"),
            (r#""max_queued":0"#, "max_queued", "0"),
            (r#""timeout":"0s""#, "timeout", "0s"),
            (r#""retry_pause":"1m""#, "retry_pause", "retry_pause_max"),
            (r#""tls":{"ca_file":"/x"}"#, "tls", "https"),
            (r#""headers":{"host":"x"}"#, "headers.host", "itself"),
            (r#""headers":{"content-type":{"env":"X"}}"#, "headers.content-type", "known"),
            (r#""headers":{"content-type":"text/plain"}"#, "body", "JSON"),
            (r#""body":"{kind""#, "body", "not closed"),
            (r#""body":"\"{knd}\"""#, "body", "knd"),
            (r#""body":"{{\"a\": }}""#, "body", "not valid JSON"),
            (r#""body":"plain {kind}""#, "body", "not valid JSON"),
        ] {
            let url = if rest.starts_with("\"url\"") { "" } else { r#""url":"http://x","# };
            let json = format!("{{{url}{rest}}}");
            let [(at, message)] = &problems(&json)[..] else { panic!("one problem: {json}") };
            assert!(at == key && message.contains(word), "{json}: {at}: {message}");
        }
    }

    #[test]
    fn bodies_of_json_and_other_content_types_are_accepted() {
        for rest in [
            r#""body":"{{\"text\":\"{kind}\",\"pid\":{process.pid|null}}}""#,
            r#""headers":{"Content-Type":"text/plain; charset=utf-8"},"body":"{kind} in {container.name|-}""#,
            r#""headers":{"Content-Type":"application/vnd.x+json"},"body":"[\"{kind}\"]""#,
            r#""headers":{"Content-Type":"application/json; charset=utf-8"}"#,
        ] {
            assert_eq!(problems(&format!(r#"{{"url":"http://x",{rest}}}"#)), [], "{rest}");
        }
    }
}
