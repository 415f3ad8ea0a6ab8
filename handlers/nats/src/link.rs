//! One connection to a server: publishing, and the acknowledgements that come back.
//!
//! A connection that breaks is not mended. The client would go on with what stands in its queue and
//! leave a hole where what it had written was lost; so it is dropped with all it holds, and a new
//! one begins with what is not acknowledged.

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

/// Acknowledgements taken at a time.
const ACKS: usize = 1024;
/// A message is larger than the stream takes.
const TOO_LARGE: u64 = 10_054;

/// What came back for an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in the stream.
    Taken,
    /// It will never be taken, and why.
    Refused(String),
    /// It may be taken another time; why it was not.
    NotNow(String),
}

/// What became of a record that was to be published.
pub(crate) enum Published {
    OnItsWay,
    /// It will never be taken, and why.
    Refused(String),
    Broken(String),
}

/// A connection.
pub(crate) struct Link {
    client: Client,
    inbox: String,
    answers: Subscriber,
    broken: mpsc::Receiver<String>,
}

impl Link {
    /// Connects, and sees to the stream.
    ///
    /// # Errors
    /// Why it could not.
    pub(crate) async fn open(options: &NatsOptions, name: &str) -> Result<Self, String> {
        let limit = options.connect_timeout.0;
        let (told, broken) = mpsc::channel(16);
        let connected = Arc::new(AtomicBool::new(false));
        let settings = settings(options, name, told, &connected)?;
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

    /// Sends a record, whose answer will come under `place`.
    pub(crate) async fn publish(&self, place: u64, record: Record) -> Published {
        let (Ok(subject), Ok(id)) =
            (Subject::from_utf8(record.subject), str::from_utf8(&record.id))
        else {
            return Published::Refused("its subject is no text".to_owned());
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, HeaderValue::from(id));
        let reply = format!("{}.{place}", self.inbox);
        let sent =
            self.client.publish_with_reply_and_headers(subject, reply, headers, record.payload);
        match sent.await {
            Ok(()) => Published::OnItsWay,
            Err(error)
                if error.kind() == async_nats::client::PublishErrorKind::MaxPayloadExceeded =>
            {
                Published::Refused(error.to_string())
            }
            Err(error) => Published::Broken(with_causes(&error)),
        }
    }

    /// Waits for answers: the places of their records and what they say.
    ///
    /// # Errors
    /// Why the connection broke.
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
    told: mpsc::Sender<String>,
    connected: &Arc<AtomicBool>,
) -> Result<ConnectOptions, String> {
    let connected = Arc::clone(connected);
    let mut settings = ConnectOptions::new()
        .name(name)
        .connection_timeout(options.connect_timeout.0)
        .request_timeout(Some(options.connect_timeout.0))
        .ping_interval(Duration::from_secs(10))
        .skip_subject_validation(true)
        // Nothing is sent that is not in flight, so there is always room.
        .client_capacity(options.max_in_flight as usize + 64)
        .subscription_capacity(options.max_in_flight as usize + 64)
        .event_callback(move |event| {
            let reason = match event {
                Event::Disconnected | Event::Closed => Some("the connection was lost".to_owned()),
                Event::ServerError(error) => Some(format!("the server says: {error}")),
                _ => None,
            };
            if let Some(reason) = reason {
                // The first reason is enough.
                told.try_send(reason).ok();
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
        Secret::Credentials(path, text) => {
            settings.credentials(&text).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

/// What proves who it is that publishes.
pub(crate) enum Secret {
    Password(String),
    Token(String),
    Nkey(String),
    Credentials(PathBuf, String),
}

impl Secret {
    /// Reads it from where the options say.
    ///
    /// # Errors
    /// If it is not there.
    pub(crate) fn of(auth: &AuthOptions) -> Result<Self, String> {
        let file = |path: &Path| {
            let text = fs::read_to_string(path);
            let text =
                text.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            Ok::<String, String>(text.trim().to_owned())
        };
        let env = |name: &str| {
            let value = std::env::var(name);
            value
                .map_err(|error| format!("the environment variable {name} cannot be used: {error}"))
        };
        match auth {
            AuthOptions { password_file: Some(path), .. } => file(path).map(Self::Password),
            AuthOptions { password_env: Some(name), .. } => env(name).map(Self::Password),
            AuthOptions { token_file: Some(path), .. } => file(path).map(Self::Token),
            AuthOptions { token_env: Some(name), .. } => env(name).map(Self::Token),
            AuthOptions { nkey_file: Some(path), .. } => file(path).map(Self::Nkey),
            AuthOptions { credentials_file: Some(path), .. } => {
                // The parser wants the line's end that `trim` took.
                Ok(Self::Credentials(path.clone(), file(path)? + "\n"))
            }
            _ => Err("nothing says who it is: set one of the keys of auth".to_owned()),
        }
    }
}

async fn ensure_stream(
    options: &NatsOptions,
    client: &Client,
    limit: Duration,
) -> Result<(), String> {
    let Some(wanted) = &options.stream else { return Ok(()) };
    let config = stream::Config {
        name: wanted.name.clone(),
        subjects: options.stream_subjects(wanted),
        num_replicas: usize::from(wanted.replicas),
        max_age: wanted.max_age.map(|age| age.0).unwrap_or_default(),
        max_bytes: wanted.max_bytes.map_or(-1, |size| i64::try_from(size.0).unwrap_or(i64::MAX)),
        duplicate_window: wanted.duplicate_window.0,
        ..stream::Config::default()
    };
    let context = jetstream::new(client.clone());
    match timeout(limit, context.get_or_create_stream(config)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("stream {:?}: {}", wanted.name, with_causes(&error))),
        Err(_) => Err(format!("stream {:?}: no answer within {limit:?}", wanted.name)),
    }
}

/// The last token of the subject of an answer.
fn place(subject: &str) -> Option<u64> {
    subject.rsplit('.').next()?.parse().ok()
}

/// An answer, as the server writes it.
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
        let hint = "no stream takes the subject: none is there for it, or it has no leader";
        return Answer::NotNow(hint.to_owned());
    }
    match serde_json::from_slice(&message.payload) {
        Ok(Ack { error: Some(error), .. }) if error.err_code == TOO_LARGE => {
            Answer::Refused(error.description.into_owned())
        }
        Ok(Ack { error: Some(error), .. }) => {
            Answer::NotNow(format!("the stream says: {}", error.description))
        }
        Ok(Ack { error: None, seq: 1.. }) => Answer::Taken,
        _ => Answer::NotNow("what answers is no stream".to_owned()),
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
    fn answers_are_told_apart() {
        assert_eq!(place("_INBOX.abc.7"), Some(7));
        assert_eq!(place("_INBOX.abc.x"), None);
        for payload in [r#"{"stream":"S","seq":3}"#, r#"{"stream":"S","seq":3,"duplicate":true}"#] {
            assert_eq!(answer(payload, None), Answer::Taken, "{payload}");
        }
        let too_large = r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
        assert!(matches!(answer(too_large, None), Answer::Refused(why) if why.contains("size")));
        let full =
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#;
        assert!(matches!(answer(full, None), Answer::NotNow(why) if why.contains("maximum")));
        assert!(matches!(answer("", Some(StatusCode::NO_RESPONDERS)), Answer::NotNow(_)));
        for nonsense in ["", "{}", "hello", "[]"] {
            assert!(matches!(answer(nonsense, None), Answer::NotNow(_)), "{nonsense}");
        }
    }
}
