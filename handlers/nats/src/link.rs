//! One connection to a server: publishes records and receives acknowledgements.
//!
//! A broken connection is not re-established. The client would continue with the messages in its
//! queue and leave a hole where messages were lost on the way. So the client is dropped with its
//! queue, and a new connection starts with the first record that has no acknowledgement.

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, HeaderValue, Message, ServerAddr, StatusCode,
    Subject, Subscriber, header,
};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use whalewatch_core::error::with_causes;

use crate::options::{AuthOptions, NatsOptions};
use crate::record::Record;

/// The most acknowledgements to process at a time.
const ACKS: usize = 1024;
/// The server's error code for a message larger than the stream accepts.
const TOO_LARGE: u64 = 10_054;

/// The answer to a published record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The record is in the stream.
    Stored,
    /// The stream will never accept the record, for this reason.
    Refused(String),
    /// The record was not stored, for this reason, but may be if it is sent again.
    Temporary(String),
}

/// The outcome of [`Link::publish`].
pub(crate) enum Published {
    Sent,
    /// The server will never accept the record, for this reason.
    Refused(String),
    /// The connection is broken, for this reason.
    Broken(String),
}

/// A connection to a server.
pub(crate) struct Link {
    client: Client,
    inbox: String,
    answers: Subscriber,
    broken: mpsc::Receiver<String>,
}

impl Link {
    /// Connects, and creates the stream if necessary.
    ///
    /// # Errors
    /// The reason, if a step fails.
    pub(crate) async fn open(options: &NatsOptions, name: &str) -> Result<Self, String> {
        let limit = options.connect_timeout.0;
        let (reasons, broken) = mpsc::channel(16);
        let connected = Arc::new(AtomicBool::new(false));
        let settings = settings(options, name, reasons, &connected)?;
        let servers: Result<Vec<ServerAddr>, _> =
            options.servers.iter().map(|s| s.parse()).collect();
        let servers = servers.map_err(|error| error.to_string())?;
        let client = settings.connect(servers).await.map_err(|error| with_causes(&error))?;
        connected.store(true, Relaxed);
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await.map_err(|e| with_causes(&e))?;
        ensure_stream(options, &client, limit).await?;
        Ok(Self { client, inbox, answers, broken })
    }

    /// Sends a record. [`Link::next`] returns its answer with `place`.
    pub(crate) async fn publish(&self, place: u64, record: Record) -> Published {
        let (Ok(subject), Ok(id)) =
            (Subject::from_utf8(record.subject), str::from_utf8(&record.id))
        else {
            return Published::Refused("its subject or id is not UTF-8".to_owned());
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, HeaderValue::from(id));
        let reply = format!("{}.{place}", self.inbox);
        let sent =
            self.client.publish_with_reply_and_headers(subject, reply, headers, record.payload);
        match sent.await {
            Ok(()) => Published::Sent,
            Err(error)
                if error.kind() == async_nats::client::PublishErrorKind::MaxPayloadExceeded =>
            {
                Published::Refused(error.to_string())
            }
            Err(error) => Published::Broken(with_causes(&error)),
        }
    }

    /// Waits for answers and appends them to `found`, with the places of their records.
    ///
    /// # Errors
    /// The reason, if the connection breaks.
    pub(crate) async fn next(&mut self, found: &mut Vec<(u64, Answer)>) -> Result<(), String> {
        let closed = || "the connection is closed".to_owned();
        let first = tokio::select! {
            reason = self.broken.recv() => return Err(reason.unwrap_or_else(closed)),
            first = self.answers.next() => first.ok_or_else(closed)?,
        };
        let mut next = Some(first);
        while let Some(message) = next.take() {
            if let Some(place) = place(&message.subject) {
                found.push((place, read(&message)));
            }
            if found.len() < ACKS {
                next = self.answers.next().now_or_never().flatten();
            }
        }
        Ok(())
    }
}

fn settings(
    options: &NatsOptions,
    name: &str,
    reasons: mpsc::Sender<String>,
    connected: &Arc<AtomicBool>,
) -> Result<ConnectOptions, String> {
    let connected = Arc::clone(connected);
    let mut settings = ConnectOptions::new()
        .name(name)
        .connection_timeout(options.connect_timeout.0)
        .request_timeout(Some(options.connect_timeout.0))
        .ping_interval(Duration::from_secs(10))
        .skip_subject_validation(true)
        // At most `max_in_flight` messages are sent, so there is always room.
        .client_capacity(options.max_in_flight as usize + 64)
        .subscription_capacity(options.max_in_flight as usize + 64)
        .event_callback(move |event| {
            let reason = match event {
                Event::Disconnected | Event::Closed => Some("the connection was lost".to_owned()),
                Event::ServerError(error) => Some(format!("error from the server: {error}")),
                _ => None,
            };
            if let Some(reason) = reason {
                // If the channel is full, the earlier reasons are enough.
                reasons.try_send(reason).ok();
            }
            async {}
        })
        .reconnect_to_server_callback(move |_, _| {
            let connected = connected.load(Relaxed);
            async move { if connected { pending().await } else { None } }
        });
    if let Some(tls) = &options.tls {
        settings = settings.require_tls(true);
        if let Some(ca) = &tls.ca {
            settings = settings.add_root_certificates(ca.clone());
        }
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            settings = settings.add_client_certificate(cert.clone(), key.clone());
        }
        if tls.first {
            settings = settings.tls_first();
        }
    }
    match &options.auth {
        Some(auth) => authenticate(settings, auth),
        None => Ok(settings),
    }
}

