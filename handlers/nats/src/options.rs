//! Options of the `nats` handler, and their check.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::Template;

use crate::subject;
use whalewatch_core::HumanSize;

/// Options of the `nats` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NatsOptions {
    /// Addresses of servers, tried in random order: `nats://host:4222`, `tls://host:4222`. Name
    /// several servers of a cluster. User and password belong in `auth`.
    pub servers: Vec<String>,
    /// The subject to publish an event to, a template with fields of the event. Each value becomes
    /// one token: characters that a token cannot have are escaped (`.` becomes `%2E`), and an empty
    /// value becomes `%`. Only the dots of `kind` separate tokens.
    pub subject: String,
    /// The stream for the events. It is created if it does not exist. Not set: some stream that
    /// accepts the subjects must exist.
    pub stream: Option<StreamOptions>,
    /// Certificates for TLS. If set, TLS is required, whatever the addresses say.
    pub tls: Option<TlsOptions>,
    /// The credentials of the publisher.
    pub auth: Option<AuthOptions>,
    /// The most events in flight, that is, sent but not acknowledged: 1 to 16384. 1 keeps the order
    /// even if the leader of a cluster changes, but is slow.
    pub max_in_flight: u32,
    /// The size of events to keep in memory until they are acknowledged: `1MiB` to `1GiB`. Without
    /// a spool, events are dropped when it is full.
    pub buffer: HumanSize,
    /// The longest wait for a connection, and for an answer about the stream: up to `1m`.
    pub connect_timeout: HumanDuration,
    /// The longest wait for an acknowledgement, up to `10m`. After that, all events in flight are
    /// sent again over a new connection.
    pub ack_timeout: HumanDuration,
    /// The longest wait for acknowledgements at the end of the run, up to `1m`. Events without one
    /// stay in the spool, or are dropped if there is no spool.
    pub stop_timeout: HumanDuration,
    /// The spool: a folder that keeps events on disk until they are acknowledged. Not set: events
    /// are kept in memory only.
    pub spool: Option<SpoolOptions>,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            subject: "whalewatch.{host.name}.{container.name|-}.{kind}".to_owned(),
            stream: None,
            tls: None,
            auth: None,
            max_in_flight: 2048,
            buffer: HumanSize(16 << 20),
            connect_timeout: HumanDuration(Duration::from_secs(5)),
            ack_timeout: HumanDuration(Duration::from_secs(5)),
            stop_timeout: HumanDuration(Duration::from_secs(5)),
            spool: None,
        }
    }
}

/// The stream for the events. It is created if it does not exist. An existing stream is not
/// changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// The name of the stream, without dots and blanks.
    pub name: String,
    /// The subjects that the stream accepts. Not set: all with the fixed tokens that `subject`
    /// starts with, such as `whalewatch.>`.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// The number of servers that store each event, 1 to 5.
    #[serde(default = "one")]
    pub replicas: u8,
    /// How long the stream keeps events, at least `1s`. Not set: without limit.
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
    /// The largest size of the stream, at least `1MiB`; beyond it the oldest events are removed.
    /// Not set: without limit.
    #[serde(default)]
    pub max_bytes: Option<HumanSize>,
    /// How long the stream recognizes an event that is sent again, from `100ms` to `max_age`. An
    /// outage that lasts longer can leave duplicates.
    #[serde(default = "two_minutes")]
    pub duplicate_window: HumanDuration,
}

fn one() -> u8 {
    1
}

fn two_minutes() -> HumanDuration {
    HumanDuration(Duration::from_mins(2))
}

/// Certificates for TLS. If the table is present, TLS is required, whatever the addresses say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsOptions {
    /// A PEM file with the authorities to trust. Not set: those of the system.
    pub ca: Option<PathBuf>,
    /// A PEM file with the client certificate. Requires `key`.
    pub cert: Option<PathBuf>,
    /// A PEM file with the private key of the client certificate.
    pub key: Option<PathBuf>,
    /// Whether to start with the TLS handshake, for servers with `handshake_first`.
    pub first: bool,
}

