//! A plan: what a valid configuration asks for. It has touched nothing yet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::queue::QueueOptions;
use crate::registry::{ConfiguredHandler, ConfiguredTracker};

/// A valid configuration: every part is known, has valid options, and can take what flows into it.
pub struct Plan {
    pub(crate) trackers: Vec<PlannedTracker>,
    pub(crate) handlers: Vec<PlannedHandler>,
    pub(crate) chains: Vec<PlannedChain>,
    pub(crate) tests: Vec<PlannedTest>,
}

/// A test that stands in a configuration: recorded events in, expected events out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedTest {
    /// What it is called.
    pub name: String,
    /// The recording that is replayed, as `whalewatch record` made it: a path, from the folder of
    /// the configuration on.
    pub recording: String,
    /// Look only at what comes out of the end of this chain; without it, of all of them.
    pub chain: Option<String>,
    /// What has to come out, in this order: for each event the fields that it must have, as they
    /// are printed.
    #[serde(default)]
    pub expect: Vec<BTreeMap<String, Value>>,
    /// Whether nothing else may come out.
    #[serde(default)]
    pub only: bool,
}

pub(crate) struct PlannedTracker {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) tracker: Box<dyn ConfiguredTracker>,
    /// Handlers, by index, that it is to be fed to.
    pub(crate) needed_by: Vec<usize>,
}

impl PlannedTracker {
    /// What tells it from every other: two plans' trackers of one identity do the same.
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
    /// What tells it from every other: two plans' handlers of one identity do the same.
    pub(crate) fn identity(&self) -> String {
        let queue = format!("{} {}", self.queue.when_full, self.queue.queue);
        let (options, input) =
            (self.handler.options().to_string(), self.handler.built_for().join(","));
        identity(&[&self.name, &self.type_name, &queue, &input, &options])
    }
}

pub(crate) struct PlannedChain {
    pub(crate) name: String,
    /// Trackers by index.
    pub(crate) from: Vec<usize>,
    /// Handlers by index.
    pub(crate) through: Vec<usize>,
}

impl Plan {
    /// Names of the trackers that will be attached, in order.
    pub fn tracker_names(&self) -> impl Iterator<Item = &str> {
        self.trackers.iter().map(|t| &*t.name)
    }

    /// Names of the chains, in order.
    pub fn chain_names(&self) -> impl Iterator<Item = &str> {
        self.chains.iter().map(|c| &*c.name)
    }

    /// Whether a tracker is to be open before others are: it is what every handler that needs it
    /// needs first.
    pub(crate) fn opens_first(&self, tracker: usize) -> bool {
        let tracker = &self.trackers[tracker];
        let first = |&handler: &usize| {
            self.handlers[handler].handler.properties().observed.first().copied()
        };
        let is_first = |handler| first(handler) == Some(&*tracker.type_name);
        !tracker.needed_by.is_empty() && tracker.needed_by.iter().all(is_first)
    }

    /// The tests that stand in the configuration.
    pub fn tests(&self) -> &[PlannedTest] {
        &self.tests
    }

    /// The chains as a graph.
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
    /// What flows from where to where, and in which chain.
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
    /// Where events come from.
    pub from: String,
    /// Where they go.
    pub to: String,
    /// Name of the chain, or `needs` for what feeds a handler whatever the chains name.
    pub label: String,
}
