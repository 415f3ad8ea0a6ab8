//! A receiver over gRPC that reads and counts all records, and refuses a request with an incomplete
//! record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status};

/// A receiver on a free port, which runs until it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    records: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let records = Arc::new(AtomicU64::new(0));
        let counter = Counter(Arc::clone(&records));
        let (stop, stopped) = oneshot::channel();
        let (address_sender, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
                let incoming = incoming.expect("a port").with_nodelay(Some(true));
                let bound = incoming.local_addr().expect("an address");
                address_sender.send(bound).expect("the benchmark waits");
                let service =
                    LogsServiceServer::new(counter).accept_compressed(CompressionEncoding::Gzip);
                let server = Server::builder().add_service(service);
                let stopped = async { _ = stopped.await };
                server.serve_with_incoming_shutdown(incoming, stopped).await.expect("no failure");
            });
        });
        let address = address.recv().expect("an address");
        Self { address, records, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of records so far.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().map(JoinHandle::join);
    }
}

struct Counter(Arc<AtomicU64>);

#[tonic::async_trait]
impl LogsService for Counter {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut count = 0;
        for resource in &request.get_ref().resource_logs {
            let named = resource.resource.as_ref().is_some_and(|r| !r.attributes.is_empty());
            for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                let whole = record.time_unix_nano != 0 && !record.attributes.is_empty();
                if !named || !whole || record.event_name.is_empty() {
                    return Err(Status::invalid_argument(format!("{record:?} is incomplete")));
                }
                count += 1;
            }
        }
        self.0.fetch_add(count, Relaxed);
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
