//! Containers of a pod, as a kubelet has them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use whalewatch_tests::containerd::Containerd;
use whalewatch_tests::cri::{self, Client, Labels, Pod};
use whalewatch_tests::{environment, wait};

use super::Engine;
use crate::run::Machine;

/// How long a container may take to its end.
const LIMIT: Duration = Duration::from_mins(10);

/// One pod, and containers that come and go in it.
pub(crate) struct Pods {
    client: Client,
    image: String,
    pod: Pod,
    /// The ids of those that run, by name.
    running: Mutex<HashMap<String, String>>,
    /// When this goes, so do its containers.
    containerd: Containerd,
}

impl Pods {
    pub(crate) fn new(machine: &Machine) -> Result<Self> {
        let sandbox = cri::sandbox_image(&machine.docker)?;
        let sandbox_name = format!("docker.io/library/{sandbox}");
        let containerd = Containerd::start(&environment::scratch("ak"), Some(&sandbox_name))?;
        containerd.import(&machine.docker, &sandbox, cri::CONTAINERD_NAMESPACE)?;
        let image =
            containerd.import(&machine.docker, &machine.image, cri::CONTAINERD_NAMESPACE)?;
        let client = Client::of(&containerd.socket())?;
        let pod = client.run_pod("accuracy", "default", "b8a3c1f2-0000", Labels::Kubelets)?;
        Ok(Self { client, image, pod, running: Mutex::default(), containerd })
    }

    fn begin(&self, name: &str, program: &[&str]) -> Result<String> {
        let id = self.client.create(&self.pod, name, &self.image, program)?;
        self.client.start(&id)?;
        Ok(id)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.running.lock().expect("nobody panics while holding it")
    }
}

impl Engine for Pods {
    fn name(&self) -> &'static str {
        "pods"
    }

    fn run(&self, name: &str, program: &[&str]) -> Result<String> {
        let id = self.begin(name, program)?;
        let code = wait::poll(LIMIT, || self.client.exit_code(&id).transpose());
        let code = code.with_context(|| format!("{name} still runs after {LIMIT:?}"))??;
        ensure!(code == 0, "{name} ended with {code}");
        self.client.remove(&id)?;
        Ok(id)
    }

    fn start(&self, name: &str, program: &[&str]) -> Result<String> {
        let id = self.begin(name, program)?;
        self.running().insert(name.to_owned(), id.clone());
        Ok(id)
    }

    fn enter(&self, name: &str, program: &[&str]) -> Result<()> {
        let id = self.running().get(name).cloned().context("it does not run")?;
        self.client.exec(&id, program)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let id = self.running().remove(name).context("it does not run")?;
        self.client.remove(&id)
    }

    fn container_options(&self) -> String {
        let socket = self.containerd.socket();
        format!("endpoints = {{ cri = \"unix://{}\" }}", socket.display())
    }
}
