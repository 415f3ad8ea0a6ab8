//! Sends requests, again and again if it must, and answers for each event.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Uri};
use rustls::ClientConfig;
use tokio::time::Instant;
use whalewatch_kit::Backoff;
use whalewatch_kit::net::{Answered, Http, Jobs, Outage, Reply, Seldom, server};

use crate::options::WebhookOptions;

/// The longest pause that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_hours(1);
/// How much of what a receiver says is told.
const MOST_TOLD: usize = 200;

/// What the work needs besides its jobs.
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

/// Sends all bodies in their order, each for one event.
pub(crate) async fn work(plan: Plan, mut jobs: Jobs<Bytes>) {
    let mut sender = Sender::new(plan);
    while let Some(body) = jobs.next().await {
        let delivered = u64::from(sender.send(body).await);
        jobs.answer(Answered { delivered, dropped: 1 - delivered });
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Taken,
    Again,
    Refused,
}

fn meaning(status: u16) -> Meaning {
    match status {
        200..=299 => Meaning::Taken,
        408 | 429 | 500..=599 => Meaning::Again,
        // A redirect too: to follow one would send what is in the headers to wherever it says.
        _ => Meaning::Refused,
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

    /// Sends a request until it is taken, refused, or given up; whether it was taken.
    async fn send(&mut self, body: Bytes) -> bool {
        self.backoff.reset();
        let mut why = String::new();
        for left in (0..self.tries).rev() {
            self.pace.wait().await;
            let asked = match self.http.send(body.clone()).await {
                Ok(reply) => match meaning(reply.status.as_u16()) {
                    Meaning::Taken => {
                        self.outage.works();
                        return true;
                    }
                    Meaning::Refused => {
                        self.outage.works();
                        self.tell(&format!("refused: {}", told(&reply)));
                        return false;
                    }
                    Meaning::Again => {
                        why = told(&reply);
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
                let pause = asked.map(|pause| pause.min(LONGEST_ASKED));
                let pause = pause.unwrap_or_else(|| self.backoff.pause());
                tokio::time::sleep(pause).await;
            }
        }
        self.tell(&format!("given up after {} tries: {why}", self.tries));
        false
    }

    fn tell(&mut self, why: &str) {
        if let Some(dropped) = self.failed.count(1) {
            let handler = &self.handler;
            tracing::warn!(handler, dropped, why, "events were not taken by the receiver");
        }
    }
}

/// What an answer says, on one line.
fn told(reply: &Reply) -> String {
    let said = String::from_utf8_lossy(&reply.body);
    let said: String =
        said.chars().take(MOST_TOLD).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match said.trim() {
        "" => reply.status.to_string(),
        said => format!("{}: {said}", reply.status),
    }
}

/// Lets so many through in a second, evenly.
struct Pace {
    between: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// So many in a second; no limit for 0.
    fn new(per_second: u32) -> Self {
        let between =
            if per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / per_second };
        Self { between, next: None }
    }

    async fn wait(&mut self) {
        if self.between.is_zero() {
            return;
        }
        if let Some(next) = self.next {
            tokio::time::sleep_until(next).await;
        }
        self.next = Some(Instant::now() + self.between);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, want) in [
            (200, Meaning::Taken),
            (204, Meaning::Taken),
            (301, Meaning::Refused),
            (400, Meaning::Refused),
            (401, Meaning::Refused),
            (404, Meaning::Refused),
            (408, Meaning::Again),
            (429, Meaning::Again),
            (500, Meaning::Again),
            (503, Meaning::Again),
        ] {
            assert_eq!(meaning(status), want, "{status}");
        }
    }
}
