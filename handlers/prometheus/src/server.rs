//! The HTTP server and its thread.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use whalewatch_core::BuildError;

use crate::accept::{Format, negotiate};

/// Limits on clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at a time; others wait in the kernel's queue. Each holds at most one answer in
    /// memory.
    pub(crate) connections: usize,
    /// How long a client may take to send its request.
    pub(crate) request: Duration,
    /// How long a connection may last in total. It serves one request.
    pub(crate) connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8,
            request: Duration::from_secs(5),
            connection: Duration::from_secs(15),
        }
    }
}

/// Longest head of a request, in bytes.
const LONGEST_REQUEST: usize = 16 * 1024;
/// Pause after a failed `accept`, for example when the process has no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Writes the page at `/metrics`.
pub(crate) trait Page: Send + Sync + 'static {
    /// The whole page.
    fn write(&self, format: Format) -> Result<String, fmt::Error>;
}

/// A running server. Dropping it stops the server and its thread.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server for `page`.
    ///
    /// # Errors
    /// If the address cannot be used or a thread cannot be started. The error says how to fix it.
    pub(crate) fn start(
        listen: SocketAddr,
        page: Arc<dyn Page>,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let listener = TcpListener::bind(listen).map_err(|e| cannot_listen(listen, &e))?;
        let failed = |e: io::Error| BuildError(format!("cannot serve metrics on {listen}: {e}"));
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(failed)?;
        let listener = {
            let _within = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("prometheus".into())
            .spawn(move || run(&runtime, accept(listener, page, limits), stopped))
            .map_err(failed)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the metrics server had panicked");
        }
    }
}

fn cannot_listen(listen: SocketAddr, error: &io::Error) -> BuildError {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program uses this port: stop it, or set `listen` to another port (port 0 \
             selects a free one)"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine does not have this address: set `listen` to one that it has, to \
             127.0.0.1 or to 0.0.0.0"
        }
        ErrorKind::PermissionDenied => "set `listen` to a port of 1024 or higher",
        _ => "set `listen` to another address",
    };
    BuildError(format!("cannot listen on {listen} for Prometheus: {error}: {hint}"))
}

fn run(
    runtime: &Runtime,
    accept: impl Future<Output = ()> + Send + 'static,
    stopped: oneshot::Receiver<()>,
) {
    runtime.spawn(accept);
    // The other half of the channel is dropped to stop the server; open connections then end with
    // the runtime.
    runtime.block_on(stopped).ok();
}

async fn accept(listener: tokio::net::TcpListener, page: Arc<dyn Page>, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut failing = false;
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                if std::mem::take(&mut failing) {
                    tracing::warn!("the metrics server accepts connections again");
                }
                let page = Arc::clone(&page);
                tokio::spawn(async move {
                    serve(TokioIo::new(stream), page, limits).await;
                    drop(place);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "metrics server cannot accept connections, retrying");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one request, then closes the connection: an idle one would block another client.
async fn serve(stream: TokioIo<tokio::net::TcpStream>, page: Arc<dyn Page>, limits: Limits) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &*page);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(LONGEST_REQUEST)
        .serve_connection(stream, service);
    match timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a metrics client closed its connection early"),
        Err(_) => tracing::debug!("a metrics client was too slow"),
    }
}