/// The credentials of the publisher: exactly one kind. Files are read again for each connection;
/// blanks around a secret are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthOptions {
    /// A user name. Requires `password_file` or `password_env`.
    pub user: Option<String>,
    /// A file with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// An environment variable with the password of `user`.
    pub password_env: Option<String>,
    /// A file with a token.
    pub token_file: Option<PathBuf>,
    /// An environment variable with a token.
    pub token_env: Option<String>,
    /// A file with the seed of an nkey.
    pub nkey_file: Option<PathBuf>,
    /// A file with credentials (JWT and seed), as `nsc` writes them: `….creds`.
    pub credentials_file: Option<PathBuf>,
}

/// A folder that keeps events on disk until they are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpoolOptions {
    /// The folder, for this handler only. It is created if it does not exist.
    pub dir: PathBuf,
    /// The largest size of the spool, at least `1MiB`.
    #[serde(default = "one_gibibyte")]
    pub max_size: HumanSize,
    /// Which events to drop when the spool is full: `drop_oldest` or `drop_newest`.
    #[serde(default)]
    pub when_full: WhenFull,
    /// How often to sync waiting events to the disk (`fsync`), `10ms` to `1h`. A power cut loses at
    /// most the events of the last two intervals. A crash of Whalewatch loses none of them.
    #[serde(default = "one_second")]
    pub sync: HumanDuration,
}

fn one_gibibyte() -> HumanSize {
    HumanSize(1 << 30)
}

fn one_second() -> HumanDuration {
    HumanDuration(Duration::from_secs(1))
}

/// Which events to drop when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest events, an eighth of the spool (at most 8 MiB) at a time.
    #[default]
    DropOldest,
    /// New events.
    DropNewest,
}

impl NatsOptions {
    /// Returns every mistake in the options.
    pub(crate) fn check(&self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_servers(&mut problems);
        match Template::parse("subject", &self.subject) {
            Err(problem) => problems.push(problem),
            Ok(template) => {
                problems.extend(template.check(input));
                problems.extend(subject::check("subject", &self.subject));
            }
        }
        let buffer = HumanSize(1 << 20)..=HumanSize(1 << 30);
        problems.extend(Problem::check_range("max_in_flight", self.max_in_flight, 1..=16_384));
        problems.extend(Problem::check_range("buffer", self.buffer, buffer));
        let (ms, minute) = (Duration::from_millis(1), Duration::from_mins(1));
        for (key, time, range) in [
            ("connect_timeout", self.connect_timeout, ms..=minute),
            ("ack_timeout", self.ack_timeout, ms..=10 * minute),
            ("stop_timeout", self.stop_timeout, Duration::ZERO..=minute),
        ] {
            problems.extend(Problem::check_range(key, time.0, range));
        }
        if let Some(stream) = &self.stream {
            stream.check(&self.subject, &mut problems);
        }
        if let Some(tls) = &self.tls
            && tls.cert.is_some() != tls.key.is_some()
        {
            let hint = "set both tls.cert and tls.key, or neither";
            let message = "a certificate requires its key, and a key its certificate";
            problems.push(Problem::new("tls", message).hint(hint));
        }
        if let Some(auth) = &self.auth {
            auth.check(&mut problems);
        }
        if let Some(spool) = &self.spool {
            if spool.dir.as_os_str().is_empty() {
                let hint = "name a folder, such as \"/var/lib/whalewatch/nats\"";
                problems.push(Problem::new("spool.dir", "no folder is given").hint(hint));
            }
            let sizes = HumanSize(1 << 20)..=HumanSize(1 << 50);
            problems.extend(Problem::check_range("spool.max_size", spool.max_size, sizes));
            let times = Duration::from_millis(10)..=Duration::from_hours(1);
            problems.extend(Problem::check_range("spool.sync", spool.sync.0, times));
        }
        problems
    }

