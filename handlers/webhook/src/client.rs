//! Sends requests, retries them, and reports the outcome for each event.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use rustls::ClientConfig;
use tokio::time::Instant;
use whalewatch_kit::Backoff;
use whalewatch_net::{Answered, Http, Jobs, Outage, Reply, Seldom, server};

use crate::options::WebhookOptions;

/// The longest pause that a receiver may request.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);
/// How many characters of a response's body to log.
const MAX_LOGGED: usize = 200;

/// The settings of the sender.
pub(crate) struct Plan {
    pub(crate) handler: String,
    pub(crate) options: WebhookOptions,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: ClientConfig,
}

struct Sender {
    http: Http,
    pace: Pace,
    backoff: Backoff,
    tries: u32,
    handler: String,
    outage: Outage,
    failed: Seldom,
}

/// Sends all bodies in order, each for one event.
pub(crate) async fn work(plan: Plan, mut jobs: Jobs<Bytes>) {
    let mut sender = Sender::new(plan);
    while let Some(body) = jobs.next().await {
        let delivered = u64::from(sender.send(body).await);
        jobs.answer(Answered { delivered, dropped: 1 - delivered });
    }
}

/// The meaning of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Retry,
    Rejected,
}

fn outcome(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Accepted,
        408 | 429 | 500..=599 => Outcome::Retry,
        // Redirects too: the headers with their secrets would go to any address that they name.
        _ => Outcome::Rejected,
    }
}

impl Sender {
    fn new(plan: Plan) -> Self {
        let Plan { handler, options, uri, mut headers, tls } = plan;
        for (name, value) in [
            (CONTENT_TYPE, "application/json"),
            (USER_AGENT, concat!("whalewatch/", env!("CARGO_PKG_VERSION"))),
        ] {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        Self {
            outage: Outage::new(&handler, &server(&uri)),
            http: Http::new(tls, options.method.into(), uri, headers, options.timeout.0),
            pace: Pace::new(options.max_per_second),
            backoff: Backoff::new(options.retry_pause.0, options.retry_pause_max.0).with_jitter(),
            tries: options.tries,
            handler,
            failed: Seldom::default(),
        }
    }

    /// Sends a request until it is accepted, rejected or given up. Returns whether it was accepted.
    async fn send(&mut self, body: Bytes) -> bool {
        self.backoff.reset();
        let mut why = String::new();
        for left in (0..self.tries).rev() {
            self.pace.wait().await;
            let retry_after = match self.http.send(body.clone()).await {
                Ok(reply) => match outcome(reply.status.as_u16()) {
                    Outcome::Accepted => {
                        self.outage.works();
                        return true;
                    }
                    Outcome::Rejected => {
                        self.outage.works();
                        self.log_drop(&format!("rejected: {}", describe(&reply)));
                        return false;
                    }
                    Outcome::Retry => {
                        why = describe(&reply);
                        reply.retry_after
                    }
                },
                Err(fault) => {
                    why = fault.to_string();
                    None
                }
            };
            self.outage.fails(&why);
            if left > 0 {
                let pause = retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
                let pause = pause.unwrap_or_else(|| self.backoff.pause());
                tokio::time::sleep(pause).await;
            }
        }
        self.log_drop(&format!("given up after {} tries: {why}", self.tries));
        false
    }

    fn log_drop(&mut self, why: &str) {
        if let Some(dropped) = self.failed.count(1) {
            let handler = &self.handler;
            tracing::warn!(handler, dropped, why, "events dropped: not accepted by the receiver");
        }
    }
}

/// Returns the status and the beginning of the body of a response, on one line.
fn describe(reply: &Reply) -> String {
    let body = String::from_utf8_lossy(&reply.body);
    let body: String =
        body.chars().take(MAX_LOGGED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match body.trim() {
        "" => reply.status.to_string(),
        body => format!("{}: {body}", reply.status),
    }
}

/// Limits the rate of requests by even spacing.
struct Pace {
    interval: Duration,
    /// The earliest time of the next request.
    next: Option<Instant>,
}

impl Pace {
    /// Allows `per_second` requests in a second; 0 means no limit.
    fn new(per_second: u32) -> Self {
        let interval =
            if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self { interval, next: None }
    }

    async fn wait(&mut self) {
        if self.interval.is_zero() {
            return;
        }
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
        }
        self.next = Some(Instant::now() + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_failures_are_retried() {
        for (status, want) in [
            (200, Outcome::Accepted),
            (204, Outcome::Accepted),
            (301, Outcome::Rejected),
            (400, Outcome::Rejected),
            (401, Outcome::Rejected),
            (404, Outcome::Rejected),
            (408, Outcome::Retry),
            (429, Outcome::Retry),
            (500, Outcome::Retry),
            (503, Outcome::Retry),
        ] {
            assert_eq!(outcome(status), want, "{status}");
        }
    }
}
