//! Alerts by HTTP: a real server, in Python, gets each, though it fails, hangs, refuses and is
//! killed in between.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{environment, wait};

const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "whalewatch-e2e";

/// The server, in a separate process.
struct Receiver {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Receiver {
    fn start(dir: &Path) -> Self {
        let mut receiver = Self { dir: dir.to_owned(), port: 0, child: None };
        for file in ["got", "tried"] {
            fs::write(receiver.file(file), "").expect("the scratch folder can be written to");
        }
        receiver.set("ok");
        receiver.come_back();
        receiver
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Sets the server's reaction to requests.
    fn set(&self, mode: &str) {
        // Renamed into place, because the server may read it at any time.
        fs::write(self.file("mode.new"), mode).expect("the scratch folder can be written to");
        fs::rename(self.file("mode.new"), self.file("mode")).expect("our own files");
    }

    fn come_back(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/webhook/receiver.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(self.port.to_string());
        command.args(["mode", "got", "tried"].map(|name| self.file(name))).arg(TOKEN);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("python3 can be started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it prints its port");
        self.port = line.trim().parse().expect("a port");
        self.child = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// The bodies that it has taken.
    fn got(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file("got")).expect("our own file");
        text.lines().map(|line| serde_json::from_str(line).expect("each body is JSON")).collect()
    }

    /// How many requests came in that mode.
    fn tried(&self, mode: &str) -> usize {
        let text = fs::read_to_string(self.file("tried")).expect("our own file");
        text.lines().filter(|line| *line == mode).count()
    }

    #[track_caller]
    fn wait_for_tries(&self, mode: &str, count: usize) {
        wait::until(&format!("{count} tries while it is {mode}"), LIMIT, || {
            wait::when(self.tried(mode) >= count)
        });
    }

    #[track_caller]
    fn wait_for(&self, count: usize) {
        wait::until(&format!("{count} alerts arrived"), LIMIT, || {
            wait::when(self.got().len() >= count)
        });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes an alert of each `/bin/true` in the test's containers, and sends it to the receiver and to
/// standard output.
fn config(receiver: &Receiver, options: &str) -> String {
    let when = "kind == 'process.exec' && process.executable.path == '/bin/true'";
    let chain = |filter: &str, end: &str| {
        format!(
            "[handlers.{filter}]\ntype = \"filter\"\nwhen = \"{when}\"\n\
             containers = [\"webhook-*\"]\n\n\
             [[chains]]\nfrom = [\"procs\"]\nthrough = [\"container\", \"{filter}\", \"{end}\"]\n\n"
        )
    };
    let token = receiver.file("token");
    fs::write(&token, format!("{TOKEN}\n")).expect("the scratch folder can be written to");
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[trackers.procs]
type = "process"

[handlers.hook]
type = "webhook"
url = "http://localhost:{}/hook?a=b"
headers.authorization = {{ file = "{}", prefix = "Bearer " }}
timeout = "500ms"
retry_pause = "20ms"
retry_pause_max = "200ms"
tries = 100
max_per_second = 0
stop_timeout = "20s"
{options}

[handlers.out]
type = "stdout"

{}{}"#,
        environment::docker_socket().display(),
        receiver.port,
        token.display(),
        chain("alerts", "hook"),
        chain("same", "out")
    )
}

/// Runs `/bin/true` `count` times in a container of that name.
fn alerts(name: &str, count: usize) {
    let docker = Docker::at(&environment::docker_socket());
    let script = format!("i=0; while [ $i -lt {count} ]; do i=$((i+1)); /bin/true $i; done");
    docker.ok(&["run", "--rm", "--name", name, &environment::image(), "sh", "-c", &script]);
}

/// Removes the container's status, which may change between two outputs.
fn without_status(mut line: Value) -> Value {
    line["container"].as_object_mut().expect("a container").remove("status");
    line
}

#[test]
fn each_alert_arrives_whatever_the_receiver_does() {
    let dir = environment::scratch("webhook-trouble");
    let mut receiver = Receiver::start(&dir);
    let tracer = Tracer::run(&dir, &config(&receiver, ""));

    alerts("webhook-plain", 5);
    receiver.wait_for(5);

    receiver.set("500");
    alerts("webhook-fails", 5);
    receiver.wait_for_tries("500", 3);
    receiver.set("hang");
    receiver.wait_for_tries("hang", 2);
    receiver.set("ok");
    receiver.wait_for(10);

    receiver.kill();
    alerts("webhook-gone", 5);
    receiver.come_back();
    receiver.wait_for(15);

    receiver.set("400");
    alerts("webhook-refused", 3);
    receiver.wait_for_tries("400", 3);
    receiver.set("ok");
    alerts("webhook-end", 5);
    // Events that are queued at the stop arrive, too.
    let finished = tracer.stop();

    assert_eq!(receiver.tried("400"), 3, "refused alerts are not retried");
    assert_eq!(receiver.tried("wrong"), 0, "each request has its token");
    let got: Vec<_> = receiver.got().into_iter().map(without_status).collect();
    let taken = |event: &&Event| event.container_name() != Some("webhook-refused");
    let printed = finished.events.iter().filter(taken);
    let printed: Vec<_> = printed.map(|Event(line)| without_status(line.clone())).collect();
    assert_eq!(got, printed, "each alert once, in order");
    assert_eq!(got.len(), 20);
    let totals = &finished.totals;
    assert_eq!(totals.handler("hook", "out"), 20);
    assert_eq!(totals.handler("hook", "dropped"), 3);
    assert_eq!(totals.handler("hook", "errors"), 0);
    let said = &finished.stderr;
    assert!(said.contains("takes nothing") && said.contains("takes events again"), "{said}");
    assert!(said.contains("not accepted by the receiver"), "{said}");
    assert!(!said.contains(TOKEN) && !said.contains("panicked"), "{said}");
}

#[test]
fn a_custom_body_is_filled_in_and_a_full_queue_blocks_nothing() {
    let dir = environment::scratch("webhook-body");
    let receiver = Receiver::start(&dir);
    let options = r#"
max_queued = 10
body = '{{"text": "{container.name} ran {process.command_args}", "pid": {process.pid|null}}}'
"#;
    let mut tracer = Tracer::run(&dir, &config(&receiver, options));
    receiver.set("hang");
    alerts("webhook-first", 1);
    receiver.wait_for_tries("hang", 1);
    // More than the queue has room for. All of it is printed while the receiver hangs.
    alerts("webhook-many", 50);
    tracer.wait_for("all is printed", |events| wait::when(events.len() == 51));
    receiver.set("ok");
    let finished = tracer.stop();

    let got = receiver.got();
    let totals = &finished.totals;
    assert_eq!(totals.handler("hook", "out"), got.len() as u64);
    assert_eq!(totals.handler("hook", "dropped"), 51 - got.len() as u64);
    assert!(got.len() >= 10 && got.len() < 51, "{}", got.len());
    let printed: Vec<_> = finished
        .events
        .iter()
        .map(|Event(line)| {
            let args = line["process"]["command_args"].as_array().expect("arguments");
            let args: Vec<_> = args.iter().filter_map(Value::as_str).collect();
            let name = line["container"]["name"].as_str().expect("a name");
            let text = format!("{name} ran {}", args.join(" "));
            serde_json::json!({ "text": text, "pid": line["process"]["pid"] })
        })
        .collect();
    assert_eq!(got[0], printed[0]);
    assert!(got.iter().all(|body| printed.contains(body)), "{got:#?}");
    assert!(finished.stderr.contains("queue full"), "{}", finished.stderr);
}
