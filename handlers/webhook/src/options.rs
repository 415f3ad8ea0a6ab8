//! Options of the `webhook` handler.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Template;
use whalewatch_kit::net::{Secret, TlsOptions, address, headers};

use crate::body;

/// Options of the `webhook` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookOptions {
    /// Where requests go: an `http://` or `https://` address. What the URL has that is secret is
    /// better put into a header.
    pub url: String,
    /// The method of requests.
    #[serde(default)]
    pub method: Verb,
    /// Headers of each request. A value is a text, or is read at the start:
    /// `{ env = "TOKEN", prefix = "Bearer " }`, `{ file = "/run/secrets/token" }`. Without a
    /// `content-type` that is `application/json`.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// The body of a request, a template, in which JSON's own braces are doubled: `{{"text":
    /// "{kind} in {container.name|no container}", "pid": {process.pid|null}}}`. Where the content
    /// type is JSON, values are escaped for a JSON string. Without it, the event as one JSON
    /// object.
    #[serde(default)]
    pub body: Option<String>,
    /// How an `https://` receiver is trusted, and how it trusts us.
    #[serde(default)]
    pub tls: TlsOptions,
    /// How long the receiver may take to answer one request.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// How often a request is sent at most: 1 to 100. After that its event is dropped and counted.
    #[serde(default = "tries")]
    pub tries: u32,
    /// The pause before a request is sent again, doubled with each try, and shortened at random by
    /// up to a half. A receiver that asks for another pause with `Retry-After` gets that, up to one
    /// hour.
    #[serde(default = "retry_pause")]
    pub retry_pause: HumanDuration,
    /// The longest such pause.
    #[serde(default = "retry_pause_max")]
    pub retry_pause_max: HumanDuration,
    /// Requests in a second, at most, each try counted: spares the receiver. 0 for no limit.
    #[serde(default = "max_per_second")]
    pub max_per_second: u32,
    /// Events that may wait to be sent: 1 to 1 million. What finds no room is dropped and counted.
    #[serde(default = "max_queued")]
    pub max_queued: u32,
    /// How long is waited at the end for what is still to be sent; the rest is dropped and counted.
    #[serde(default = "stop_timeout")]
    pub stop_timeout: HumanDuration,
}

/// Method of a request.
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
/// Headers that are set by the handler.
const OWN_HEADERS: [&str; 2] = ["content-length", "host"];

/// Options, read.
pub(crate) struct Read {
    pub(crate) uri: Uri,
    pub(crate) body: Option<Template>,
    /// Whether the body is JSON.
    pub(crate) json: bool,
}

impl WebhookOptions {
    /// For requests to this address, all else by default.
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

    /// Everything that is wrong with them, against what comes in.
    pub(crate) fn check(&self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = self.numbers();
        match address("url", &self.url) {
            Ok(uri) => problems.extend(self.tls.check("tls", uri.scheme_str() == Some("https"))),
            Err(problem) => problems.push(problem),
        }
        problems.extend(headers::check("headers", &self.headers, &OWN_HEADERS));
        if let Some(Secret::Elsewhere(_)) = self.content_type() {
            let message =
                "what the body is made for must be known before it is read from elsewhere";
            let hint = "write \"application/json\", \"text/plain\" or another type";
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
                let message = "an event as JSON would be sent, and the content type says otherwise";
                problems.push(
                    Problem::new("body", message).hint("set `body`, or leave the content type out"),
                );
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
        problems
    }

    /// What is read from the options' texts.
    pub(crate) fn read(&self) -> Result<Read, Problem> {
        let uri = address("url", &self.url)?;
        Ok(Read { uri, body: self.template()?, json: self.is_json() })
    }

    fn template(&self) -> Result<Option<Template>, Problem> {
        self.body.as_deref().map(|text| Template::parse("body", text)).transpose()
    }

    fn content_type(&self) -> Option<&Secret> {
        let named = |(name, _): &(&String, &Secret)| name.eq_ignore_ascii_case("content-type");
        self.headers.iter().find(named).map(|(_, value)| value)
    }

    /// Whether the content type is JSON: `application/json`, or something that is made of it, as
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
            let message = format!("is longer than retry_pause_max, {}", self.retry_pause_max);
            problems.push(Problem::new("retry_pause", message).hint("make it shorter"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_kit::testing::Ran;

    use super::*;

    fn problems(json: &str) -> Vec<(String, String)> {
        let options: WebhookOptions = serde_json::from_str(json).expect("options");
        let problems = options.check(&[Schema::of::<Ran>()]);
        assert!(problems.iter().all(|problem| problem.hint.is_some()), "{problems:?}");
        problems.into_iter().map(|problem| (problem.key, problem.message)).collect()
    }

    #[test]
    fn an_address_is_enough_and_unknown_options_are_refused() {
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
    fn every_mistake_is_told_at_its_key() {
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
            (r#""body":"{{\"a\": }}""#, "body", "no JSON"),
            (r#""body":"plain {kind}""#, "body", "no JSON"),
        ] {
            let url = if rest.starts_with("\"url\"") { "" } else { r#""url":"http://x","# };
            let json = format!("{{{url}{rest}}}");
            let [(at, message)] = &problems(&json)[..] else { panic!("one problem: {json}") };
            assert!(at == key && message.contains(word), "{json}: {at}: {message}");
        }
    }

    #[test]
    fn bodies_may_be_json_or_whatever_the_content_type_says() {
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
