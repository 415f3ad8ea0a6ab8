//! The configured metrics, checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{Problem, Schema, Type};
use whalewatch_kit::{Condition, fields};

use crate::options::{Kind, LabelOption, MetricOptions, PrometheusOptions};

const MAX_LABELS: usize = 16;
const MAX_BUCKETS: usize = 100;
const MAX_SERIES: u32 = 1_000_000;
const SHORTEST_EXPIRE: Duration = Duration::from_secs(1);

/// Prefixes of metric names that are reserved for the handler.
const OWN: [&str; 5] = [
    "process_",
    "whalewatch_build",
    "whalewatch_handler_",
    "whalewatch_prometheus_",
    "whalewatch_tracker_",
];

/// A metric whose options were checked.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The name without the `_total` of a counter.
    pub(crate) family: String,
    pub(crate) help: String,
    pub(crate) kind: Kind,
    pub(crate) labels: Vec<Label>,
    pub(crate) when: Option<Condition>,
    pub(crate) value: Option<String>,
    pub(crate) scale: f64,
    /// Upper bounds of a histogram's buckets, without the final +Inf.
    pub(crate) bounds: Vec<f64>,
    /// Maximum number of time series.
    pub(crate) max_series: u64,
}

/// A label and the field it comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) name: Box<str>,
    pub(crate) field: String,
}

impl Definition {
    /// Returns the number of time series of one combination of label values. A histogram has its
    /// buckets, +Inf, sum and count.
    pub(crate) fn series(&self) -> u64 {
        match self.kind {
            Kind::Counter => 1,
            Kind::Histogram => self.bounds.len() as u64 + 3,
        }
    }

    /// Whether values are not scaled, so that they are written as whole numbers.
    pub(crate) fn is_whole(&self) -> bool {
        self.scale.to_bits() == 1.0_f64.to_bits()
    }

    /// The name as configured.
    pub(crate) fn name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.family),
            Kind::Histogram => self.family.clone(),
        }
    }
}

/// The checked options.
#[derive(Debug)]
pub(crate) struct Checked {
    /// `None` if the option is not an address.
    pub(crate) listen: Option<SocketAddr>,
    /// One for each metric in the options. Invalid parts of a metric are missing here and reported
    /// in `problems`.
    pub(crate) metrics: Vec<Arc<Definition>>,
    /// All problems that can be found without knowing the input.
    pub(crate) problems: Vec<Problem>,
}

/// Checks the options.
pub(crate) fn read(options: &PrometheusOptions) -> Checked {
    let mut problems = Vec::new();
    let listen = options.listen.parse().ok();
    if listen.is_none() {
        let message = format!("\"{}\" is not an IP address with a port", options.listen);
        let hint = "write for example \"127.0.0.1:9464\" or \"[::1]:9464\"; host names are not \
                    resolved";
        problems.push(Problem::new("listen", message).hint(hint));
    }
    check_max("max_series", options.max_series, &mut problems);
    let expire = Problem::check_range("expire", options.expire.0, SHORTEST_EXPIRE..);
    let hint = "set it to more than a few scrape intervals, for example \"10m\"";
    problems.extend(expire.map(|problem| problem.hint(hint)));
    let mut metrics: Vec<Arc<Definition>> = Vec::new();
    for (index, metric) in options.metrics.iter().enumerate() {
        let mut reader = Reader { at: format!("metrics[{index}]"), problems: &mut problems };
        let definition = reader.metric(metric, options.max_series);
        if metrics.iter().any(|other| other.family == definition.family) {
            let message = format!("another metric is already called \"{}\"", definition.family);
            reader.wrong("name", message, "names must differ in more than the _total of a counter");
        }
        metrics.push(Arc::new(definition));
    }
    Checked { listen, metrics, problems }
}

fn check_max(key: &str, max: u32, problems: &mut Vec<Problem>) {
    let problem = Problem::check_range(key, max, 1..=MAX_SERIES);
    problems.extend(problem.map(|problem| problem.hint("10000 suits most hosts")));
}

