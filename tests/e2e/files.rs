//! Files: true paths, every change, sums, and nothing lost.

use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

#[test]
fn each_open_of_a_process_is_told_on_the_host_and_in_a_container() {
    let docker = Docker::at(&environment::docker_socket());
    let trackers = "[trackers.files]\ntype = \"files\"\nopens = true\n";
    let dir = environment::scratch("opens");
    let tracer = Tracer::run(&dir, &config::chain_of(docker.socket(), trackers, &["files"]));
    let arguments = ["files", "open-close", "/bin/busybox", "100"];
    let image = environment::image();
    let inside = WORKLOAD.in_container(&docker, &image, "opens", &[], &arguments);
    let outside = WORKLOAD.on_host(&arguments);
    let finished = tracer.stop();
    let opens = |state: &str| {
        let of_ours = |event: &&Event| {
            event.kind() == "file.open" && event.0["file"]["path"] == "/usr/bin/busybox"
                || event.0["file"]["path"] == "/bin/busybox"
        };
        finished.events.iter().filter(of_ours).filter(|event| event.state() == state).count() as u64
    };
    assert_eq!(inside["opens"].as_u64(), Some(opens("resolved")));
    assert_eq!(outside["opens"].as_u64(), Some(opens("host")));
    finished.totals.assert_complete();
}
