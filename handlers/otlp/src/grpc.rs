//! Requests over gRPC.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use prost::Message as _;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use whalewatch_core::error::append_causes;
use whalewatch_net as net;

use crate::answer::{Outcome, Response};
use crate::client::{Tls, USER_AGENT};
use crate::options::Compression;

const EXPORT: PathAndQuery =
    PathAndQuery::from_static("/opentelemetry.proto.collector.logs.v1.LogsService/Export");

/// Sends requests over gRPC.
pub(crate) struct Grpc {
    client: Client<net::Client<Body>>,
    tls: Tls,
    uri: Uri,
    metadata: MetadataMap,
    compression: Compression,
    timeout: Duration,
}

impl Grpc {
    pub(crate) fn new(
        tls: Tls,
        uri: Uri,
        mut headers: HeaderMap,
        compression: Compression,
        timeout: Duration,
    ) -> Self {
        headers.insert(http::header::USER_AGENT, USER_AGENT);
        let metadata = MetadataMap::from_headers(headers);
        let client = connect(&tls, &uri, compression, timeout);
        Self { client, tls, uri, metadata, compression, timeout }
    }

    pub(crate) async fn send(&mut self, body: Bytes) -> Outcome {
        let mut request = Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        // The receiver gets the timeout in a header, so that it can stop, too.
        request.set_timeout(self.timeout);
        let client = &mut self.client;
        let answer = tokio::time::timeout(self.timeout, async {
            client.ready().await.map_err(|error| Status::from_error(error.into()))?;
            client.unary(request, EXPORT, Raw).await
        });
        match answer.await {
            Ok(Ok(response)) => response.into_inner().into(),
            Ok(Err(status)) => outcome(&status),
            Err(_) => {
                // The next attempt must not wait for the same connection.
                self.client = connect(&self.tls, &self.uri, self.compression, self.timeout);
                let why = format!("no answer within {:?}", self.timeout);
                Outcome::Retry { why, after: None }
            }
        }
    }
}

fn connect(
    tls: &Tls,
    uri: &Uri,
    compression: Compression,
    timeout: Duration,
) -> Client<net::Client<Body>> {
    let client = Client::with_origin(net::client(tls, true, timeout), uri.clone());
    match compression {
        Compression::None => client,
        Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
    }
}

/// Returns the outcome of a failed request, by the [table of codes] in the specification of OTLP.
///
/// [table of codes]: https://opentelemetry.io/docs/specs/otlp/#failures
fn outcome(status: &Status) -> Outcome {
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let retry = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // The receiver will have room again only if it says when.
        Code::ResourceExhausted => after.is_some(),
        // A status that was not sent by the receiver has a cause: the connection failed.
        _ => status.source().is_some(),
    };
    let why = describe(status);
    if retry { Outcome::Retry { why, after } } else { Outcome::Refused(why) }
}

fn describe(status: &Status) -> String {
    append_causes(format!("{:?}: {}", status.code(), status.message()), status.source())
}

/// A codec for requests that are encoded already. It decodes answers.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Response;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, request: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(request.len());
        out.put(request);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Response;
    type Error = Status;

    fn decode(&mut self, answer: &mut DecodeBuf<'_>) -> Result<Option<Response>, Status> {
        let bytes = answer.copy_to_bytes(answer.remaining());
        // The receiver has accepted the records, so they are not sent again even if the answer
        // cannot be decoded.
        Ok(Some(Response::decode(bytes).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn outcome_follows_the_codes_of_the_protocol() {
        for (code, retry) in [
            (Code::Unavailable, true),
            (Code::DeadlineExceeded, true),
            (Code::Aborted, true),
            (Code::OutOfRange, true),
            (Code::DataLoss, true),
            (Code::Cancelled, true),
            (Code::ResourceExhausted, false),
            (Code::InvalidArgument, false),
            (Code::Unauthenticated, false),
            (Code::Unimplemented, false),
            (Code::Internal, false),
            (Code::Unknown, false),
        ] {
            let outcome = outcome(&Status::new(code, "x"));
            assert_eq!(matches!(outcome, Outcome::Retry { .. }), retry, "{code:?}: {outcome:?}");
        }
    }

    #[test]
    fn a_full_receiver_that_requests_a_pause_is_retried() {
        let pause = Duration::from_secs(3);
        let details = ErrorDetails::with_retry_info(Some(pause));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let Outcome::Retry { after, why } = outcome(&status) else { panic!("{status:?}") };
        assert_eq!(after, Some(pause));
        assert!(why.contains("full"), "{why}");
    }

    #[test]
    fn a_connection_error_is_retried() {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let outcome = outcome(&Status::from_error(Box::new(error)));
        assert!(matches!(outcome, Outcome::Retry { after: None, .. }), "{outcome:?}");
    }
}
