//! What stands in the handler's table.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::HumanDuration;

/// Options of the `prometheus` handler.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusOptions {
    /// Address and port where `/metrics` is served; whoever reaches it can read it. Port 0 takes a
    /// free one, which is logged at level info.
    pub listen: String,
    /// How many time series all metrics may have together, from 1 to 1000000. A combination of
    /// label values is one for a counter; for a histogram it is as many as there are bounds, and
    /// three.
    pub max_series: u32,
    /// How long a combination of label values is kept after its last event, at least 1s. Then it
    /// goes, and counts from 0 if it comes again.
    pub expire: HumanDuration,
    /// What is counted. Left out: events by kind, container name and state of attribution.
    pub metrics: Vec<MetricOptions>,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        let labels = ["kind", "container.name", "attribution.state"];
        let events = MetricOptions {
            name: "whalewatch_events_total".into(),
            help: Some("Events by kind and container".into()),
            labels: labels.map(|field| LabelOption::Field(field.into())).into(),
            ..MetricOptions::default()
        };
        Self {
            listen: "127.0.0.1:9464".into(),
            max_series: 10_000,
            expire: HumanDuration(Duration::from_mins(10)),
            metrics: vec![events],
        }
    }
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricOptions {
    /// Its name. That of a counter ends with `_total`.
    pub name: String,
    /// `counter` counts events, or adds up a field of theirs; `histogram` tells how a field's
    /// values are spread.
    #[serde(default)]
    pub kind: Kind,
    /// What it means, in one line, for who looks at it. Left out: it is made from the other
    /// options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Fields whose values are its labels, 16 at most. The label of `container.name` is
    /// `container_name`; `{ image = "container.image.name" }` gives it a name of one's own.
    #[serde(default)]
    pub labels: Vec<LabelOption>,
    /// Which events are counted, in CEL: `kind == "process.exec"`. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The number field that a histogram is of, or that a counter adds up. Events that lack it are
    /// not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What values are multiplied with to be in the metric's unit: `1e-9` makes seconds of
    /// nanoseconds.
    #[serde(default = "one")]
    pub scale: f64,
    /// Upper bounds of a histogram's buckets, in the metric's unit: rising, 100 at most. The last
    /// one, +Inf, is added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<f64>,
    /// How many time series this metric may have, within the handler's `max_series`. Left out: as
    /// many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_series: Option<u32>,
}

fn one() -> f64 {
    1.0
}

impl Default for MetricOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Counter,
            help: None,
            labels: Vec::new(),
            when: None,
            value: None,
            scale: 1.0,
            buckets: Vec::new(),
            max_series: None,
        }
    }
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only ever rises.
    #[default]
    Counter,
    /// How values are spread over buckets.
    Histogram,
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a label is a field's name, or { label = \"field\" } where it is to be called otherwise"
)]
pub enum LabelOption {
    /// A field, which gives the label its name.
    Field(String),
    /// The label's name, and its field.
    Renamed(BTreeMap<String, String>),
}
