//! Requests over HTTP.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use prost::Message as _;
use whalewatch_kit::net::{self, Reply};

use crate::answer::{Outcome, Response};
use crate::client::{self, Tls};
use crate::options::Compression;

/// How much of what a receiver says is told.
const MOST_TOLD: usize = 200;

/// Sends requests over HTTP.
pub(crate) struct Http {
    http: net::Http,
    compression: Compression,
}

impl Http {
    pub(crate) fn new(
        tls: Tls,
        uri: Uri,
        mut headers: HeaderMap,
        compression: Compression,
        timeout: Duration,
    ) -> Self {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, client::USER_AGENT);
        if compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Self { http: net::Http::new(tls, Method::POST, uri, headers, timeout), compression }
    }

    /// The body as it is sent.
    pub(crate) fn encode(&self, body: Bytes) -> Bytes {
        match self.compression {
            Compression::None => body,
            Compression::Gzip => gzip(&body),
        }
    }

    pub(crate) async fn send(&mut self, body: Bytes) -> Outcome {
        match self.http.send(body).await {
            Ok(reply) => outcome(&reply),
            Err(fault) => Outcome::Again { why: fault.to_string(), after: None },
        }
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut out = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    // Memory takes all that is written to it.
    let written = out.write_all(body).and_then(|()| out.finish());
    written.map(Bytes::from).unwrap_or_default()
}

/// What an answer means, by OTLP's table of statuses.
fn outcome(reply: &Reply) -> Outcome {
    let status = reply.status;
    if status.is_success() {
        // The receiver has taken the records; what it says of them is not worth sending them again.
        return Response::decode(reply.body.clone()).unwrap_or_default().into();
    }
    let why = match told(&reply.body) {
        said if said.is_empty() => status.to_string(),
        said => format!("{status}: {said}"),
    };
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Again { why, after: reply.retry_after },
        _ => Outcome::Refused(why),
    }
}

/// What the receiver says: the message of a `google.rpc.Status`, or else the text that came, on one
/// line.
fn told(body: &[u8]) -> String {
    let status = tonic_types::Status::decode(body).ok().filter(|status| !status.message.is_empty());
    let said = status.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |s| s.message);
    said.chars().take(MOST_TOLD).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http::StatusCode;

    use super::*;
    use crate::answer::PartialSuccess;

    fn reply(status: u16, body: &[u8]) -> Reply {
        let status = StatusCode::from_u16(status).expect("a status");
        let retry_after = Some(Duration::from_secs(2));
        Reply { status, retry_after, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn statuses_mean_what_the_protocol_says() {
        for (status, again) in [
            (429, true),
            (502, true),
            (503, true),
            (504, true),
            (400, false),
            (401, false),
            (404, false),
            (413, false),
            (500, false),
            (301, false),
        ] {
            let outcome = outcome(&reply(status, b"\x1b oops"));
            match outcome {
                Outcome::Again { why, after } => {
                    assert!(again && why.contains("  oops"), "{status}: {why:?}");
                    assert_eq!(after, Some(Duration::from_secs(2)));
                }
                other => assert!(!again, "{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_a_receiver_says_is_read() {
        let status = tonic_types::Status { code: 3, message: "no".into(), details: Vec::new() };
        let refused = outcome(&reply(400, &status.encode_to_vec()));
        assert_eq!(refused, Outcome::Refused("400 Bad Request: no".into()));
        let partial_success =
            Some(PartialSuccess { rejected_log_records: 2, error_message: "old".into() });
        let partial = outcome(&reply(200, &Response { partial_success }.encode_to_vec()));
        assert_eq!(partial, Outcome::Accepted { rejected: 2, message: "old".into() });
        let none = Outcome::Accepted { rejected: 0, message: String::new() };
        assert_eq!(outcome(&reply(200, b"")), none);
        assert_eq!(outcome(&reply(200, b"\xff\xff")), none, "taken is taken");
    }

    #[test]
    fn gzip_can_be_undone() {
        let body = b"whale ".repeat(1000);
        let mut out = Vec::new();
        let packed = gzip(&body);
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out).expect("gzip");
        assert_eq!(out, body);
    }
}