    fn check_servers(&self, problems: &mut Vec<Problem>) {
        let hint = "write addresses such as [\"nats://nats-1:4222\", \"nats://nats-2:4222\"]";
        if self.servers.is_empty() {
            problems.push(Problem::new("servers", "no server is given").hint(hint));
        }
        for server in &self.servers {
            let wrong = match server.parse::<ServerAddr>() {
                Err(error) => format!("{server:?} is not an address of a server: {error}"),
                Ok(address) if !matches!(address.scheme(), "nats" | "tls") => {
                    format!("{server:?} starts with neither nats:// nor tls://")
                }
                Ok(address) if address.has_user_pass() => {
                    let message = "an address must not contain secrets";
                    let hint = "set auth.user and auth.password_file";
                    problems.push(Problem::new("servers", message).hint(hint));
                    continue;
                }
                Ok(address) if address.host().is_empty() => format!("{server:?} has no host"),
                Ok(_) => continue,
            };
            problems.push(Problem::new("servers", wrong).hint(hint));
        }
    }

    /// Returns the subjects that the stream accepts.
    pub(crate) fn stream_subjects(&self, stream: &StreamOptions) -> Vec<String> {
        if stream.subjects.is_empty() {
            let common = subject::common(&self.subject);
            let all = if common == self.subject { common } else { format!("{common}.>") };
            vec![all]
        } else {
            stream.subjects.clone()
        }
    }
}

impl StreamOptions {
    fn check(&self, template: &str, problems: &mut Vec<Problem>) {
        let odd = |c: char| !c.is_ascii_graphic() || ".*>/\\".contains(c);
        if self.name.is_empty() || self.name.contains(odd) {
            let message = format!("{:?} is not a valid stream name", self.name);
            let hint = "use letters, digits, - and _, such as \"whalewatch\"";
            problems.push(Problem::new("stream.name", message).hint(hint));
        }
        problems.extend(Problem::check_range("stream.replicas", self.replicas, 1..=5));
        if self.subjects.is_empty() && subject::common(template).is_empty() {
            let message = "cannot derive the subjects of the stream: `subject` begins with a field";
            let hint = "set stream.subjects, or begin `subject` with a fixed token";
            problems.push(Problem::new("stream.subjects", message).hint(hint));
        }
        for subject in &self.subjects {
            if subject.split('.').any(str::is_empty) || subject.contains(char::is_whitespace) {
                let message = format!("{subject:?} is not a subject");
                let hint = "write tokens separated by dots, such as \"whalewatch.>\"";
                problems.push(Problem::new("stream.subjects", message).hint(hint));
            }
        }
        if let Some(age) = self.max_age {
            let second = Duration::from_secs(1);
            problems.extend(Problem::check_range("stream.max_age", age.0, second..));
        }
        // The server refuses a window that is longer than the age of events.
        let (key, window) = ("stream.duplicate_window", self.duplicate_window.0);
        let least = Duration::from_millis(100);
        problems.extend(match self.max_age {
            Some(age) => Problem::check_range(key, window, least..=age.0),
            None => Problem::check_range(key, window, least..),
        });
        if let Some(bytes) = self.max_bytes {
            let sizes = HumanSize(1 << 20)..=HumanSize(1 << 60);
            problems.extend(Problem::check_range("stream.max_bytes", bytes, sizes));
        }
    }
}

