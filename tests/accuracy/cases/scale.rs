//! Ten thousand containers in a list. A test machine cannot run that many, so a simulated daemon
//! lists them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use whalewatch_tests::{environment, wait};

use super::churn::host_true;
use crate::report::Outcome;
use crate::run::{Machine, config, watched};

const CONTAINERS: usize = 10_000;
const LIMIT: Duration = Duration::from_mins(1);

pub(super) fn run(_: &Machine) -> Result<Vec<Outcome>> {
    let dir = environment::scratch("as");
    let daemon = SimulatedDaemon::start(&dir.join("s"))?;
    let config = config(&dir.join("s"), "", "", &[]);
    let mut took = None;
    let printed = environment::scratch("acc-scale-simulated docker").join("out.json");
    let mut outcome = watched("simulated docker", "scale", &config, |ledger, tracer| {
        let found = wait::poll(LIMIT, || {
            let began = (*daemon.asked.lock().expect("nobody panics while holding it"))?;
            let text = std::fs::read_to_string(&printed).ok()?;
            let found = text.matches("\"container.found\"").count() >= CONTAINERS;
            found.then(|| began.elapsed())
        });
        took = Some(found.with_context(|| format!("not all were found: {}", tracer.said()))?);
        (0..100).try_for_each(|_| host_true(ledger, "scale"))
    })?;
    let took = took.context("it was measured")?;
    ensure!(took < LIMIT, "it took {took:?}");
    let ms = took.as_secs_f64() * 1e3;
    outcome.figures.push((
        "a listing of 10,000, from the question to the last line".into(),
        ms,
        "ms",
    ));
    Ok(vec![outcome])
}

/// Serves as much of Docker's API as listing containers needs.
struct SimulatedDaemon {
    /// When the list was first requested.
    asked: Arc<Mutex<Option<Instant>>>,
}

impl SimulatedDaemon {
    fn start(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let asked = Arc::new(Mutex::new(None));
        let daemon = Self { asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&asked);
                // A client may disconnect at any time.
                thread::spawn(move || serve(stream, &asked).unwrap_or_default());
            }
        });
        Ok(daemon)
    }
}

fn serve(mut stream: UnixStream, asked: &Mutex<Option<Instant>>) -> std::io::Result<()> {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        text.extend_from_slice(&chunk[..read]);
        while let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            let request = String::from_utf8_lossy(&text[..end]).into_owned();
            text.drain(..end + 4);
            let path = request.split(' ').nth(1).unwrap_or_default();
            if path.contains("/events") {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                continue;
            }
            let (status, body) = answer(path, asked);
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
        }
    }
}

fn answer(path: &str, asked: &Mutex<Option<Instant>>) -> (&'static str, String) {
    if path.contains("/version") {
        return ("200 OK", json!({"ApiVersion": "1.41", "Version": "20.10.0"}).to_string());
    }
    if !path.contains("/containers/json") {
        return ("404 Not Found", json!({"message": "No such container"}).to_string());
    }
    asked.lock().expect("nobody panics while holding it").get_or_insert_with(Instant::now);
    let one = |number: usize| {
        json!({"Id": format!("{number:064x}"), "Names": [format!("/simulated-{number}")],
               "Image": "simulated:1", "State": "running", "Status": "Up 3 hours",
               "Labels": {"number": number.to_string(), "tier": "none"}})
    };
    ("200 OK", (1..=CONTAINERS).map(one).collect::<Value>().to_string())
}