/// Reads one metric.
struct Reader<'a> {
    /// The metric's key in the options, for example `metrics[0]`.
    at: String,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn wrong(&mut self, option: &str, message: impl Into<String>, hint: impl Into<String>) {
        let key = if option.is_empty() { self.at.clone() } else { format!("{}.{option}", self.at) };
        self.problems.push(Problem::new(key, message).hint(hint));
    }

    fn metric(&mut self, options: &MetricOptions, max_series: u32) -> Definition {
        self.name(options);
        self.help(options);
        self.value(options);
        self.buckets(options);
        let labels = self.labels(options);
        let max = options.max_series.unwrap_or(max_series);
        if options.max_series.is_some() {
            check_max(&format!("{}.max_series", self.at), max, self.problems);
        }
        let when = options.when.as_ref().and_then(|when| {
            let condition = Condition::parse(&format!("{}.when", self.at), when);
            condition.map_err(|problem| self.problems.push(problem)).ok()
        });
        let family = match options.kind {
            Kind::Counter => options.name.strip_suffix("_total").unwrap_or(&options.name),
            Kind::Histogram => &options.name,
        };
        let definition = Definition {
            family: family.to_owned(),
            help: options.help.clone().unwrap_or_else(|| default_help(options)),
            kind: options.kind,
            labels,
            when,
            value: options.value.clone(),
            scale: options.scale,
            bounds: options.buckets.clone(),
            max_series: max.into(),
        };
        if max > 0 && definition.series() > max.into() {
            let option = if options.max_series.is_some() { "max_series" } else { "" };
            let message =
                format!("max_series = {max} is too small for even one combination of labels");
            self.wrong(option, message, format!("set it to at least {}", definition.series()));
        }
        definition
    }

    fn name(&mut self, options: &MetricOptions) {
        let name = &*options.name;
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
        let good = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
        let ending = |ends: &[&'static str]| ends.iter().copied().find(|end| name.ends_with(end));
        if !good {
            let hint = "use letters, digits and underscores, and a letter first";
            self.wrong("name", format!("\"{name}\" cannot name a metric"), hint);
        } else if let Some(own) = OWN.iter().find(|own| name.starts_with(**own)) {
            let message = format!("names that begin with \"{own}\" are reserved for Whalewatch");
            self.wrong("name", message, "choose another name");
        } else if options.kind == Kind::Counter && ending(&["_total"]).is_none() {
            let message = "a counter's name must end with \"_total\"";
            self.wrong("name", message, format!("call it \"{name}_total\""));
        } else if options.kind == Kind::Histogram
            && let Some(end) = ending(&["_total", "_bucket", "_sum", "_count", "_info"])
        {
            let message = format!("a histogram's name cannot end with \"{end}\"");
            self.wrong("name", message, "name it by what it measures: \"connection_seconds\"");
        }
    }

    fn help(&mut self, options: &MetricOptions) {
        if options.help.as_ref().is_some_and(|help| help.contains(['\n', '\\', '"'])) {
            let message = "the help text contains a newline, a backslash or a quote";
            self.wrong("help", message, "write one plain line");
        }
    }

    fn value(&mut self, options: &MetricOptions) {
        let histogram = options.kind == Kind::Histogram;
        if histogram && options.value.is_none() {
            let hint = "value = \"network.duration_ns\", with scale = 1e-9 for seconds";
            self.wrong("", "a histogram needs a field for its values", hint);
        }
        if !(options.scale.is_finite() && options.scale > 0.0) {
            let message = format!("{} is not a valid scale", options.scale);
            self.wrong("scale", message, "write a number above 0, for example 1e-9");
        } else if options.scale.to_bits() != 1.0_f64.to_bits() && options.value.is_none() {
            let hint = "set value, or remove scale";
            self.wrong("scale", "scale has no effect without value", hint);
        }
    }

    fn buckets(&mut self, options: &MetricOptions) {
        let bounds = &options.buckets;
        let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        match options.kind {
            Kind::Counter if !bounds.is_empty() => {
                self.wrong("buckets", "a counter has no buckets", "set kind = \"histogram\"");
            }
            Kind::Histogram if bounds.is_empty() => {
                let hint = "buckets = [0.001, 0.01, 0.1, 1, 10], in the metric's unit";
                self.wrong("", "a histogram needs buckets", hint);
            }
            Kind::Histogram if bounds.len() > MAX_BUCKETS => {
                let message = format!("there are {} buckets", bounds.len());
                self.wrong("buckets", message, format!("write at most {MAX_BUCKETS}"));
            }
            Kind::Histogram if !rising || !bounds.iter().all(|bound| bound.is_finite()) => {
                let hint = "write finite numbers, each greater than the one before";
                self.wrong("buckets", "the buckets are not in ascending order", hint);
            }
            _ => {}
        }
    }

    fn labels(&mut self, options: &MetricOptions) -> Vec<Label> {
        let mut labels: Vec<Label> = Vec::new();
        for (index, label) in options.labels.iter().enumerate() {
            let at = format!("labels[{index}]");
            let (name, field) = match label {
                LabelOption::Field(field) => (label_of(field), field.clone()),
                LabelOption::Renamed(pair) if pair.len() == 1 => {
                    let (name, field) =
                        pair.iter().next().map(|(n, f)| (n.clone(), f)).expect("one");
                    (name, field.clone())
                }
                LabelOption::Renamed(_) => {
                    let hint = "write { a = \"field.a\" }, { b = \"field.b\" }";
                    self.wrong(&at, "this has several labels or none in one pair of braces", hint);
                    continue;
                }
            };
            self.label(&at, &name, &field, options.kind);
            if labels.iter().any(|other| *other.name == name) {
                let hint = format!("rename one of them: {{ other = \"{field}\" }}");
                self.wrong(&at, format!("two labels are called \"{name}\""), hint);
            }
            labels.push(Label { name: name.into(), field });
        }
        if labels.len() > MAX_LABELS {
            let message = format!("there are {} labels", labels.len());
            self.wrong("labels", message, format!("write at most {MAX_LABELS}"));
        }
        labels
    }

    fn label(&mut self, at: &str, name: &str, field: &str, kind: Kind) {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let good = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
        if !good || name.starts_with("__") {
            let hint = "use letters, digits and underscores, and a letter first";
            self.wrong(at, format!("\"{name}\" cannot name a label"), hint);
        }
        if kind == Kind::Histogram && name == "le" {
            let hint = "choose another name";
            self.wrong(at, "the label \"le\" is reserved for the buckets of a histogram", hint);
        }
        if field == "time" {
            let hint = "remove it: Prometheus records the time of each scrape";
            self.wrong(
                at,
                "nearly every event has its own time, so each would become a series",
                hint,
            );
        }
    }
}

