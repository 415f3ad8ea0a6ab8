//! Configuration files for the tests.

use std::path::Path;

/// One chain: process events, through the container manager, as JSON lines to standard output.
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

/// That chain, with a dockerd at `socket`.
pub fn json_chain_with_docker(socket: &Path) -> String {
    json_chain(&format!("endpoint = \"unix://{}\"", socket.display()))
}
