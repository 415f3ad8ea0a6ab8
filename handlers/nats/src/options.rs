//! Options of the `nats` handler, and what is checked of them before anything runs.

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
    /// Addresses of servers, tried in a random order: `nats://host:4222`, `tls://host:4222`. Name
    /// more than one of a cluster. No user and password here: see `auth`.
    pub servers: Vec<String>,
    /// The subject that an event is published to: a text with fields of the event in it. A value is
    /// one token: what cannot stand in one is written `%2E`, and a value that is empty `%`. The
    /// dots of `kind` part tokens.
    pub subject: String,
    /// The stream that takes the events. Left out, one is expected to be there that takes the
    /// subjects.
    pub stream: Option<StreamOptions>,
    /// TLS, beyond what `tls://` asks for.
    pub tls: Option<TlsOptions>,
    /// Who it is that publishes.
    pub auth: Option<AuthOptions>,
    /// How many events may be on their way without an acknowledgement, 1 to 16384. With 1, also a
    /// cluster whose leader changes keeps the order, at the cost of speed.
    pub max_in_flight: u32,
    /// How many bytes of events that wait for their acknowledgement are kept in memory, 1MiB to
    /// 1GiB. Without a spool, what comes when they are full is dropped.
    pub buffer: HumanSize,
    /// How long a server may take to connect to, and to answer about the stream, up to 1m.
    pub connect_timeout: HumanDuration,
    /// How long an acknowledgement may take until all that is on its way is sent again, on a new
    /// connection; up to 10m.
    pub ack_timeout: HumanDuration,
    /// How long the end of a run may wait for acknowledgements, up to 1m. What has none by then
    /// stays in the spool, or is dropped if there is none.
    pub stop_timeout: HumanDuration,
    /// Where events are kept on disk until they are acknowledged. Left out, they are kept in memory
    /// only.
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

/// The stream that takes the events. It is made if it is not there; one that is there is left as it
/// is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Its name: no dots and no blanks.
    pub name: String,
    /// Subjects that it takes. Left out, all that begin as `subject` does: `whalewatch.>`.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// On how many servers of a cluster each event is kept, 1 to 5.
    #[serde(default = "one")]
    pub replicas: u8,
    /// How long events are kept. Left out, without end.
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
    /// How large it may get; then the oldest events go. Left out, without bound.
    #[serde(default)]
    pub max_bytes: Option<HumanSize>,
    /// How long the stream knows an event that is sent again. Longer than the outages that are to
    /// leave no duplicate.
    #[serde(default = "two_minutes")]
    pub duplicate_window: HumanDuration,
}

fn one() -> u8 {
    1
}

fn two_minutes() -> HumanDuration {
    HumanDuration(Duration::from_mins(2))
}

/// TLS. Its being there asks for it, whatever the addresses say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsOptions {
    /// File with the certificates, in PEM, that vouch for servers. Left out, those of the system.
    pub ca: Option<PathBuf>,
    /// File with this client's certificate, in PEM. With `key`.
    pub cert: Option<PathBuf>,
    /// File with the certificate's private key, in PEM.
    pub key: Option<PathBuf>,
    /// Whether TLS comes before the server's first word, as a server with `handshake_first` wants
    /// it.
    pub first: bool,
}

/// Who it is that publishes: one way only. Files are read anew for each connection; what stands
/// around a secret in blanks is not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthOptions {
    /// Name of the user. With `password_file` or `password_env`.
    pub user: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// Environment variable with the user's password.
    pub password_env: Option<String>,
    /// File with a token.
    pub token_file: Option<PathBuf>,
    /// Environment variable with a token.
    pub token_env: Option<String>,
    /// File with the seed of an nkey.
    pub nkey_file: Option<PathBuf>,
    /// File with credentials (JWT and seed), as `nsc` writes them: `….creds`.
    pub credentials_file: Option<PathBuf>,
}

/// Where events are kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpoolOptions {
    /// The folder, for this handler alone. It is made if it is not there.
    pub dir: PathBuf,
    /// How large it may get, 1MiB at least.
    #[serde(default = "one_gibibyte")]
    pub max_size: HumanSize,
    /// What goes when it is full.
    #[serde(default)]
    pub when_full: WhenFull,
    /// How often what is spooled is brought to the disk (`fsync`), 10ms to 1h: a power cut loses
    /// what came since, twice as long ago at most. A crash of whalewatch loses nothing of it.
    #[serde(default = "one_second")]
    pub sync: HumanDuration,
}

fn one_gibibyte() -> HumanSize {
    HumanSize(1 << 30)
}

fn one_second() -> HumanDuration {
    HumanDuration(Duration::from_secs(1))
}

/// What goes when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The oldest events, an eighth of the spool (8MiB at most) at a time.
    #[default]
    DropOldest,
    /// The events that come.
    DropNewest,
}