fn answer<B>(request: &Request<B>, page: &dyn Page) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused =
            plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get_all(ACCEPT).iter();
            let format = negotiate(accept.filter_map(|value| value.to_str().ok()));
            match page.write(format) {
                Ok(text) => response(StatusCode::OK, format.content_type(), text.into()),
                Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the metrics\n"),
            }
        }
        "/healthz" | "/-/healthy" => plain(StatusCode::OK, "Whalewatch is running\n"),
        "/" => plain(StatusCode::OK, "Whalewatch: metrics are at /metrics\n"),
        _ => plain(StatusCode::NOT_FOUND, "not found: metrics are at /metrics\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;

    use super::*;

    struct Big(usize);

    impl Page for Big {
        fn write(&self, format: Format) -> Result<String, fmt::Error> {
            match self.0 {
                0 => Err(fmt::Error),
                1 => panic!("a page that cannot be written"),
                size => Ok(format!("{format:?}{}", "x".repeat(size))),
            }
        }
    }

    const LIMITS: Limits = Limits {
        connections: 2,
        request: Duration::from_millis(200),
        connection: Duration::from_millis(600),
    };

    fn server(size: usize) -> Server {
        let listen = "127.0.0.1:0".parse().expect("valid address");
        Server::start(listen, Arc::new(Big(size)), LIMITS).expect("server starts")
    }

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address()).expect("server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout is set");
        stream
    }

    fn ask(server: &Server, request: &str) -> String {
        let mut stream = connect(server);
        stream.write_all(request.as_bytes()).expect("request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("server answers");
        answer
    }

    fn get(server: &Server, path: &str) -> String {
        ask(server, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
    }

    #[test]
    fn each_path_has_its_answer_and_bad_requests_are_refused() {
        let server = server(20);
        let page = get(&server, "/metrics");
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{page}");
        assert!(
            page.contains("connection: close") && page.ends_with("\r\nTextxxxxxxxxxxxxxxxxxxxx")
        );
        assert!(get(&server, "/metrics?x=y").starts_with("HTTP/1.1 200"));
        for path in ["/healthz", "/-/healthy", "/"] {
            assert!(get(&server, path).starts_with("HTTP/1.1 200"), "{path}");
        }
        assert!(get(&server, "/metrics/").starts_with("HTTP/1.1 404"));
        let refused =
            ask(&server, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"));
        let head = ask(&server, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(head.contains("content-length: 24") && head.ends_with("\r\n\r\n"), "{head}");
        let open = "accept: application/openmetrics-text; version=1.0.0";
        let open = ask(&server, &format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{open}\r\n\r\n"));
        assert!(open.contains("OpenMetricsx") && open.contains("application/openmetrics-text"));
        assert!(ask(&server, "no HTTP at all\r\n\r\n").starts_with("HTTP/1.1 400"));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST_REQUEST));
        assert!(ask(&server, &long[..LONGEST_REQUEST]).starts_with("HTTP/1.1 4"));
    }

    #[test]
    fn server_survives_a_page_that_fails_or_panics() {
        let failing = server(0);
        assert!(get(&failing, "/metrics").starts_with("HTTP/1.1 500"));
        let panicking = server(1);
        for _ in 0..4 {
            assert_eq!(get(&panicking, "/metrics"), "");
        }
        assert!(get(&panicking, "/healthz").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn clients_that_send_or_read_nothing_are_disconnected() {
        // More than the socket buffers hold.
        let server = server(64 << 20);
        let silent: Vec<_> = (0..4).map(|_| connect(&server)).collect();
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200"));
        drop(silent);
        let mut deaf: Vec<_> = (0..4).map(|_| connect(&server)).collect();
        for stream in &mut deaf {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").expect("request is sent");
        }
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn port_in_use_is_reported_with_a_fix() {
        let first = server(9);
        let second = Server::start(first.address(), Arc::new(Big(9)), LIMITS);
        let error = second.expect_err("the port is in use").to_string();
        assert!(error.contains(&first.address().to_string()), "{error}");
        assert!(error.contains("in use") && error.contains("set `listen`"), "{error}");
    }

    #[test]
    fn dropped_server_frees_its_port_and_clients_at_once() {
        let first = server(64 << 20);
        let mut deaf = connect(&first);
        deaf.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").expect("request is sent");
        deaf.read_exact(&mut [0; 16]).expect("answer begins");
        let address = first.address();
        let (ended, end) = mpsc::channel();
        let dropping = thread::spawn(move || {
            drop(first);
            ended.send(()).expect("receiver exists");
        });
        end.recv_timeout(LIMITS.connection * 10).expect("server stops");
        dropping.join().expect("thread does not panic");
        Server::start(address, Arc::new(Big(9)), LIMITS).expect("the port is free");
    }
}
