//! Connects, accepts, sends and fails, and reports the two ends of each connection.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde_json::{Value, json};
use whalewatch_tests::wait;

use crate::Report;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 7;
/// How long an expected event may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &[String]) -> Report {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut report = match arguments[..] {
        ["serve", at, count, receive, send] => {
            serve(at.parse()?, count.parse()?, receive.parse()?, send.parse()?)?
        }
        ["call", to, count, send, receive] => {
            call(to.parse()?, count.parse()?, send.parse()?, receive.parse()?)?
        }
        ["fail", to] => fail(to.parse()?),
        ["later", at] => later(at.parse()?)?,
        ["abandon", to] => abandon(to.parse()?)?,
        ["udp", to] => udp(to.parse()?)?,
        ["unaccepted", at] => unaccepted(at.parse()?)?,
        ["reset", at] => reset(at.parse()?)?,
        ["misuse"] => misuse()?,
        ["hold", at, bytes, ready, until] => {
            hold(at.parse()?, bytes.parse()?, Path::new(ready), Path::new(until))?
        }
        ["send", to, bytes, until] => send(to.parse()?, bytes.parse()?, Path::new(until))?,
        ["loop", at, count] => rounds(at.parse()?, count.parse()?)?,
        _ => return Err(
            "network serve|call|fail|later|abandon|udp|unaccepted|reset|misuse|hold|send|loop …"
                .into(),
        ),
    };
    report["namespace"] = namespace();
    Ok(report)
}

/// Returns the inode number of this process's network namespace.
fn namespace() -> Value {
    let link = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let text = link.to_string_lossy();
    let number = text.trim_start_matches("net:[").trim_end_matches(']');
    number.parse::<u64>().map_or(Value::Null, Value::from)
}

/// Returns the id of this thread.
fn thread_id() -> Value {
    let link = fs::read_link("/proc/thread-self").unwrap_or_default();
    let number = link.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
    number.map_or(Value::Null, Value::from)
}

fn ends(stream: &TcpStream) -> io::Result<Value> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(json!({
        "local": {"address": local.ip().to_string(), "port": local.port()},
        "peer": {"address": peer.ip().to_string(), "port": peer.port()},
        "tid": thread_id(),
    }))
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn socket_for(address: &SocketAddr, flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = flags | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

fn listen(at: SocketAddr) -> rustix::io::Result<TcpListener> {
    let socket = socket_for(&at, SocketFlags::empty())?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn wait_for(file: &Path) -> io::Result<()> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, file.display().to_string());
    wait::poll(LIMIT, || wait::when(file.exists())).ok_or_else(late)
}

/// Accepts `count` connections. On each, receives, answers, and waits for the other end to close.
fn serve(at: SocketAddr, count: usize, receive: usize, send: usize) -> Report {
    let since = Instant::now();
    let listener = listen(at)?;
    let local = listener.local_addr()?;
    let mut connections = Vec::new();
    for _ in 0..count {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut vec![0; receive])?;
        stream.write_all(&vec![1; send])?;
        let report = ends(&stream)?;
        let rest = stream.read_to_end(&mut Vec::new())?;
        connections.push(report);
        if rest > 0 {
            return Err("more came than was to".into());
        }
    }
    Ok(json!({
        "local": {"address": local.ip().to_string(), "port": local.port()},
        "backlog": BACKLOG,
        "connections": connections,
        "elapsed": nanoseconds(since),
    }))
}

/// Connects `count` times, each time in a new thread.
fn call(to: SocketAddr, count: usize, send: usize, receive: usize) -> Report {
    let since = Instant::now();
    let one = move || -> io::Result<Value> {
        let mut stream = TcpStream::connect(to)?;
        let report = ends(&stream)?;
        stream.write_all(&vec![1; send])?;
        stream.read_exact(&mut vec![0; receive])?;
        Ok(report)
    };
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(thread::spawn(one).join().map_err(|_| "a thread panicked")??);
    }
    Ok(json!({"connections": connections, "elapsed": nanoseconds(since)}))
}

/// Connects to an address where that must fail.
fn fail(to: SocketAddr) -> Value {
    let since = Instant::now();
    let error = TcpStream::connect(to).err().and_then(|error| error.raw_os_error());
    json!({"error": error, "elapsed": nanoseconds(since)})
}

