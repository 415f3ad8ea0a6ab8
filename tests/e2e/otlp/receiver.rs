//! A strict receiver for both protocols, which can be killed and whose faults can be set.

use std::collections::VecDeque;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message as _;
use serde_json::Value;
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use whalewatch_testing::{Answer, Received, Server};

use super::{TOKEN, line, strict};

#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// What becomes of a request.
#[derive(Clone, Copy)]
pub(crate) enum Reaction {
    Accept,
    /// Not now: after so long, or whenever.
    Later(Option<Duration>),
    /// Accepts all but this many records.
    Partly(usize),
    Refuse,
    Hang,
}

#[derive(Default)]
struct State {
    /// What becomes of the next requests; after them all are accepted.
    next: VecDeque<Reaction>,
    lines: Vec<Value>,
    refused: Vec<Value>,
    /// What was wrong with requests.
    breaches: Vec<String>,
}

/// The receiver, and what it has seen in all its lives.
pub(crate) struct Receiver {
    protocol: Protocol,
    address: SocketAddr,
    identity: Identity,
    shared: Shared,
    server: Option<Running>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[expect(dead_code, reason = "held until it is dropped")]
enum Running {
    Grpc(GrpcServer),
    Http(Server),
}

impl Receiver {
    /// Starts a receiver on a free port. One for gRPC has a certificate, whose authority is in
    /// `dir`, as `ca.pem`.
    pub(crate) fn start(protocol: Protocol, dir: &Path) -> Self {
        let mut receiver = Self {
            protocol,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: certify(&dir.join("ca.pem")),
            shared: Shared::default(),
            server: None,
        };
        receiver.come_back();
        receiver
    }

    pub(crate) fn endpoint(&self) -> String {
        match self.protocol {
            Protocol::Grpc => format!("https://localhost:{}", self.address.port()),
            Protocol::Http => format!("http://{}", self.address),
        }
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// Starts it where it was.
    pub(crate) fn come_back(&mut self) {
        let shared = self.shared.clone();
        let running = match self.protocol {
            Protocol::Grpc => {
                let server = GrpcServer::start(self.address, shared, self.identity.clone());
                self.address = server.address;
                Running::Grpc(server)
            }
            Protocol::Http => {
                let server = Server::start_at(self.address, move |request| shared.http(request));
                self.address = server.address();
                Running::Http(server)
            }
        };
        self.server = Some(running);
    }

    /// Says what becomes of the next requests.
    pub(crate) fn next(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.state().next.extend(reactions);
    }

    /// Whether all of that has been done.
    pub(crate) fn calm(&self) -> bool {
        self.shared.state().next.is_empty()
    }

    /// Everything it has accepted, as lines of JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.shared.state().lines.clone()
    }

    /// Everything it has refused.
    pub(crate) fn refused(&self) -> Vec<Value> {
        self.shared.state().refused.clone()
    }

