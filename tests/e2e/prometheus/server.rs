//! A real Prometheus that scrapes Whalewatch, and what it answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whalewatch_tests::{environment, wait};

/// How long Prometheus may take to start, or to scrape the expected value.
const LIMIT: Duration = Duration::from_secs(30);

/// A port of the loopback that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Status line and body of what is at `path`, or nothing if nobody answers.
pub(crate) fn get(port: u16, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    // With this version of the protocol a body comes in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

/// Labels of a series, and its number.
pub(crate) type Series = (BTreeMap<String, String>, f64);

/// A running Prometheus. It is killed when the guard goes.
pub(crate) struct Prometheus {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Prometheus {
    /// Starts one that scrapes `target`, a port of the loopback, five times a second, and keeps its
    /// data in `dir`.
    #[track_caller]
    pub(crate) fn start(dir: &Path, target: u16) -> Self {
        fs::create_dir_all(dir).expect("the scratch folder can be written to");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs:\n- job_name: whalewatch\n  static_configs:\n\
             \x20 - targets: ['127.0.0.1:{target}']\n"
        );
        fs::write(dir.join("prometheus.yml"), config).expect("the scratch folder");
        let mut prometheus = Self { dir: dir.to_owned(), port: free_port(), child: None };
        prometheus.start_again();
        prometheus
    }

    /// Starts it with the data that it had.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log"));
        let mut command = Command::new(environment::server("prometheus"));
        command
            .arg(format!("--config.file={}", self.dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", self.dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the scratch folder can be written to"));
        self.child = Some(command.spawn().expect("Prometheus can be started"));
        wait::until("Prometheus is ready", LIMIT, || {
            get(self.port, "/-/ready").filter(|(status, _)| status.contains(" 200 "))
        });
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// What it answers to a query at this moment.
    #[track_caller]
    pub(crate) fn query(&self, query: &str) -> Vec<Series> {
        let mut path = String::from("/api/v1/query?query=");
        query.bytes().for_each(|byte| write!(path, "%{byte:02x}").expect("text takes all"));
        let (status, body) = get(self.port, &path).expect("Prometheus answers");
        assert!(status.contains(" 200 "), "{query}: {status}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let result = answer["data"]["result"].as_array().expect("a vector");
        let series = result.iter().map(|one| {
            let labels = one["metric"].as_object().expect("labels").iter();
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            let number = text(&one["value"][1]).parse().expect("a number");
            (labels.map(|(name, value)| (name.clone(), text(value))).collect(), number)
        });
        series.collect()
    }

    /// The only number that it answers; nothing if it knows none.
    #[track_caller]
    pub(crate) fn number(&self, query: &str) -> Option<f64> {
        let mut series = self.query(query);
        assert!(series.len() < 2, "{query} has one answer: {series:?}");
        series.pop().map(|(_, number)| number)
    }

    /// Waits until it answers that number to the query.
    #[track_caller]
    pub(crate) fn wait_for(&self, query: &str, number: f64) {
        let mut last = None;
        let found = wait::poll(LIMIT, || {
            last = self.number(query);
            wait::when(last.is_some_and(|last| last.to_bits() == number.to_bits()))
        });
        assert!(found.is_some(), "{query} is {last:?} and not {number} after {LIMIT:?}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}
