//! A nats-server of a test's own, and what is in its stream.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt as _;
use whalewatch_tests::{environment, wait};

/// How long a server may take until it answers.
const LIMIT: Duration = Duration::from_secs(20);

/// A server with `JetStream`, which keeps its port and its store over restarts.
#[derive(Debug)]
pub(crate) struct Server {
    dir: PathBuf,
    pub(crate) port: u16,
    /// More of its configuration: TLS, users.
    more: String,
    child: Option<Child>,
}

/// One message of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) id: String,
    pub(crate) payload: String,
}

impl Server {
    /// One that does not run yet.
    pub(crate) fn new(dir: &Path, more: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        Self { dir: dir.to_owned(), port, more: more.to_owned(), child: None }
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        let config = self.dir.join("nats.conf");
        let store = self.dir.join("jetstream");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream: {{ store_dir: \"{}\" }}\n{}\n",
            self.port,
            store.display(),
            self.more
        );
        std::fs::write(&config, text).expect("the scratch folder can be written to");
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.dir.join("nats.log"))
            .expect("the scratch folder can be written to");
        let mut command = Command::new(environment::server("nats-server"));
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("nats-server can be started"));
        wait::until("nats-server listens", LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// Kills it, as the kernel or a power cut would.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many messages are in the stream; 0 while it or the server is not there.
    pub(crate) fn count(&self, stream: &str) -> u64 {
        block_on(async {
            let Ok(context) = self.context(ConnectOptions::new()).await else { return 0 };
            match context.get_stream(stream).await {
                Ok(stream) => stream.cached_info().state.messages,
                Err(_) => 0,
            }
        })
    }

    /// Waits until there are at least `count` messages.
    #[track_caller]
    pub(crate) fn wait_for(&self, stream: &str, count: u64) {
        wait::until(&format!("{count} messages are in {stream}"), Duration::from_mins(2), || {
            wait::when(self.count(stream) >= count)
        });
    }

    /// All messages of the stream, in its order.
    #[track_caller]
    pub(crate) fn read(&self, stream: &str) -> Vec<Stored> {
        self.read_as(stream, ConnectOptions::new())
    }

    /// As [`Server::read`], with other settings.
    #[track_caller]
    pub(crate) fn read_as(&self, stream: &str, options: ConnectOptions) -> Vec<Stored> {
        block_on(async {
            let context = self.context(options).await.expect("the server answers");
            let stream = context.get_stream(stream).await.expect("the stream exists");
            let count = stream.cached_info().state.messages;
            let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
            let consumer = stream.create_consumer(config).await.expect("a consumer");
            let mut found = Vec::new();
            while (found.len() as u64) < count {
                let mut messages =
                    consumer.fetch().max_messages(1000).messages().await.expect("messages");
                while let Some(message) = messages.next().await {
                    let message = message.expect("a message");
                    let id = message.headers.as_ref().and_then(|h| h.get("Nats-Msg-Id"));
                    found.push(Stored {
                        subject: message.subject.to_string(),
                        id: id.expect("an id").as_str().to_owned(),
                        payload: String::from_utf8(message.payload.to_vec()).expect("UTF-8"),
                    });
                }
            }
            found
        })
    }

    async fn context(&self, options: ConnectOptions) -> Result<Context, async_nats::ConnectError> {
        let options = options.connection_timeout(Duration::from_secs(2));
        Ok(jetstream::new(options.connect(self.address()).await?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only a test that failed leaves it running.
        self.kill();
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}
