//! Requests over HTTP.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use prost::Message as _;
use whalewatch_net::{self as net, Reply};

use crate::answer::{Outcome, Response};
use crate::client::{self, Tls};
use crate::options::Compression;

/// The most characters of a receiver's message to log.
const MAX_MESSAGE: usize = 200;

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

    /// Compresses a body if that is configured.
    pub(crate) fn encode(&self, body: Bytes) -> Bytes {
        match self.compression {
            Compression::None => body,
            Compression::Gzip => gzip(&body),
        }
    }

    pub(crate) async fn send(&mut self, body: Bytes) -> Outcome {
        match self.http.send(body).await {
            Ok(reply) => outcome(&reply),
            Err(fault) => Outcome::Retry { why: fault.to_string(), after: None },
        }
    }
}

fn gzip(body: &[u8]) -> Bytes {
    let mut out = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    // Writing to memory does not fail.
    let written = out.write_all(body).and_then(|()| out.finish());
    written.map(Bytes::from).unwrap_or_default()
}

/// Returns the outcome of a request, by the [statuses] in the specification of OTLP.
///
/// [statuses]: https://opentelemetry.io/docs/specs/otlp/#failures-1
fn outcome(reply: &Reply) -> Outcome {
    let status = reply.status;
    if status.is_success() {
        // The receiver has accepted the records, so they are not sent again even if the answer
        // cannot be decoded.
        return Response::decode(reply.body.clone()).unwrap_or_default().into();
    }
    let why = match error_message(&reply.body) {
        message if message.is_empty() => status.to_string(),
        message => format!("{status}: {message}"),
    };
    match status.as_u16() {
        429 | 502 | 503 | 504 => Outcome::Retry { why, after: reply.retry_after },
        _ => Outcome::Refused(why),
    }
}

/// Returns the receiver's message on one line: that of a `google.rpc.Status`, otherwise the body as
/// text.
fn error_message(body: &[u8]) -> String {
    let status = tonic_types::Status::decode(body).ok().filter(|status| !status.message.is_empty());
    let message = status.map_or_else(|| String::from_utf8_lossy(body).into_owned(), |s| s.message);
    message.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
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
    fn outcome_follows_the_statuses_of_the_protocol() {
        for (status, retry) in [
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
                Outcome::Retry { why, after } => {
                    assert!(retry && why.contains("  oops"), "{status}: {why:?}");
                    assert_eq!(after, Some(Duration::from_secs(2)));
                }
                other => assert!(!retry, "{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn outcome_has_the_message_of_the_receiver() {
        let status = tonic_types::Status { code: 3, message: "no".into(), details: Vec::new() };
        let refused = outcome(&reply(400, &status.encode_to_vec()));
        assert_eq!(refused, Outcome::Refused("400 Bad Request: no".into()));
        let partial_success =
            Some(PartialSuccess { rejected_log_records: 2, error_message: "old".into() });
        let partial = outcome(&reply(200, &Response { partial_success }.encode_to_vec()));
        assert_eq!(partial, Outcome::Accepted { rejected: 2, message: "old".into() });
        let none = Outcome::Accepted { rejected: 0, message: String::new() };
        assert_eq!(outcome(&reply(200, b"")), none);
        assert_eq!(outcome(&reply(200, b"\xff\xff")), none, "accepted whatever the body is");
    }

    #[test]
    fn gzip_output_can_be_decompressed() {
        let body = b"whale ".repeat(1000);
        let mut out = Vec::new();
        let packed = gzip(&body);
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out).expect("gzip");
        assert_eq!(out, body);
    }
}
