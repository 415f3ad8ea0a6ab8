//! The description of a plan for people: its parts, with what the registry knows about them.

use serde_json::Value;

use crate::config::describe::OptionInfo;
use crate::plan::Plan;
use crate::queue::QueueOptions;
use crate::registry::Registry;

impl Registry {
    /// Describes the parts of a plan, in the order of the plan.
    pub fn describe_plan(&self, plan: &Plan) -> PlanInfo {
        let trackers = plan.trackers.iter().map(|planned| {
            let kind = self.trackers.get(&planned.type_name);
            let needed_by = planned.needed_by.iter().map(|&h| plan.handlers[h].name.clone());
            TrackerInfo {
                name: planned.name.clone(),
                type_name: planned.type_name.clone(),
                about: kind.map_or("", |kind| kind.about()),
                cost: kind.map_or("unknown", |kind| kind.cost()),
                attaches: planned.tracker.attaches(),
                set: set(&planned.tracker.options(), kind.map(|kind| kind.options())),
                needed_by: needed_by.collect(),
            }
        });
        let handlers = plan.handlers.iter().map(|planned| {
            let kind = self.handlers.get(&planned.type_name);
            HandlerInfo {
                name: planned.name.clone(),
                type_name: planned.type_name.clone(),
                about: kind.map_or("", |kind| kind.about()),
                shared: planned.shared,
                blocking: planned.handler.properties().blocking,
                output: planned.handler.properties().output,
                queue: planned.queue.clone(),
                set: set(&planned.handler.options(), kind.map(|kind| kind.options())),
            }
        });
        let chains = plan.chains.iter().map(|chain| ChainInfo {
            name: chain.name.clone(),
            from: chain.from.clone(),
            through: chain.through.clone(),
        });
        PlanInfo {
            trackers: trackers.collect(),
            handlers: handlers.collect(),
            chains: chains.collect(),
        }
    }
}

/// A description of a plan, for people.
#[derive(Clone, Debug)]
pub struct PlanInfo {
    /// The trackers.
    pub trackers: Vec<TrackerInfo>,
    /// The handlers.
    pub handlers: Vec<HandlerInfo>,
    /// The chains.
    pub chains: Vec<ChainInfo>,
}

/// A tracker of a plan.
#[derive(Clone, Debug)]
pub struct TrackerInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_name: String,
    /// What it watches.
    pub about: &'static str,
    /// What it costs the traced processes.
    pub cost: &'static str,
    /// Where in the kernel it attaches.
    pub attaches: Vec<&'static str>,
    /// Options that differ from their defaults, by dotted name.
    pub set: Vec<(String, Value)>,
    /// Names of the handlers that need it, whether or not a chain names it.
    pub needed_by: Vec<String>,
}

/// A handler of a plan.
#[derive(Clone, Debug)]
pub struct HandlerInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_name: String,
    /// What it does.
    pub about: &'static str,
    /// Whether all chains share one instance.
    pub shared: bool,
    /// Whether it runs on a separate thread.
    pub blocking: bool,
    /// Whether it can end a chain.
    pub output: bool,
    /// Options of its queue.
    pub queue: QueueOptions,
    /// Options that differ from their defaults, by dotted name.
    pub set: Vec<(String, Value)>,
}

/// A chain of a plan: indices into the plan's trackers and handlers.
#[derive(Clone, Debug)]
pub struct ChainInfo {
    /// Its name.
    pub name: String,
    /// Its trackers.
    pub from: Vec<usize>,
    /// Its handlers, in order.
    pub through: Vec<usize>,
}

/// Returns the options that differ from their defaults, by dotted name.
fn set(options: &Value, known: Option<Vec<OptionInfo>>) -> Vec<(String, Value)> {
    let known = known.unwrap_or_default();
    let differs = |info: OptionInfo| {
        let value = options.pointer(&format!("/{}", info.name.replace('.', "/")))?;
        let default = info.default.unwrap_or(Value::Null);
        (*value != default).then(|| (info.name, value.clone()))
    };
    known.into_iter().filter_map(differs).collect()
}
