//! containerd, by the command `ctr`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use whalewatch_tests::containerd::Containerd;
use whalewatch_tests::environment;

use super::Engine;
use crate::run::Machine;

/// containerd, by its own command, in a namespace where ids are words.
#[derive(Debug)]
pub(crate) struct Ctr {
    containerd: Containerd,
    image: String,
    /// Each program in a running container needs an id.
    entered: AtomicU64,
}

impl Ctr {
    const NAMESPACE: &'static str = "accuracy";

    pub(crate) fn new(machine: &Machine) -> Result<Self> {
        let containerd = Containerd::start(&environment::scratch("ac"), None)?;
        let image = containerd.import(&machine.docker, &machine.image, Self::NAMESPACE)?;
        Ok(Self { containerd, image, entered: AtomicU64::new(0) })
    }

    fn ctr(&self, words: &[&str], program: &[&str]) -> Result<String> {
        self.containerd.ctr(Self::NAMESPACE, &[words, program].concat())
    }
}

impl Engine for Ctr {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn run(&self, name: &str, program: &[&str]) -> Result<String> {
        let fifos = self.containerd.fifos();
        self.ctr(&["run", "--rm", &fifos, &self.image, name], program)?;
        Ok(format!("{}/{name}", Self::NAMESPACE))
    }

    fn start(&self, name: &str, program: &[&str]) -> Result<String> {
        let fifos = self.containerd.fifos();
        self.ctr(&["run", "-d", "--null-io", &fifos, &self.image, name], program)?;
        Ok(format!("{}/{name}", Self::NAMESPACE))
    }

    fn enter(&self, name: &str, program: &[&str]) -> Result<()> {
        let (fifos, number) = (self.containerd.fifos(), self.entered.fetch_add(1, Relaxed));
        let id = format!("--exec-id=enter-{number}");
        self.ctr(&["tasks", "exec", &fifos, &id, name], program).map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.ctr(&["tasks", "delete", "--force", name], &[])?;
        self.ctr(&["containers", "delete", name], &[]).map(drop)
    }

    fn ids_tell_names(&self) -> bool {
        true
    }

    fn container_options(&self) -> String {
        let socket = self.containerd.socket();
        format!("endpoints = {{ containerd = \"unix://{}\" }}", socket.display())
    }
}
