//! A plan: the parts and chains of a valid configuration. Making one opens nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::queue::QueueOptions;
use crate::registry::{ConfiguredHandler, ConfiguredTracker};

/// A valid configuration: every part is known, has valid options, and accepts the events that reach
/// it.
pub struct Plan {
    pub(crate) trackers: Vec<PlannedTracker>,
    pub(crate) handlers: Vec<PlannedHandler>,
    pub(crate) chains: Vec<PlannedChain>,
    pub(crate) tests: Vec<PlannedTest>,
}

/// A test in a configuration: recorded events in, expected events out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedTest {
    /// Name of the test.
    pub name: String,
    /// The recording to replay, made by `whalewatch record`: a path relative to the folder of the
    /// configuration.
    pub recording: String,
    /// The chain whose output is checked. If unset, the output of all chains.
    pub chain: Option<String>,
    /// The expected events, in order: for each, the fields that it must have, as they are printed.
    #[serde(default)]
    pub expect: Vec<BTreeMap<String, Value>>,
    /// Whether the output must have no other events.
    #[serde(default)]
    pub only: bool,
}

pub(crate) struct PlannedTracker {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) tracker: Box<dyn ConfiguredTracker>,
    /// Indices of the handlers that need it and are fed its events.
    pub(crate) needed_by: Vec<usize>,
}

impl PlannedTracker {
    /// Returns the identity: trackers of two plans with the same identity do the same.
    pub(crate) fn identity(&self) -> String {
        identity(&[&self.name, &self.type_name, &self.tracker.options().to_string()])
    }
}

fn identity(parts: &[&str]) -> String {
    parts.join("\0")
}

pub(crate) struct PlannedHandler {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) shared: bool,
    pub(crate) queue: QueueOptions,
    pub(crate) handler: Box<dyn ConfiguredHandler>,
}

impl PlannedHandler {
    /// Returns the identity: handlers of two plans with the same identity do the same.
    pub(crate) fn identity(&self) -> String {
        let queue = format!("{} {}", self.queue.when_full, self.queue.queue);
        let (options, input) =
            (self.handler.options().to_string(), self.handler.built_for().join(","));
        identity(&[&self.name, &self.type_name, &queue, &input, &options])
    }
}

pub(crate) struct PlannedChain {
    pub(crate) name: String,
    /// Indices of its trackers.
    pub(crate) from: Vec<usize>,
    /// Indices of its handlers, in order.
    pub(crate) through: Vec<usize>,
}

impl Plan {
    /// Returns the names of the trackers that will be attached, in order.
    pub fn tracker_names(&self) -> impl Iterator<Item = &str> {
        self.trackers.iter().map(|t| &*t.name)
    }

    /// Returns the names of the chains, in order.
    pub fn chain_names(&self) -> impl Iterator<Item = &str> {
        self.chains.iter().map(|c| &*c.name)
    }

    /// Whether a tracker must be open before all others: every handler that needs it names it first
    /// among its needs.
    pub(crate) fn opens_first(&self, tracker: usize) -> bool {
        let tracker = &self.trackers[tracker];
        let first = |&handler: &usize| {
            self.handlers[handler].handler.properties().observed.first().copied()
        };
        let is_first = |handler| first(handler) == Some(&*tracker.type_name);
        !tracker.needed_by.is_empty() && tracker.needed_by.iter().all(is_first)
    }

    /// Returns the tests of the configuration.
    pub fn tests(&self) -> &[PlannedTest] {
        &self.tests
    }

    /// Returns the chains as a graph.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (i, tracker) in self.trackers.iter().enumerate() {
            let label = label(&tracker.name, &tracker.type_name);
            graph.nodes.push(Node { id: format!("t{i}"), label, tracker: true });
        }
        for (c, chain) in self.chains.iter().enumerate() {
            let mut before: Vec<String> = chain.from.iter().map(|i| format!("t{i}")).collect();
            for &h in &chain.through {
                let handler = &self.handlers[h];
                let id = if handler.shared { format!("h{h}") } else { format!("h{h}c{c}") };
                if !graph.nodes.iter().any(|node| node.id == id) {
                    let label = label(&handler.name, &handler.type_name);
                    graph.nodes.push(Node { id: id.clone(), label, tracker: false });
                }
                for from in before {
                    graph.edges.push(Edge { from, to: id.clone(), label: chain.name.clone() });
                }
                before = vec![id];
            }
        }
        for (i, tracker) in self.trackers.iter().enumerate() {
            for &h in &tracker.needed_by {
                graph.edges.push(Edge {
                    from: format!("t{i}"),
                    to: format!("h{h}"),
                    label: String::from("needs"),
                });
            }
        }
        graph
    }
}

fn label(name: &str, type_name: &str) -> String {
    if name == type_name { name.to_owned() } else { format!("{name} ({type_name})") }
}

/// Chains as nodes and edges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Trackers and handlers.
    pub nodes: Vec<Node>,
    /// The channels between them.
    pub edges: Vec<Edge>,
}

/// A tracker or a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique in the graph; letters and digits only.
    pub id: String,
    /// Its name, and its type where that differs.
    pub label: String,
    /// Whether it is a tracker.
    pub tracker: bool,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Id of the sending node.
    pub from: String,
    /// Id of the receiving node.
    pub to: String,
    /// Name of the chain, or `needs` for a tracker that a handler needs in addition to its chains.
    pub label: String,
}
