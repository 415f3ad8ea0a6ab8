//! The messages of the container runtime interface, with the fields that are used here. The numbers
//! are those of Kubernetes' `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`, which only ever adds to
//! them.

use std::collections::HashMap;

use prost::Message;

pub(super) const VERSION: &str = "/runtime.v1.RuntimeService/Version";
pub(super) const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
pub(super) const CONTAINER_STATUS: &str = "/runtime.v1.RuntimeService/ContainerStatus";
pub(super) const LIST_PODS: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
pub(super) const POD_STATUS: &str = "/runtime.v1.RuntimeService/PodSandboxStatus";
pub(super) const EVENTS: &str = "/runtime.v1.RuntimeService/GetContainerEvents";

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionRequest {
    #[prost(string, tag = "1")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionResponse {
    #[prost(string, tag = "2")]
    pub(super) runtime_name: String,
}

/// `ListContainersRequest` and `ListPodSandboxRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<Filter>,
}

/// `ContainerFilter` and `PodSandboxFilter`: an id, or the beginning of one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Filter {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) pod: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "4")]
    pub(super) image: Option<Image>,
    /// 0 created, 1 running, 2 exited, 3 unknown.
    #[prost(int32, tag = "6")]
    pub(super) state: i32,
    #[prost(map = "string, string", tag = "8")]
    pub(super) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `ImageSpec`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) image: String,
    #[prost(string, tag = "18")]
    pub(super) as_asked_for: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPodsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) pods: Vec<Pod>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pod {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<PodMetadata>,
    /// 0 ready, 1 not ready.
    #[prost(int32, tag = "3")]
    pub(super) state: i32,
    #[prost(map = "string, string", tag = "5")]
    pub(super) labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

/// `ContainerStatusRequest` and `PodSandboxStatusRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(bool, tag = "2")]
    pub(super) verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<ContainerStatus>,
    #[prost(map = "string, string", tag = "2")]
    pub(super) info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerStatus {
    /// In nanoseconds since 1970; 0 for never.
    #[prost(int64, tag = "5")]
    pub(super) started_at: i64,
    #[prost(message, optional, tag = "8")]
    pub(super) image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodStatusResponse {
    #[prost(map = "string, string", tag = "2")]
    pub(super) info: HashMap<String, String>,
}

/// `GetEventsRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EventsRequest {}

/// `ContainerEventResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(string, tag = "1")]
    pub(super) container: String,
    /// 0 created, 1 started, 2 stopped, 3 deleted.
    #[prost(int32, tag = "2")]
    pub(super) kind: i32,
}
