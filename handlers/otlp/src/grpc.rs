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
use whalewatch_kit::net;

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
        // Tells the receiver, too, which may then leave off.
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
                // The next try shall not wait on the same connection.
                self.client = connect(&self.tls, &self.uri, self.compression, self.timeout);
                let why = format!("no answer within {:?}", self.timeout);
                Outcome::Again { why, after: None }
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

/// What a failure means, by OTLP's table of codes.
fn outcome(status: &Status) -> Outcome {
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let again = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        // Only a receiver that says when there will be room again can be expected to have some.
        Code::ResourceExhausted => after.is_some(),
        // What came from no receiver has a cause: the connection failed.
        _ => status.source().is_some(),
    };
    let why = describe(status);
    if again { Outcome::Again { why, after } } else { Outcome::Refused(why) }
}

fn describe(status: &Status) -> String {
    append_causes(format!("{:?}: {}", status.code(), status.message()), status.source())
}

/// Requests are encoded before; answers are decoded.
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
        // The receiver has taken the records; what it says of them is not worth sending them again.
        Ok(Some(Response::decode(bytes).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn codes_mean_what_the_protocol_says() {
        for (code, again) in [
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
            assert_eq!(matches!(outcome, Outcome::Again { .. }), again, "{code:?}: {outcome:?}");
        }
    }

    #[test]
    fn a_receiver_that_is_full_and_says_until_when_is_asked_again() {
        let pause = Duration::from_secs(3);
        let details = ErrorDetails::with_retry_info(Some(pause));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let Outcome::Again { after, why } = outcome(&status) else { panic!("{status:?}") };
        assert_eq!(after, Some(pause));
        assert!(why.contains("full"), "{why}");
    }

    #[test]
    fn a_connection_that_fails_is_tried_again() {
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let outcome = outcome(&Status::from_error(Box::new(error)));
        assert!(matches!(outcome, Outcome::Again { after: None, .. }), "{outcome:?}");
    }
}
