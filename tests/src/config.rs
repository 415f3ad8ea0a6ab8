//! Configurations for the tests.

use std::path::Path;

/// Returns one chain: process events, through the container manager, as JSON lines to standard
/// output.
pub fn json_chain(container_options: &str) -> String {
    format!(
        r#"[container]
{container_options}

[trackers.procs]
type = "process"

[handlers.out]
type = "stdout"
format = "json"

[[chains]]
from = ["procs"]
through = ["container", "out"]
"#
    )
}

/// Returns one chain of the given trackers (their tables, `[trackers.NAME]` and so on), with a
/// dockerd at `socket`, as JSON lines. Events wait long for names: these tests check what trackers
/// report, not how fast a machine is.
pub fn chain_of(socket: &Path, trackers: &str, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

{trackers}

[handlers.out]
type = "stdout"
format = "json"

[[chains]]
from = [{}]
through = ["container", "out"]
"#,
        socket.display(),
        names.join(", ")
    )
}

/// Returns the chain of [`json_chain`], with a dockerd at `socket`.
pub fn json_chain_with_docker(socket: &Path) -> String {
    json_chain(&format!("endpoint = \"unix://{}\"", socket.display()))
}
