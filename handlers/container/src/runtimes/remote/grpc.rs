//! gRPC calls on a Unix socket.

use std::future::{Ready, ready};
use std::io;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::runtimes::causes;

/// Bound on the size of an answer in bytes: the kubelet has the same.
const MAX_ANSWER: usize = 16 << 20;

/// The header that selects one of containerd's namespaces.
const NAMESPACE: &str = "containerd-namespace";

/// Calls the service on one socket.
#[derive(Clone, Debug)]
pub(in crate::runtimes) struct Caller {
    channel: Channel,
    limit: Duration,
}

impl Caller {
    /// Connects to a socket; each answer may take up to `limit`.
    pub(super) async fn connect(socket: &Path, limit: Duration) -> Result<Self, Status> {
        let connect = async {
            let stream = UnixStream::connect(socket).await.map_err(|e| failed(&e))?;
            // A socket has no host name, but some servers insist on one.
            let endpoint = Endpoint::from_static("http://localhost");
            endpoint.connect_with_connector(Once(Some(stream))).await.map_err(|e| failed(&e))
        };
        Ok(Self { channel: in_time(limit, connect).await?, limit })
    }

    /// Waits for an answer within the time limit.
    pub(in crate::runtimes) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        in_time(self.limit, answer).await
    }

    /// Calls a method with one answer.
    pub(in crate::runtimes) async fn ask<Q, A>(
        &self,
        method: &'static str,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = request(namespace, question)?;
        let mut client = self.client();
        let answer = self.in_time(async {
            client.ready().await.map_err(|error| failed(&error))?;
            client.unary(request, PathAndQuery::from_static(method), codec::<Q, A>()).await
        });
        Ok(answer.await?.into_inner())
    }

    /// Calls a method with a stream of answers. There is no time limit: a server may send nothing,
    /// not even headers, before the first answer.
    pub(in crate::runtimes) async fn stream<Q, A>(
        &self,
        method: &'static str,
        namespace: Option<&str>,
        question: Q,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let request = request(namespace, question)?;
        let mut client = self.client();
        client.ready().await.map_err(|error| failed(&error))?;
        let method = PathAndQuery::from_static(method);
        let stream = client.server_streaming(request, method, codec::<Q, A>()).await?;
        Ok(stream.into_inner())
    }

    fn client(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

fn codec<Q, A>() -> ProstCodec<Q, A> {
    ProstCodec::default()
}

fn request<Q>(namespace: Option<&str>, question: Q) -> Result<Request<Q>, Status> {
    let mut request = Request::new(question);
    if let Some(namespace) = namespace {
        let value = MetadataValue::try_from(namespace)
            .map_err(|_| Status::invalid_argument("the namespace is not a valid header value"))?;
        request.metadata_mut().insert(NAMESPACE, value);
    }
    Ok(request)
}

/// Waits for an answer within this limit.
pub(super) async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded(format!("no answer within {limit:?}"));
    timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}

/// A connector that connects once: when a runtime goes, that must be noticed, not hidden by a
/// silent connection to the next one.
struct Once(Option<UnixStream>);

impl Service<Uri> for Once {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into());
        ready(stream.map(TokioIo::new))
    }
}

fn failed(error: &dyn std::error::Error) -> Status {
    Status::unavailable(causes(error))
}