fn authenticate(settings: ConnectOptions, auth: &AuthOptions) -> Result<ConnectOptions, String> {
    match Secret::of(auth)? {
        Secret::Password(password) => {
            Ok(settings.user_and_password(auth.user.clone().unwrap_or_default(), password))
        }
        Secret::Token(token) => Ok(settings.token(token)),
        Secret::Nkey(seed) => Ok(settings.nkey(seed)),
        Secret::Credentials(path, text) => settings
            .credentials(&text)
            .map_err(|error| format!("cannot use {}: {error}", path.display())),
    }
}

/// The secret of the publisher.
pub(crate) enum Secret {
    Password(String),
    Token(String),
    Nkey(String),
    Credentials(PathBuf, String),
}

impl Secret {
    /// Reads the secret from its file or environment variable.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn of(auth: &AuthOptions) -> Result<Self, String> {
        let file = |path: &Path| {
            let text = fs::read_to_string(path);
            let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok::<String, String>(text.trim().to_owned())
        };
        let env = |name: &str| {
            let value = std::env::var(name);
            value.map_err(|error| format!("cannot use the environment variable {name}: {error}"))
        };
        match auth {
            AuthOptions { password_file: Some(path), .. } => file(path).map(Self::Password),
            AuthOptions { password_env: Some(name), .. } => env(name).map(Self::Password),
            AuthOptions { token_file: Some(path), .. } => file(path).map(Self::Token),
            AuthOptions { token_env: Some(name), .. } => env(name).map(Self::Token),
            AuthOptions { nkey_file: Some(path), .. } => file(path).map(Self::Nkey),
            AuthOptions { credentials_file: Some(path), .. } => {
                // The parser requires the last newline, which `trim` has removed.
                Ok(Self::Credentials(path.clone(), file(path)? + "\n"))
            }
            _ => Err("no credentials are given: set one of the keys of auth".to_owned()),
        }
    }
}

async fn ensure_stream(
    options: &NatsOptions,
    client: &Client,
    limit: Duration,
) -> Result<(), String> {
    let Some(stream_options) = &options.stream else { return Ok(()) };
    let config = stream::Config {
        name: stream_options.name.clone(),
        subjects: options.stream_subjects(stream_options),
        num_replicas: usize::from(stream_options.replicas),
        max_age: stream_options.max_age.map(|age| age.0).unwrap_or_default(),
        max_bytes: stream_options
            .max_bytes
            .map_or(-1, |size| i64::try_from(size.0).unwrap_or(i64::MAX)),
        duplicate_window: stream_options.duplicate_window.0,
        ..stream::Config::default()
    };
    let context = jetstream::new(client.clone());
    match timeout(limit, context.get_or_create_stream(config)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("stream {:?}: {}", stream_options.name, with_causes(&error))),
        Err(_) => Err(format!("stream {:?}: no answer within {limit:?}", stream_options.name)),
    }
}

/// Returns the place of a record, which is the last token of the subject of its answer.
fn place(subject: &str) -> Option<u64> {
    subject.rsplit('.').next()?.parse().ok()
}

/// An acknowledgement, as the server writes it.
#[derive(Deserialize)]
struct Ack<'a> {
    #[serde(borrow, default)]
    error: Option<AckError<'a>>,
    #[serde(default)]
    seq: u64,
}

#[derive(Deserialize)]
struct AckError<'a> {
    #[serde(default)]
    err_code: u64,
    #[serde(borrow, default)]
    description: std::borrow::Cow<'a, str>,
}

fn read(message: &Message) -> Answer {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        let reason = "no stream accepts the subject: create one, or check that it has a leader";
        return Answer::Temporary(reason.to_owned());
    }
    match serde_json::from_slice(&message.payload) {
        Ok(Ack { error: Some(error), .. }) if error.err_code == TOO_LARGE => {
            Answer::Refused(error.description.into_owned())
        }
        Ok(Ack { error: Some(error), .. }) => {
            Answer::Temporary(format!("error from the stream: {}", error.description))
        }
        Ok(Ack { error: None, seq: 1.. }) => Answer::Stored,
        _ => Answer::Temporary("the answer is not an acknowledgement of a stream".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &str, status: Option<StatusCode>) -> Answer {
        read(&Message {
            subject: "_INBOX.a.7".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status,
            description: None,
            length: 0,
        })
    }

    #[test]
    fn read_distinguishes_answers() {
        assert_eq!(place("_INBOX.abc.7"), Some(7));
        assert_eq!(place("_INBOX.abc.x"), None);
        for payload in [r#"{"stream":"S","seq":3}"#, r#"{"stream":"S","seq":3,"duplicate":true}"#] {
            assert_eq!(answer(payload, None), Answer::Stored, "{payload}");
        }
        let too_large = r#"{"error":{"code":400,"err_code":10054,
            "description":"message size exceeds maximum allowed"}}"#;
        assert!(matches!(answer(too_large, None), Answer::Refused(why) if why.contains("size")));
        let full =
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#;
        assert!(matches!(answer(full, None), Answer::Temporary(why) if why.contains("maximum")));
        assert!(matches!(answer("", Some(StatusCode::NO_RESPONDERS)), Answer::Temporary(_)));
        for nonsense in ["", "{}", "hello", "[]"] {
            assert!(matches!(answer(nonsense, None), Answer::Temporary(_)), "{nonsense}");
        }
    }
}