    #[track_caller]
    pub(crate) fn assert_no_breach(&self) {
        assert_eq!(self.shared.state().breaches, [""; 0]);
    }
}

/// Makes an authority and a certificate for this machine.
fn certify(ca_file: &Path) -> Identity {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let ca = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    fs::write(ca_file, ca.pem()).expect("the scratch folder can be written to");
    let (key, params) = (key(), CertificateParams::new(vec!["localhost".to_owned()]));
    let certificate = params.expect("a name").signed_by(&key, &ca).expect("a certificate");
    Identity::from_pem(certificate.pem(), key.serialize_pem())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a request, says what becomes of it and takes it down.
    fn react(&self, token: Option<&str>, request: &ExportLogsServiceRequest) -> Reaction {
        let mut state = self.state();
        let authorised =
            if token == Some(TOKEN) { Ok(()) } else { Err(format!("no token: {token:?}")) };
        if let Err(breach) = authorised.and_then(|()| strict::check(request)) {
            state.breaches.push(breach);
        }
        let reaction = state.next.pop_front().unwrap_or(Reaction::Accept);
        let mut lines = Vec::new();
        for logs in &request.resource_logs {
            let resource = logs.resource.as_ref().map_or(&[][..], |r| &r.attributes);
            let records = logs.scope_logs.iter().flat_map(|scope| &scope.log_records);
            lines.extend(records.map(|record| line::of(resource, record)));
        }
        match reaction {
            Reaction::Accept => state.lines.extend(lines),
            Reaction::Partly(refused) => {
                state.refused.extend(lines.split_off(lines.len().saturating_sub(refused)));
                state.lines.extend(lines);
            }
            Reaction::Refuse => state.refused.extend(lines),
            Reaction::Later(_) | Reaction::Hang => {}
        }
        reaction
    }

    fn http(&self, request: &Received) -> Answer {
        let mut body = Vec::new();
        let unpacked = flate2::read::GzDecoder::new(&request.body[..]).read_to_end(&mut body);
        let right = request.method == "POST"
            && request.path == "/v1/logs"
            && request.header("content-type") == Some("application/x-protobuf")
            && request.header("content-encoding") == Some("gzip")
            && unpacked.is_ok();
        let message = ExportLogsServiceRequest::decode(&body[..]);
        let (true, Ok(message)) = (right, message) else {
            self.state().breaches.push(format!("no request: {:?}", request.headers));
            return Answer::status(400);
        };
        let answered = |response: &ExportLogsServiceResponse| Answer::Reply {
            status: 200,
            headers: vec![("Content-Type", "application/x-protobuf".to_owned())],
            body: response.encode_to_vec(),
        };
        match self.react(request.header("authorization"), &message) {
            Reaction::Accept => answered(&ExportLogsServiceResponse::default()),
            Reaction::Partly(refused) => answered(&partly(refused)),
            Reaction::Later(after) => {
                let headers = after.map(|after| ("Retry-After", after.as_secs().to_string()));
                let headers = headers.into_iter().collect();
                Answer::Reply { status: 503, headers, body: b"overloaded".to_vec() }
            }
            Reaction::Refuse => Answer::status(400),
            Reaction::Hang => Answer::Hang,
        }
    }
}

fn partly(refused: usize) -> ExportLogsServiceResponse {
    let partial_success = Some(ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(refused).expect("a few"),
        error_message: "as the test said".to_owned(),
    });
    ExportLogsServiceResponse { partial_success }
}

struct GrpcServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcServer {
    fn start(address: SocketAddr, shared: Shared, identity: Identity) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (sender, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let incoming = TcpIncoming::bind(address).expect("an address that is free");
                sender.send(incoming.local_addr().expect("an address")).expect("the test waits");
                let server = tonic::transport::Server::builder()
                    .tls_config(ServerTlsConfig::new().identity(identity))
                    .expect("a certificate with its key")
                    .add_service(LogsServiceServer::new(shared));
                // In the middle of what it does, as a process that is killed.
                tokio::select! {
                    result = server.serve_with_incoming(incoming) => result.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: addresses.recv().expect("an address"),
            stop: Some(stop),
            thread: Some(thread),
        }
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
        let token = request.metadata().get("authorization").and_then(|token| token.to_str().ok());
        match self.react(token, request.get_ref()) {
            Reaction::Accept => Ok(Response::new(ExportLogsServiceResponse::default())),
            Reaction::Partly(refused) => Ok(Response::new(partly(refused))),
            Reaction::Later(after) => {
                let details = after.map_or_else(ErrorDetails::new, |after| {
                    ErrorDetails::with_retry_info(Some(after))
                });
                Err(Status::with_error_details(Code::Unavailable, "overloaded", details))
            }
            Reaction::Refuse => Err(Status::invalid_argument("as the test said")),
            Reaction::Hang => std::future::pending().await,
        }
    }
}
