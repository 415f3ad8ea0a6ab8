//! A scripted receiver for tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use whalewatch_testing::{Answer, Received, Server};

use crate::options::Protocol;

/// The reaction to a request.
pub(super) enum Reaction {
    Accept,
    /// Accepts the request with this encoded `ExportLogsServiceResponse`.
    Partly(Vec<u8>),
    /// Refuses the request for now, and requests this pause, if any.
    Later(Option<Duration>),
    Refuse,
    Hang,
}

type Script = dyn FnMut(&ExportLogsServiceRequest) -> Reaction + Send;

/// Returns the number of records in a request.
pub(super) fn records(request: &ExportLogsServiceRequest) -> usize {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.map(|scope| scope.log_records.len()).sum()
}

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<Script>>,
    requests: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
    headers: Arc<Mutex<Vec<(String, String)>>>,
}

pub(super) struct Receiver {
    pub(super) protocol: Protocol,
    address: String,
    shared: Shared,
    _server: Either,
}

#[expect(dead_code, reason = "a server stops when it is dropped")]
enum Either {
    Grpc(GrpcServer),
    Http(Server),
}

impl Receiver {
    pub(super) fn start(
        protocol: Protocol,
        script: impl FnMut(&ExportLogsServiceRequest) -> Reaction + Send + 'static,
    ) -> Self {
        let shared = Shared {
            script: Arc::new(Mutex::new(script)),
            requests: Arc::default(),
            headers: Arc::default(),
        };
        let (address, server) = match protocol {
            Protocol::Grpc => {
                let server = GrpcServer::start(shared.clone());
                (format!("http://{}", server.address), Either::Grpc(server))
            }
            Protocol::Http => {
                let shared = shared.clone();
                let server = Server::start(move |request| http(&shared, request));
                (server.url(""), Either::Http(server))
            }
        };
        Self { protocol, address, shared, _server: server }
    }

    pub(super) fn endpoint(&self) -> String {
        self.address.clone()
    }

    /// Returns all requests so far.
    pub(super) fn requests(&self) -> Vec<ExportLogsServiceRequest> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }

    /// Returns a header of the last request.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let headers = self.shared.headers.lock().expect("not poisoned");
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

impl Shared {
    fn react(&self, request: ExportLogsServiceRequest, headers: Vec<(String, String)>) -> Reaction {
        let reaction = (self.script.lock().expect("not poisoned"))(&request);
        self.requests.lock().expect("not poisoned").push(request);
        *self.headers.lock().expect("not poisoned") = headers;
        reaction
    }
}

fn http(shared: &Shared, request: &Received) -> Answer {
    use std::io::Read as _;
    assert_eq!((&*request.method, &*request.path), ("POST", "/v1/logs"));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let mut body = request.body.clone();
    if request.header("content-encoding") == Some("gzip") {
        body.clear();
        flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut body).expect("gzip");
    }
    let message = ExportLogsServiceRequest::decode(&body[..]).expect("a request");
    match shared.react(message, request.headers.clone()) {
        Reaction::Accept => Answer::status(200),
        Reaction::Partly(body) => Answer::Reply { status: 200, headers: Vec::new(), body },
        Reaction::Later(after) => {
            let headers = after.map(|after| ("Retry-After", after.as_secs().to_string()));
            Answer::Reply { status: 503, headers: headers.into_iter().collect(), body: Vec::new() }
        }
        Reaction::Refuse => Answer::status(400),
        Reaction::Hang => Answer::Hang,
    }
}

struct GrpcServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcServer {
    fn start(shared: Shared) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (address_sender, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address"));
                let incoming = incoming.expect("a port");
                let bound = incoming.local_addr().expect("an address");
                address_sender.send(bound).expect("the test waits");
                let service =
                    LogsServiceServer::new(shared).accept_compressed(CompressionEncoding::Gzip);
                let server = tonic::transport::Server::builder().add_service(service);
                // Stops without waiting for requests that hang.
                tokio::select! {
                    result = server.serve_with_incoming(incoming) => result.expect("no failure"),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("an address");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().map(JoinHandle::join);
    }
}

#[tonic::async_trait]
impl LogsService for Shared {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let headers = metadata.into_headers();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        match self.react(message, headers.collect()) {
            Reaction::Accept => Ok(Response::new(ExportLogsServiceResponse::default())),
            Reaction::Partly(body) => {
                Ok(Response::new(ExportLogsServiceResponse::decode(&body[..]).expect("an answer")))
            }
            Reaction::Later(after) => {
                let details = after.map_or_else(ErrorDetails::new, |after| {
                    ErrorDetails::with_retry_info(Some(after))
                });
                Err(Status::with_error_details(Code::Unavailable, "later", details))
            }
            Reaction::Refuse => Err(Status::invalid_argument("no")),
            Reaction::Hang => std::future::pending().await,
        }
    }
}
