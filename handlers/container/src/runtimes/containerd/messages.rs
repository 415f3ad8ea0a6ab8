//! containerd's messages: of each, the fields that are used. Numbers as in containerd's `api/`:
//! `services/*/v1/*.proto`, `types/task/task.proto`, `types/event.proto` and
//! `events/{container,task}.proto`; the same since version 1.0.

use std::collections::HashMap;

use prost::Message;

pub(super) const LIST_NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
pub(super) const GET_CONTAINER: &str = "/containerd.services.containers.v1.Containers/Get";
/// Container by container: each brings its whole specification, so all together can be too large
/// for one message.
pub(super) const LIST_CONTAINERS: &str = "/containerd.services.containers.v1.Containers/ListStream";
pub(super) const GET_TASK: &str = "/containerd.services.tasks.v1.Tasks/Get";
pub(super) const LIST_TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
pub(super) const LIST_PIDS: &str = "/containerd.services.tasks.v1.Tasks/ListPids";
pub(super) const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";

/// A question that says nothing: `ListNamespacesRequest`, `ListContainersRequest`,
/// `ListTasksRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct All {}

/// `GetContainerRequest`, `GetRequest` and `ListPidsRequest` of tasks.
#[derive(Clone, PartialEq, Message)]
pub(super) struct One {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListNamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Namespace {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `GetContainerResponse` and `ListContainerMessage`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) container: Option<Record>,
}

/// `Container`: what is kept of one, whether it runs or not.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(map = "string, string", tag = "2")]
    pub(super) labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub(super) image: String,
    #[prost(map = "string, message", tag = "10")]
    pub(super) extensions: HashMap<String, Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetTaskResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) process: Option<Task>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListTasksResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) tasks: Vec<Task>,
}

/// `Process`. The id of a container's first process is the container's.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Task {
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(uint32, tag = "3")]
    pub(super) pid: u32,
    /// 1 created, 2 running, 3 stopped, 4 paused, 5 pausing.
    #[prost(int32, tag = "4")]
    pub(super) status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPidsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) processes: Vec<ProcessInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessInfo {
    #[prost(uint32, tag = "1")]
    pub(super) pid: u32,
}

/// What stands around each event.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) topic: String,
    #[prost(message, optional, tag = "4")]
    pub(super) event: Option<Any>,
}

/// `ContainerCreate`, `ContainerUpdate` and `ContainerDelete`, `TaskStart`, `TaskPaused` and
/// `TaskResumed`: all begin with the container's id.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(string, tag = "1")]
    pub(super) container: String,
}

/// `TaskExit`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Exit {
    #[prost(string, tag = "1")]
    pub(super) container: String,
    /// The container's id for its first process, another for one that was started in it later.
    #[prost(string, tag = "2")]
    pub(super) process: String,
}
