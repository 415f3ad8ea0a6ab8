//! A fake runtime: a thread that speaks gRPC on a Unix socket and misbehaves as configured. (The
//! end-to-end tests use real runtimes.)

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use actix::{Arbiter, ArbiterHandle};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::sync::oneshot;

use crate::protocol::Report;
use crate::runtimes::{Client, Reporter, Settings};

/// How the fake replies to a call.
pub(in crate::runtimes) enum Reply {
    /// Never answers.
    Hangs,
    /// Refuses with this gRPC status code.
    Fails(u16),
    /// Answers with these encoded messages.
    Says(Vec<Vec<u8>>),
    /// As `Says`, but the stream stays open without further messages.
    GoesOn(Vec<Vec<u8>>),
}

/// There is no such object; there is no such method.
pub(in crate::runtimes) const NOT_FOUND: Reply = Reply::Fails(5);
pub(in crate::runtimes) const UNIMPLEMENTED: Reply = Reply::Fails(12);

/// Replies with one message.
pub(in crate::runtimes) fn says(message: &impl Message) -> Reply {
    Reply::Says(vec![message.encode_to_vec()])
}

/// A call as the fake received it.
pub(in crate::runtimes) struct Asked {
    pub(in crate::runtimes) method: String,
    pub(in crate::runtimes) namespace: String,
    body: Bytes,
}

impl Asked {
    pub(in crate::runtimes) fn read<M: Message + Default>(&self) -> M {
        M::decode(&self.body[5..]).expect("a message of that type")
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;
type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

/// The fake.
pub(in crate::runtimes) struct Fake {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Fake {
    /// Starts a fake that listens at `socket`.
    pub(in crate::runtimes) fn at(
        socket: &Path,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (log, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, log, answer) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background(); // connections break
        });
        Self { socket: socket.to_owned(), asked, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns how often a method was called.
    pub(in crate::runtimes) fn asked(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == method).count()
    }

    /// Ends as on SIGKILL: connections break, and the socket refuses new ones.
    pub(in crate::runtimes) fn die(self) {
        std::fs::remove_file(&self.socket).unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn accept(
    listener: std::os::unix::net::UnixListener,
    log: Arc<Mutex<Vec<String>>>,
    answer: Arc<Answer>,
) {
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
        let service = service_fn(move |request| serve(request, Arc::clone(&log), answer.clone()));
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}

async fn serve(
    request: Request<Incoming>,
    log: Arc<Mutex<Vec<String>>>,
    answer: Arc<Answer>,
) -> Result<Response<StreamBody<Frames>>, Infallible> {
    let method = request.uri().path().to_owned();
    let namespace = request.headers().get("containerd-namespace").map(HeaderValue::to_str);
    let namespace = namespace.and_then(Result::ok).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    log.lock().unwrap().push(method.clone());
    let (code, messages, end) = match answer(&Asked { method, namespace, body }) {
        Reply::Hangs => return std::future::pending().await,
        Reply::Fails(code) => (code, Vec::new(), true),
        Reply::Says(messages) => (0, messages, true),
        // Servers in Go send nothing, not even headers, before the first message.
        Reply::GoesOn(messages) if messages.is_empty() => return std::future::pending().await,
        Reply::GoesOn(messages) => (0, messages, false),
    };
    let mut frames: Vec<_> =
        messages.iter().map(|message| Ok(Frame::data(framed(message)))).collect();
    if end {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        frames.push(Ok(Frame::trailers(trailers)));
    }
    let frames = stream::iter(frames);
    let frames: Frames = if end { frames.boxed() } else { frames.chain(stream::pending()).boxed() };
    let mut response = Response::new(StreamBody::new(frames));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// Settings for a runtime that is expected, or not.
pub(in crate::runtimes) fn settings(socket: &Path, expected: bool) -> Settings {
    Settings {
        endpoint: Some(format!("unix://{}", socket.display())),
        expected,
        // Longer than any delay of a busy machine: a second call means more than lateness.
        timeout: LONG,
        interval: MS(50),
    }
}

/// The same for a runtime that does not answer.
pub(in crate::runtimes) fn hasty(socket: &Path, expected: bool) -> Settings {
    Settings { timeout: MS(300), ..settings(socket, expected) }
}

/// Runs a test with a client in its own actix system, and with the client's reports.
pub(in crate::runtimes) fn with_client(
    start: fn(&ArbiterHandle, Settings, Reporter) -> Box<dyn Client>,
    settings: Settings,
    test: impl FnOnce(&dyn Client, &mpsc::Receiver<Report>),
) {
    let (sender, reports) = mpsc::channel();
    let report_to: Reporter = Arc::new(move |report| sender.send(report).unwrap_or(()));
    let system = actix::System::new();
    let (arbiter, client) = system.block_on(async move {
        let arbiter = Arbiter::new();
        let client = start(&arbiter.handle(), settings, report_to);
        (arbiter, client)
    });
    test(&*client, &reports);
    arbiter.stop();
}

pub(in crate::runtimes) const MS: fn(u64) -> Duration = Duration::from_millis;
pub(in crate::runtimes) const LONG: Duration = Duration::from_secs(10);

/// Returns the next report that the test is about; `None` after the time limit.
pub(in crate::runtimes) fn next<T>(
    reports: &mpsc::Receiver<Report>,
    within: Duration,
    about: impl Fn(Report) -> Option<T>,
) -> Option<T> {
    let until = Instant::now() + within;
    while let Ok(item) = reports.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if let Some(found) = about(item) {
            return Some(found);
        }
    }
    None
}

/// Returns the next name; `None` after the time limit.
pub(in crate::runtimes) fn name(
    reports: &mpsc::Receiver<Report>,
    within: Duration,
) -> Option<String> {
    next(reports, within, |report| match report {
        Report::Container(container) => container.name.as_deref().map(str::to_owned),
        _ => None,
    })
}

/// Whether the client reports within the time limit that the runtime does not know this container.
pub(in crate::runtimes) fn not_known(
    reports: &mpsc::Receiver<Report>,
    within: Duration,
    which: &str,
) -> bool {
    let about = |report| matches!(report, Report::NotKnown { id } if *id == *which).then_some(());
    next(reports, within, about).is_some()
}
