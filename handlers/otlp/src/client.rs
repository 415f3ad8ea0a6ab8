//! Sends requests, retries them, and reports the outcome of each event.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use whalewatch_kit::Backoff;
use whalewatch_net::{Answered, Jobs, Outage, Seldom, server};

use crate::answer::Outcome;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::options::{OtlpOptions, Protocol};

/// The configuration of TLS.
pub(crate) type Tls = rustls::ClientConfig;

pub(crate) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("OTel-OTLP-Exporter-Whalewatch/", env!("CARGO_PKG_VERSION")));

/// A request: an encoded `ExportLogsServiceRequest`, and the number of its events.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) body: Bytes,
    pub(crate) events: u64,
}

/// Everything that [`work`] needs besides its jobs.
pub(crate) struct Plan {
    pub(crate) handler: String,
    pub(crate) options: OtlpOptions,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: Tls,
}

enum Transport {
    Grpc(Box<Grpc>),
    Http(Box<Http>),
}

impl Transport {
    fn encode(&self, body: Bytes) -> Bytes {
        match self {
            // tonic compresses the body.
            Self::Grpc(_) => body,
            Self::Http(http) => http.encode(body),
        }
    }

    async fn send(&mut self, body: Bytes) -> Outcome {
        match self {
            Self::Grpc(grpc) => grpc.send(body).await,
            Self::Http(http) => http.send(body).await,
        }
    }
}

struct Sender {
    transport: Transport,
    handler: String,
    backoff: Backoff,
    give_up: Duration,
    outage: Outage,
    refused: Seldom,
}

/// Sends all jobs in order, and answers each.
pub(crate) async fn work(plan: Plan, mut jobs: Jobs<Job>) {
    let mut sender = Sender::new(plan);
    while let Some(Job { body, events }) = jobs.next().await {
        let body = sender.transport.encode(body);
        let delivered = sender.send(body, events).await.min(events);
        jobs.answer(Answered { delivered, dropped: events - delivered });
    }
}

impl Sender {
    fn new(plan: Plan) -> Self {
        let Plan { handler, options, uri, headers, tls } = plan;
        let (compression, timeout) = (options.compression, options.timeout.0);
        let outage = Outage::new(&handler, &server(&uri));
        let transport = match options.protocol {
            Protocol::Grpc => {
                Transport::Grpc(Box::new(Grpc::new(tls, uri, headers, compression, timeout)))
            }
            Protocol::Http => {
                Transport::Http(Box::new(Http::new(tls, uri, headers, compression, timeout)))
            }
        };
        Self {
            transport,
            handler,
            backoff: Backoff::new(options.retry_pause.0, options.retry_pause_max.0).with_jitter(),
            give_up: options.give_up.0,
            outage,
            refused: Seldom::default(),
        }
    }

    /// Sends a request until it is accepted, refused or given up. Returns the number of its events
    /// that were accepted.
    async fn send(&mut self, body: Bytes, events: u64) -> u64 {
        let begin = Instant::now();
        self.backoff.reset();
        loop {
            match self.transport.send(body.clone()).await {
                Outcome::Accepted { rejected, message } => {
                    self.outage.works();
                    self.log_refused(rejected.min(events), &message);
                    return events.saturating_sub(rejected);
                }
                Outcome::Refused(why) => {
                    self.outage.works();
                    self.log_refused(events, &why);
                    return 0;
                }
                Outcome::Retry { why, after } => {
                    self.outage.fails(&why);
                    let pause = after.unwrap_or_else(|| self.backoff.pause());
                    if begin.elapsed().saturating_add(pause) > self.give_up {
                        self.log_refused(
                            events,
                            &format!("given up after {:?}: {why}", self.give_up),
                        );
                        return 0;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Logs events that the receiver has not accepted, and its message. Logs the message also if
    /// all events were accepted.
    fn log_refused(&mut self, events: u64, why: &str) {
        let handler = &self.handler;
        if events > 0 {
            if let Some(dropped) = self.refused.count(events) {
                tracing::warn!(
                    handler,
                    dropped,
                    why,
                    "events are dropped: not accepted by the receiver"
                );
            }
        } else if !why.is_empty() {
            tracing::info!(handler, why, "the receiver accepted all events with a message");
        }
    }
}
