//! Containers of pods, made as a kubelet makes them: every event carries the container's name in
//! its pod, and its pod.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use whalewatch_tests::containerd::Containerd;
use whalewatch_tests::cri::{CONTAINERD_NAMESPACE, Client, Labels, Pod, sandbox_image};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::oracle::{Oracle, mark};
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{config, environment, wait};

const ROUNDS: usize = 10;
const NAMESPACE: &str = "shop";

struct Setup {
    containerd: Containerd,
    image: String,
    client: Client,
}

/// A containerd that speaks the interface; pods' sandboxes sleep in busybox, as the pause program
/// does.
fn setup(dir: &str) -> Result<Setup> {
    let dir = Path::new(&environment::get(environment::SCRATCH)).join(dir);
    let docker = Docker::at(&environment::docker_socket());
    let sandbox = sandbox_image(&docker)?;
    let containerd = Containerd::start(&dir, Some(&format!("docker.io/library/{sandbox}")))?;
    containerd.import(&docker, &sandbox, CONTAINERD_NAMESPACE)?;
    let image = containerd.import(&docker, &environment::image(), CONTAINERD_NAMESPACE)?;
    let client = Client::of(&containerd.socket())?;
    Ok(Setup { containerd, image, client })
}

/// What the events of a container must say of its pod.
struct Expected {
    id: String,
    pod: String,
    uid: String,
    container: Option<&'static str>,
}

impl Expected {
    #[track_caller]
    fn check(&self, events: &[Event]) {
        let mut ours = 0;
        for event in events.iter().filter(|event| event.container_id() == Some(&self.id)) {
            // One that could not wait for its name had to go on without all that is told with it.
            if event.state() != "resolved" || event.kind() == "container.found" {
                continue;
            }
            ours += 1;
            let of = &event.0["k8s"];
            assert_eq!(of["pod"]["name"], *self.pod, "{}", event.0);
            assert_eq!(of["pod"]["uid"], *self.uid, "{}", event.0);
            assert_eq!(of["namespace"]["name"], NAMESPACE, "{}", event.0);
            assert_eq!(of["container"]["name"].as_str(), self.container, "{}", event.0);
            let name = self.container.unwrap_or(&self.pod);
            assert_eq!(event.container_name(), Some(name), "{}", event.0);
        }
        assert!(ours > 0, "nothing is told of {}", self.id);
    }
}

impl Setup {
    #[track_caller]
    fn tracer(&self, test: &str, options: &str) -> Tracer {
        let socket = format!("unix://{}", self.containerd.socket().display());
        let options = options.replace("SOCKET", &socket);
        Tracer::run(&environment::scratch(test), &config::json_chain(&options))
    }

    /// A container of a pod that runs `/bin/true MARK` and then sleeps.
    fn run_marked(&self, pod: &Pod, name: &str) -> Result<(String, String)> {
        let mark = mark(name);
        let script = format!("/bin/true {mark}; exec sleep 1000000");
        let id = self.client.create(pod, name, &self.image, &["/bin/sh", "-c", &script])?;
        self.client.start(&id)?;
        Ok((id, mark))
    }
}

/// Pods with two containers each, one after the other, and a program that is started in each later.
fn pods_are_told(test: &str, options: &str, labels: Labels) -> Result<()> {
    let setup = setup(test)?;
    let tracer = setup.tracer(&format!("cri-{test}"), options);
    let (mut oracle, mut all) = (Oracle::default(), Vec::new());
    for round in 0..ROUNDS {
        let (name, uid) = (format!("web-{round}"), format!("{}-{round}", mark("uid")));
        let pod = setup.client.run_pod(&name, NAMESPACE, &uid, labels)?;
        let expected = |id: &str, container| {
            let (pod, uid) = (name.clone(), uid.clone());
            Expected { id: id.to_owned(), pod, uid, container }
        };
        all.push(expected(&pod.id, None));
        for container in ["nginx", "sidecar"] {
            let (id, first) = setup.run_marked(&pod, container)?;
            let second = mark("exec");
            setup.client.exec(&id, &["/bin/true", &second])?;
            oracle.in_container(&first, &id, container);
            oracle.in_container(&second, &id, container);
            all.push(expected(&id, Some(container)));
        }
        setup.client.remove_pod(&pod)?;
    }
    let finished = oracle.see_out(tracer);
    for expected in &all {
        expected.check(&finished.events);
    }
    Ok(())
}

#[test]
fn pods_of_a_kubelet_are_named() -> Result<()> {
    pods_are_told("p-kube", "runtime = \"cri\"\nendpoint = \"SOCKET\"", Labels::Kubelets)
}

#[test]
fn pods_without_labels_are_named_over_cri() -> Result<()> {
    pods_are_told("p-cri", "runtime = \"cri\"\nendpoint = \"SOCKET\"", Labels::None)
}

#[test]
fn pods_without_labels_are_named_over_containerd() -> Result<()> {
    pods_are_told("p-ctr", "runtime = \"containerd\"\nendpoint = \"SOCKET\"", Labels::None)
}

#[test]
fn pods_are_named_over_both_interfaces_at_once() -> Result<()> {
    let options = "runtime = [\"containerd\", \"cri\"]\n[container.endpoints]\n\
                   containerd = \"SOCKET\"\ncri = \"SOCKET\"";
    pods_are_told("p-both", options, Labels::None)
}

#[test]
fn earlier_pods_are_known_and_a_killed_runtime_returns() -> Result<()> {
    let mut setup = setup("p-kill")?;
    let pod = setup.client.run_pod("before", NAMESPACE, &mark("uid"), Labels::Kubelets)?;
    let (id, _) = setup.run_marked(&pod, "nginx")?;
    let mut tracer =
        setup.tracer("cri-p-kill", "hold = \"5s\"\nruntime = \"cri\"\nendpoint = \"SOCKET\"");
    let exec = |setup: &Setup, tracer: &mut Tracer, id: &str| {
        let mark = mark("exec");
        setup.client.exec(id, &["/bin/true", &mark]).expect("it runs");
        let args = ["/bin/true", mark.as_str()];
        tracer.wait_for("the marked exec", |events| {
            events.iter().find(|event| event.is_exec_of(&args)).cloned()
        })
    };
    let event = exec(&setup, &mut tracer, &id);
    assert_eq!(event.container_name(), Some("nginx"), "{}", event.0);
    assert_eq!(event.0["k8s"]["pod"]["name"], "before", "{}", event.0);

    setup.containerd.crash()?;
    setup.containerd.start_again()?;
    setup.client = Client::of(&setup.containerd.socket())?;
    let pod = setup.client.run_pod("after", NAMESPACE, &mark("uid"), Labels::Kubelets)?;
    let (new, _) = setup.run_marked(&pod, "nginx")?;
    for (id, pod) in [(&id, "before"), (&new, "after")] {
        wait::until("its pod is known", Duration::from_mins(1), || {
            let event = exec(&setup, &mut tracer, id);
            wait::when(event.0["k8s"]["pod"]["name"] == pod)
        });
    }
    tracer.stop().totals.assert_complete();
    Ok(())
}
