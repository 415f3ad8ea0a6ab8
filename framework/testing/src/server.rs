//! An HTTP/1.1 server that answers as a test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A request that was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The reaction to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Sends a response.
    Reply {
        /// The status.
        status: u16,
        /// Headers besides `Content-Length`.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Sends nothing as long as the server lives.
    Hang,
    /// Closes the connection.
    Close,
}

impl Answer {
    /// Returns a response with this status and nothing else.
    pub fn status(status: u16) -> Self {
        Self::Reply { status, headers: Vec::new(), body: Vec::new() }
    }
}

type Script = Arc<Mutex<dyn FnMut(&Received) -> Answer + Send>>;
type Connections = Arc<Mutex<Option<Vec<TcpStream>>>>;

/// A server on a free port, until it is dropped.
pub struct Server {
    address: SocketAddr,
    connections: Connections,
    requests: Receiver<Received>,
    received: Vec<Received>,
}

impl Server {
    /// Starts a server that reacts to each request as `script` says.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(script: impl FnMut(&Received) -> Answer + Send + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// As [`Server::start`], at a given address, such as that of an earlier server.
    ///
    /// # Panics
    /// If the address is taken.
    pub fn start_at(
        address: SocketAddr,
        script: impl FnMut(&Received) -> Answer + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        let address = listener.local_addr().expect("a listening port");
        let connections: Connections = Arc::new(Mutex::new(Some(Vec::new())));
        let (sender, requests) = channel();
        let script: Script = Arc::new(Mutex::new(script));
        let all = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // None when the server has been dropped.
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                let (Some(all), Ok(clone)) = (all.as_mut(), stream.try_clone()) else { return };
                all.push(clone);
                let (script, sender) = (Arc::clone(&script), sender.clone());
                thread::spawn(move || serve(&stream, &script, &sender));
            }
        });
        Self { address, connections, requests, received: Vec::new() }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns all requests received so far.
    pub fn received(&mut self) -> &[Received] {
        self.received.extend(self.requests.try_iter());
        &self.received
    }

    /// Waits until `count` requests have been received, at most for `limit` between two; returns
    /// whether they have.
    pub fn wait_for(&mut self, count: usize, limit: Duration) -> bool {
        while self.received.len() < count {
            match self.requests.recv_timeout(limit) {
                Ok(request) => self.received.push(request),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let open = self.connections.lock().unwrap_or_else(PoisonError::into_inner).take();
        for stream in open.into_iter().flatten() {
            // The other side may have closed it already.
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the listening thread, which then closes the port.
        TcpStream::connect(self.address).ok();
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
    }
}

fn serve(stream: &TcpStream, script: &Script, sender: &Sender<Received>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let answer = (script.lock().unwrap_or_else(PoisonError::into_inner))(&request);
        // The test may have dropped its end.
        sender.send(request).ok();
        match answer {
            Answer::Reply { status, headers, body } => {
                let first = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}", body.len());
                let more = headers.iter().map(|(name, value)| format!("\r\n{name}: {value}"));
                let head: String = [first].into_iter().chain(more).collect();
                let whole = [head.as_bytes(), b"\r\n\r\n", &body].concat();
                if (&mut &*stream).write_all(&whole).is_err() {
                    return;
                }
            }
            Answer::Hang => {}
            Answer::Close => {
                stream.shutdown(Shutdown::Both).ok();
                return;
            }
        }
    }
}

/// Reads the next request of a connection.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Received { method: words.next()?, path: words.next()?, ..Default::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}
