//! A client that makes pods and their containers over the container runtime interface, as a kubelet
//! does. Messages have only the fields in use, numbered as in Kubernetes'
//! `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::docker::Docker;
use crate::{environment, wait};

/// How long containerd may take until it is ready.
const LIMIT: Duration = Duration::from_secs(30);

/// The namespace of the interface's containers and images in containerd.
pub const CONTAINERD_NAMESPACE: &str = "k8s.io";

/// The host's namespace, in `NamespaceMode`.
const NODE: i32 = 2;
/// A stopped container, in `ContainerState`.
const EXITED: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPod>,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxPod {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<PodSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
    #[prost(string, tag = "11")]
    log_path: String,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    security: Option<ContainerSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

/// Requests and responses of which only the id is used.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSync {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncResponse {
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Stop {
    #[prost(string, tag = "1")]
    container: String,
    /// Seconds until it is killed.
    #[prost(int64, tag = "2")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int32, tag = "7")]
    exit_code: i32,
}

/// A client of the interface.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    channel: Channel,
}

/// A pod that was made.
#[derive(Debug)]
pub struct Pod {
    /// Its sandbox's id.
    pub id: String,
    config: PodConfig,
}

/// How the containers of a pod are labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// As a kubelet does.
    Kubelets,
    /// Not at all, as `crictl` leaves them.
    None,
}

/// Makes an image that sleeps by default, as the pause program does, for a pod's sandbox. Returns
/// its name.
///
/// # Errors
/// If docker cannot make it.
pub fn sandbox_image(docker: &Docker) -> Result<String> {
    let image = "whalewatch-pause:1".to_owned();
    if docker.run(&["image", "inspect", &image]).is_err() {
        let tar = environment::get(environment::IMAGE_TAR);
        docker.run(&["import", "--change", r#"CMD ["/bin/sleep","1000000"]"#, &tar, &image])?;
    }
    Ok(image)
}

impl Client {
    /// Connects to the runtime at `socket`.
    ///
    /// # Errors
    /// If nothing listens there.
    pub fn of(socket: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        let channel = runtime.block_on(endpoint.connect()).context("cannot reach the runtime")?;
        Ok(Self { runtime, channel })
    }

    #[expect(clippy::needless_pass_by_value, reason = "each request is made for one call")]
    fn ask<Q, A>(&self, method: &str, question: Q) -> Result<A>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.RuntimeService/{method}").parse()?;
        let mut client = Grpc::new(self.channel.clone());
        let mut answer = || {
            self.runtime.block_on(async {
                client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
                let codec = ProstCodec::<Q, A>::default();
                client.unary(Request::new(question.clone()), path.clone(), codec).await
            })
        };
        // containerd answers before its CRI plugin is ready.
        let ready = wait::poll(LIMIT, || match answer() {
            Err(status) if status.message().contains("not initialized yet") => None,
            other => Some(other),
        });
        let answer = ready.with_context(|| format!("{method}: not ready after {LIMIT:?}"))?;
        Ok(answer.context(method.to_owned())?.into_inner())
    }

    /// Makes a pod on the host's network, with its cgroup among a kubelet's best-effort pods.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub fn run_pod(&self, name: &str, namespace: &str, uid: &str, labels: Labels) -> Result<Pod> {
        let labels = match labels {
            Labels::Kubelets => pod_labels(name, namespace, uid),
            Labels::None => HashMap::new(),
        };
        let config = PodConfig {
            metadata: Some(PodMetadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
            }),
            log_directory: String::new(),
            labels,
            linux: Some(LinuxPod {
                cgroup_parent: format!("/kubepods/besteffort/pod{uid}"),
                security: Some(PodSecurity { namespaces: Some(host()) }),
            }),
        };
        let question = RunPod { config: Some(config.clone()) };
        Ok(Pod { id: self.ask::<_, Id>("RunPodSandbox", question)?.id, config })
    }

    /// Makes a container in a pod. Returns its id.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub fn create(&self, pod: &Pod, name: &str, image: &str, command: &[&str]) -> Result<String> {
        let mut labels = pod.config.labels.clone();
        if !labels.is_empty() {
            labels.insert("io.kubernetes.container.name".to_owned(), name.to_owned());
        }
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned() }),
            image: Some(Image { image: image.to_owned() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            labels,
            log_path: String::new(),
            linux: Some(LinuxContainer {
                security: Some(ContainerSecurity { namespaces: Some(host()) }),
            }),
        };
        let question = CreateContainer {
            pod: pod.id.clone(),
            config: Some(config),
            pod_config: Some(pod.config.clone()),
        };
        Ok(self.ask::<_, Id>("CreateContainer", question)?.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub fn start(&self, id: &str) -> Result<()> {
        self.ask::<_, Id>("StartContainer", Id { id: id.to_owned() }).map(drop)
    }

    /// Runs a program in a container to its end.
    ///
    /// # Errors
    /// If the runtime refuses, or the program fails.
    pub fn exec(&self, id: &str, command: &[&str]) -> Result<()> {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let question = ExecSync { container: id.to_owned(), command, timeout: 60 };
        let answer: ExecSyncResponse = self.ask("ExecSync", question)?;
        ensure!(answer.exit_code == 0, "the program exited with {}", answer.exit_code);
        Ok(())
    }

    /// Returns the exit code of a container's first process, if it has ended.
    ///
    /// # Errors
    /// If the runtime knows no such container.
    pub fn exit_code(&self, id: &str) -> Result<Option<i32>> {
        let answer: StatusResponse = self.ask("ContainerStatus", Id { id: id.to_owned() })?;
        let status = answer.status.context("ContainerStatus: it has none")?;
        Ok((status.state == EXITED).then_some(status.exit_code))
    }

    /// Kills a container and removes it.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.ask::<_, Id>("StopContainer", Stop { container: id.to_owned(), timeout: 0 })?;
        self.ask::<_, Id>("RemoveContainer", Id { id: id.to_owned() }).map(drop)
    }

    /// Removes a pod with its containers.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        self.ask::<_, Id>("StopPodSandbox", Id { id: pod.id.clone() })?;
        self.ask::<_, Id>("RemovePodSandbox", Id { id: pod.id.clone() }).map(drop)
    }
}

fn host() -> Namespaces {
    Namespaces { network: NODE, pid: 1 }
}

fn pod_labels(name: &str, namespace: &str, uid: &str) -> HashMap<String, String> {
    let labels = [("name", name), ("namespace", namespace), ("uid", uid)];
    let label = |(key, value): (&str, &str)| (format!("io.kubernetes.pod.{key}"), value.to_owned());
    labels.into_iter().map(label).collect()
}
