//! The options of the handler and of its metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::HumanDuration;

/// Options of the `prometheus` handler.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusOptions {
    /// The IP address and port of the server. Anyone who can reach it can read the metrics. Port 0
    /// selects a free port, which is logged at level info.
    pub listen: String,
    /// The maximum number of time series of all metrics together, from 1 to 1000000. Each
    /// combination of label values is one series in a counter; in a histogram, it is one series for
    /// each bucket, and three more.
    pub max_series: u32,
    /// How long to keep a combination of label values without events, at least 1s. If the
    /// combination returns later, it counts from 0.
    pub expire: HumanDuration,
    /// The metrics. Default: a counter of events by kind, container name and attribution state.
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

/// Options of one metric.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricOptions {
    /// The metric's name. The name of a counter ends with `_total`.
    pub name: String,
    /// `counter` counts events, or sums the field `value`; `histogram` shows the distribution of
    /// the field `value`.
    #[serde(default)]
    pub kind: Kind,
    /// The description that clients show, in one line. Default: derived from the other options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The fields that become labels, at most 16. `container.name` becomes `container_name`;
    /// `{ image = "container.image.name" }` becomes `image`.
    #[serde(default)]
    pub labels: Vec<LabelOption>,
    /// The condition on the events to count, in CEL: `kind == "process.exec"`. Default: all events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The number field that a counter sums, or whose values a histogram shows. Events without the
    /// field are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The factor that converts values to the metric's unit: `1e-9` converts nanoseconds to
    /// seconds.
    #[serde(default = "one")]
    pub scale: f64,
    /// The upper bounds of a histogram's buckets, in the metric's unit: in ascending order, at most
    /// 100. The bucket +Inf is added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<f64>,
    /// The maximum number of time series of this metric, within the handler's `max_series`.
    /// Default: the handler's `max_series`.
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

/// The type of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A number that only increases.
    #[default]
    Counter,
    /// The distribution of values over buckets.
    Histogram,
}

/// A label of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected the name of a field, or { label = \"field\" } to rename it"
)]
pub enum LabelOption {
    /// A field. The label has the field's name, with `_` instead of `.`.
    Field(String),
    /// The label's name and the field, as a table with one entry.
    Renamed(BTreeMap<String, String>),
}