/// The default label of a field: `container_name` for `container.name`.
fn label_of(field: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    field.chars().map(plain).collect()
}

fn default_help(options: &MetricOptions) -> String {
    match (&options.value, options.kind) {
        (Some(field), Kind::Counter) => format!("Sum of {field} over events"),
        (Some(field), Kind::Histogram) => format!("Distribution of {field} over events"),
        (None, _) => String::from("Events"),
    }
}

/// Reports fields that the input events lack or that have the wrong type.
pub(crate) fn check_fields(metrics: &[Arc<Definition>], input: &[Schema]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, metric) in metrics.iter().enumerate() {
        for (place, label) in metric.labels.iter().enumerate() {
            let key = format!("metrics[{index}].labels[{place}]");
            problems.extend(fields::check(&key, &label.field, input));
        }
        if let Some(condition) = &metric.when {
            problems.extend(condition.check(input));
        }
        if let Some(field) = &metric.value {
            let key = format!("metrics[{index}].value");
            problems.extend(fields::check(&key, field, input));
            problems.extend(check_number(&key, field, input));
        }
    }
    problems
}

fn check_number(key: &str, field: &str, input: &[Schema]) -> Option<Problem> {
    let types = input.iter().filter_map(|schema| schema.find(field)).map(|(info, _)| info.ty);
    let other = if field == fields::HOST {
        Some(Type::Text)
    } else {
        types.into_iter().find(|ty| !matches!(ty, Type::Int | Type::Uint))
    };
    other.map(|ty| {
        let message = format!("`{field}` is a {}, not a number", ty.as_str());
        Problem::new(key, message).hint("name a field of type int or uint")
    })
}