impl AuthOptions {
    fn check(&self, problems: &mut Vec<Problem>) {
        let password = [self.password_file.is_some(), self.password_env.is_some()];
        let ways = [
            self.user.is_some(),
            self.token_file.is_some(),
            self.token_env.is_some(),
            self.nkey_file.is_some(),
            self.credentials_file.is_some(),
        ];
        let count = |set: &[bool]| set.iter().filter(|set| **set).count();
        let hint = "set user with password_file or password_env, or one of token_file, token_env, \
                    nkey_file, credentials_file";
        if count(&ways) != 1 {
            let message = if count(&ways) == 0 {
                "no credentials are given"
            } else {
                "more than one kind of credentials is given"
            };
            problems.push(Problem::new("auth", message).hint(hint));
        } else if count(&password) != usize::from(self.user.is_some()) {
            let message = "a user requires exactly one password, and a password a user";
            problems.push(Problem::new("auth", message).hint(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NatsOptions {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn defaults_are_valid_and_unknown_keys_are_refused() {
        assert_eq!(NatsOptions::default().check(&[]), []);
        assert_eq!(parse("{}"), NatsOptions::default());
        for text in [
            r#"{"server":["x"]}"#,
            r#"{"spool":{"dir":"x","size":1}}"#,
            r#"{"stream":{}}"#,
            r#"{"spool":{"dir":"x","when_full":"block"}}"#,
        ] {
            assert!(serde_json::from_str::<NatsOptions>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn check_reports_every_mistake_with_its_key() {
        for (text, key, part) in [
            (r#"{"servers":[]}"#, "servers", "no server"),
            (r#"{"servers":["http://x"]}"#, "servers", "http"),
            (r#"{"servers":["ws://x"]}"#, "servers", "neither"),
            (r#"{"servers":["nats://u:p@x"]}"#, "servers", "secrets"),
            (r#"{"subject":"a.{kind"}"#, "subject", "not closed"),
            (r#"{"subject":"a..b"}"#, "subject", "empty"),
            (r#"{"max_in_flight":0}"#, "max_in_flight", "1 to 16384"),
            (r#"{"buffer":"1KiB"}"#, "buffer", "1 MiB"),
            (r#"{"ack_timeout":"1h"}"#, "ack_timeout", "10m"),
            (r#"{"stop_timeout":"2m"}"#, "stop_timeout", "1m"),
            (r#"{"stream":{"name":"a.b"}}"#, "stream.name", "name"),
            (r#"{"stream":{"name":"a","replicas":6}}"#, "stream.replicas", "1 to 5"),
            (r#"{"stream":{"name":"a","subjects":["a..b"]}}"#, "stream.subjects", "not a subject"),
            (r#"{"subject":"{kind}","stream":{"name":"a"}}"#, "stream.subjects", "begin"),
            (r#"{"stream":{"name":"a","max_age":"1m"}}"#, "stream.duplicate_window", "1m"),
            (r#"{"stream":{"name":"a","max_bytes":1}}"#, "stream.max_bytes", "1 MiB"),
            (r#"{"tls":{"cert":"x"}}"#, "tls", "requires its key"),
            (r#"{"auth":{}}"#, "auth", "no credentials"),
            (r#"{"auth":{"user":"x"}}"#, "auth", "exactly one password"),
            (r#"{"auth":{"password_env":"x","token_env":"x"}}"#, "auth", "exactly one password"),
            (r#"{"auth":{"token_file":"x","nkey_file":"y"}}"#, "auth", "more than one"),
            (r#"{"spool":{"dir":""}}"#, "spool.dir", "no folder"),
            (r#"{"spool":{"dir":"x","max_size":"1KiB"}}"#, "spool.max_size", "1 MiB"),
            (r#"{"spool":{"dir":"x","sync":"1ms"}}"#, "spool.sync", "10ms"),
        ] {
            let problems = parse(text).check(&[]);
            let [problem] = &problems[..] else { panic!("{text}: {problems:?}") };
            assert_eq!(problem.key, key, "{text}");
            assert!(problem.message.contains(part), "{text}: {}", problem.message);
        }
    }

    #[test]
    fn stream_subjects_follow_from_the_subject() {
        let subjects = |text: &str| {
            let options = parse(text);
            options.stream_subjects(options.stream.as_ref().expect("a stream"))
        };
        assert_eq!(subjects(r#"{"stream":{"name":"a"}}"#), ["whalewatch.>"]);
        assert_eq!(subjects(r#"{"subject":"x.y","stream":{"name":"a"}}"#), ["x.y"]);
        assert_eq!(subjects(r#"{"stream":{"name":"a","subjects":["b.*"]}}"#), ["b.*"]);
    }
}