/// Starts to connect without waiting.
fn begin(to: SocketAddr) -> rustix::io::Result<(OwnedFd, Option<Errno>)> {
    let socket = socket_for(&to, SocketFlags::NONBLOCK)?;
    let began = rustix::net::connect(&socket, &to).err();
    Ok((socket, began))
}

/// Waits for the result of such a connect, and calls `connect` again, as programs do.
fn conclude(socket: &OwnedFd, to: SocketAddr) -> Result<Option<Errno>, Box<dyn std::error::Error>> {
    let limit = Timespec { tv_sec: LIMIT.as_secs().try_into()?, tv_nsec: 0 };
    if poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&limit))? == 0 {
        return Err("no answer".into());
    }
    Ok(rustix::net::connect(socket, &to).err())
}

/// Makes two connections without waiting: one succeeds, one is refused.
fn later(at: SocketAddr) -> Report {
    let since = Instant::now();
    let listener = listen(at)?;
    let to = listener.local_addr()?;
    let (open, open_began) = begin(to)?;
    let open_ended = conclude(&open, to)?;
    let open = TcpStream::from(open);
    let report = ends(&open)?;
    drop((open, listener));
    let (refused, refused_began) = begin(to)?;
    let refused_ended = conclude(&refused, to)?;
    let errors = [open_began, open_ended, refused_began, refused_ended];
    let errors = errors.map(|error| error.map(Errno::raw_os_error));
    Ok(json!({
        "open": report,
        "to": to.to_string(),
        "errors": errors,
        "elapsed": nanoseconds(since),
    }))
}

/// Starts to connect to an address that does not answer, and gives up.
fn abandon(to: SocketAddr) -> Report {
    let (socket, began) = begin(to)?;
    drop(socket);
    Ok(json!({"error": began.map(Errno::raw_os_error)}))
}

fn udp(to: SocketAddr) -> Report {
    let unspecified = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(unspecified)?;
    socket.connect(to)?;
    let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
    Ok(json!({
        "local": {"address": local.ip().to_string(), "port": local.port()},
        "peer": {"address": peer.ip().to_string(), "port": peer.port()},
    }))
}

/// Makes a connection that is never accepted.
fn unaccepted(at: SocketAddr) -> Report {
    let listener = listen(at)?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let report = ends(&stream)?;
    stream.shutdown(Shutdown::Both)?;
    drop(listener);
    Ok(report)
}

/// Makes a connection that the other end resets before it is accepted.
fn reset(at: SocketAddr) -> Report {
    let listener = listen(at)?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let report = ends(&stream)?;
    stream.write_all(b"gone")?;
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    drop(listener.accept()?);
    Ok(report)
}

/// Listens on a connected socket, and accepts from a socket that does not listen.
fn misuse() -> Report {
    let listener = listen("127.0.0.1:0".parse()?)?;
    let connected = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    let report = ends(&connected)?;
    let listening = rustix::net::listen(&connected, 1).err().map(Errno::raw_os_error);
    let accepting = rustix::net::accept(&connected).err().map(Errno::raw_os_error);
    drop((connected, accepted));
    Ok(json!({"ends": report, "listen": listening, "accept": accepting}))
}

/// Holds a connection to itself from when the file `ready` exists until the file `until` does.
fn hold(at: SocketAddr, bytes: usize, ready: &Path, until: &Path) -> Report {
    let listener = listen(at)?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut accepted, _) = listener.accept()?;
    let report = ends(&stream)?;
    stream.write_all(&vec![1; bytes])?;
    accepted.read_exact(&mut vec![0; bytes])?;
    fs::write(ready, "")?;
    wait_for(until)?;
    drop(stream);
    accepted.read_to_end(&mut Vec::new())?;
    Ok(report)
}

/// Connects, and sends once the file `until` exists.
fn send(to: SocketAddr, bytes: usize, until: &Path) -> Report {
    let mut stream = TcpStream::connect(to)?;
    let report = ends(&stream)?;
    wait_for(until)?;
    stream.write_all(&vec![1; bytes])?;
    // The other end closes it once everything has arrived.
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(report)
}

/// Connects, accepts and closes `count` times, for measuring.
fn rounds(at: SocketAddr, count: u32) -> Report {
    let listener = listen(at)?;
    let to = listener.local_addr()?;
    let since = Instant::now();
    for _ in 0..count {
        let stream = TcpStream::connect(to)?;
        let (accepted, _) = listener.accept()?;
        drop((stream, accepted));
    }
    Ok(json!({"elapsed": nanoseconds(since)}))
}
