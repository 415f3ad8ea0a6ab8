//! containerd's messages, with the fields that are used here. The numbers are those of containerd's
//! `api/` (`services/*/v1/*.proto`, `types/task/task.proto`, `types/event.proto`,
//! `events/{container,task}.proto`), unchanged since version 1.0.

use std::collections::HashMap;

use prost::Message;

pub(super) const LIST_NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
pub(super) const GET_CONTAINER: &str = "/containerd.services.containers.v1.Containers/Get";
/// One message a container. Each has the container's whole specification, so a single answer with
/// all of them could be too large.
pub(super) const LIST_CONTAINERS: &str = "/containerd.services.containers.v1.Containers/ListStream";
pub(super) const GET_TASK: &str = "/containerd.services.tasks.v1.Tasks/Get";
pub(super) const LIST_TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
pub(super) const LIST_PIDS: &str = "/containerd.services.tasks.v1.Tasks/ListPids";
pub(super) const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";

/// An empty request: `ListNamespacesRequest`, `ListContainersRequest`,
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

/// `Container`: the record of a container, running or not.
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

/// `Process`. A container's first process has the container's id.
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

/// The envelope of an event.
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
/// `TaskResumed`: the container's id is the first field of each.
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
    /// The container's id for its first process; another id for one that was executed later.
    #[prost(string, tag = "2")]
    pub(super) process: String,
}