impl NatsOptions {
    /// Every mistake in them. Touches nothing else.
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
            problems
                .push(Problem::new("tls", "a certificate and its key belong together").hint(hint));
        }
        if let Some(auth) = &self.auth {
            auth.check(&mut problems);
        }
        if let Some(spool) = &self.spool {
            if spool.dir.as_os_str().is_empty() {
                let hint = "name a folder: \"/var/lib/whalewatch/nats\"";
                problems.push(Problem::new("spool.dir", "no folder is named").hint(hint));
            }
            let sizes = HumanSize(1 << 20)..=HumanSize(1 << 50);
            problems.extend(Problem::check_range("spool.max_size", spool.max_size, sizes));
            let times = Duration::from_millis(10)..=Duration::from_hours(1);
            problems.extend(Problem::check_range("spool.sync", spool.sync.0, times));
        }
        problems
    }

    fn check_servers(&self, problems: &mut Vec<Problem>) {
        let hint = "write for example servers = [\"nats://nats-1:4222\", \"nats://nats-2:4222\"]";
        if self.servers.is_empty() {
            problems.push(Problem::new("servers", "no server is named").hint(hint));
        }
        for server in &self.servers {
            let wrong = match server.parse::<ServerAddr>() {
                Err(error) => format!("{server:?} is no address of a server: {error}"),
                Ok(address) if !matches!(address.scheme(), "nats" | "tls") => {
                    format!("{server:?} is neither nats:// nor tls://")
                }
                Ok(address) if address.has_user_pass() => {
                    let message = "secrets do not belong into an address";
                    let hint = "name the user with auth.user and a file with auth.password_file";
                    problems.push(Problem::new("servers", message).hint(hint));
                    continue;
                }
                Ok(address) if address.host().is_empty() => format!("{server:?} names no host"),
                Ok(_) => continue,
            };
            problems.push(Problem::new("servers", wrong).hint(hint));
        }
    }

    /// The subjects that the stream takes.
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
            let message = format!("{:?} cannot be the name of a stream", self.name);
            let hint = "use letters, digits, - and _: \"whalewatch\"";
            problems.push(Problem::new("stream.name", message).hint(hint));
        }
        problems.extend(Problem::check_range("stream.replicas", self.replicas, 1..=5));
        if self.subjects.is_empty() && subject::common(template).is_empty() {
            let message = "which subjects it takes cannot be told: they begin with a value";
            let hint = "set stream.subjects, or begin the subject with a fixed token";
            problems.push(Problem::new("stream.subjects", message).hint(hint));
        }
        for subject in &self.subjects {
            if subject.split('.').any(str::is_empty) || subject.contains(char::is_whitespace) {
                let message = format!("{subject:?} is no subject");
                let hint = "tokens with dots between them: \"whalewatch.>\"";
                problems.push(Problem::new("stream.subjects", message).hint(hint));
            }
        }
        if let Some(age) = self.max_age {
            let second = Duration::from_secs(1);
            problems.extend(Problem::check_range("stream.max_age", age.0, second..));
        }
        // The server refuses a window that is longer than events are kept.
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
        let hint = "set user with password_file or password_env, or one of token_file, token_env, nkey_file, credentials_file";
        if count(&ways) != 1 {
            let message = if count(&ways) == 0 {
                "nothing says who it is"
            } else {
                "it is said in more than one way who it is"
            };
            problems.push(Problem::new("auth", message).hint(hint));
        } else if count(&password) != usize::from(self.user.is_some()) {
            let message = "a user and one place of the password belong together";
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
    fn defaults_are_in_order_and_unknown_keys_are_refused() {
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
    fn every_mistake_is_told_with_its_key() {
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
            (r#"{"stream":{"name":"a","subjects":["a..b"]}}"#, "stream.subjects", "no subject"),
            (r#"{"subject":"{kind}","stream":{"name":"a"}}"#, "stream.subjects", "begin"),
            (r#"{"stream":{"name":"a","max_age":"1m"}}"#, "stream.duplicate_window", "1m"),
            (r#"{"stream":{"name":"a","max_bytes":1}}"#, "stream.max_bytes", "1 MiB"),
            (r#"{"tls":{"cert":"x"}}"#, "tls", "together"),
            (r#"{"auth":{}}"#, "auth", "nothing"),
            (r#"{"auth":{"user":"x"}}"#, "auth", "together"),
            (r#"{"auth":{"password_env":"x","token_env":"x"}}"#, "auth", "together"),
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
    fn a_stream_takes_what_the_subject_can_become() {
        let subjects = |text: &str| {
            let options = parse(text);
            options.stream_subjects(options.stream.as_ref().expect("a stream"))
        };
        assert_eq!(subjects(r#"{"stream":{"name":"a"}}"#), ["whalewatch.>"]);
        assert_eq!(subjects(r#"{"subject":"x.y","stream":{"name":"a"}}"#), ["x.y"]);
        assert_eq!(subjects(r#"{"stream":{"name":"a","subjects":["b.*"]}}"#), ["b.*"]);
    }
}
