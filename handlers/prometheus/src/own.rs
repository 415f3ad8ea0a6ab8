//! Metrics that are always there: of the handler's own counting, of trackers and handlers, of the
//! process.

use std::fmt;
use std::fs;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use rustix::time::{ClockId, clock_gettime};
use whalewatch_core::{HandlerHealth, HealthReport, TrackerHealth};

use crate::series::Snapshot;

/// Writes a counter for each of `rows`: labels and number.
fn counters<const LABELS: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = ([(&'static str, String); LABELS], u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, number) in rows {
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
    }
    Ok(())
}

/// As [`counters`], for numbers that also fall.
fn gauges<const LABELS: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = ([(&'static str, String); LABELS], f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, number) in rows {
        family.encode_family(&labels)?.encode_gauge(&number)?;
    }
    Ok(())
}

/// How the counting of events goes.
pub(crate) fn counting(
    encoder: &mut DescriptorEncoder<'_>,
    metrics: &[Snapshot],
    scrapes: u64,
) -> fmt::Result {
    let by_metric = |number: fn(&Snapshot) -> u64| {
        metrics.iter().map(move |m| ([("metric", m.definition.name())], number(m)))
    };
    let float = |number: fn(&Snapshot) -> u64| {
        by_metric(number).map(|(labels, number)| (labels, number as f64))
    };
    let refused = metrics.iter().flat_map(|metric| {
        let of =
            |reason: &str| [("metric", metric.definition.name()), ("reason", reason.to_owned())];
        let tally = metric.tally;
        [(of("max_series"), tally.refused), (of("negative_value"), tally.negative)]
    });
    counters(
        encoder,
        "whalewatch_prometheus_refused_events",
        "Events that a metric did not count: it has no room for more series, or their value is below 0",
        refused,
    )?;
    counters(
        encoder,
        "whalewatch_prometheus_expired",
        "Combinations of label values that went because they had no event for long",
        by_metric(|m| m.tally.expired),
    )?;
    gauges(
        encoder,
        "whalewatch_prometheus_series",
        "Time series that a metric has",
        float(|m| m.used),
    )?;
    gauges(
        encoder,
        "whalewatch_prometheus_series_limit",
        "Time series that a metric may have",
        float(|m| m.definition.max_series),
    )?;
    let scrapes = std::iter::once(([], scrapes));
    counters(
        encoder,
        "whalewatch_prometheus_scrapes",
        "Times that this page was asked for",
        scrapes,
    )
}

/// Name, meaning, and how to get it.
type Row<H, N> = (&'static str, &'static str, fn(&H) -> N);

const TRACKER_COUNTERS: &[Row<TrackerHealth, u64>] = &[
    ("generated", "Events that happened and were to be reported", |t| t.generated),
    ("delivered", "Events that went on to handlers", |t| t.delivered),
    ("lost", "Events that the kernel could not hand over", |t| t.lost),
    ("refused", "Events that a budget refused", |t| t.refused),
    ("invalid", "Records that could not be read", |t| t.invalid),
];

const HANDLER_COUNTERS: &[Row<HandlerHealth, u64>] = &[
    ("events_in", "Events that came in", |h| h.input),
    ("events_added", "Events that the handler made itself", |h| h.added),
    ("events_out", "Events that went on or were delivered", |h| h.output),
    ("events_filtered", "Events that it was asked to leave out", |h| h.filtered),
    ("events_dropped", "Events refused for want of room or of a reader", |h| h.dropped),
    ("events_errors", "Events that an error took", |h| h.errors),
    ("restarts", "Times that the handler was started again", |h| h.restarts),
];

const HANDLER_GAUGES: &[Row<HandlerHealth, u64>] = &[
    ("queue_batches", "Batches that wait to come in", |h| h.queued),
    ("queue_limit_batches", "Batches that may wait to come in", |h| h.queue_capacity),
    ("containers", "Containers that the handler has counted events of", |h| h.containers),
];

/// How trackers and handlers are doing.
pub(crate) fn health(encoder: &mut DescriptorEncoder<'_>, report: &HealthReport) -> fmt::Result {
    for (name, help, get) in TRACKER_COUNTERS {
        let rows = report.trackers.iter().map(|t| ([("tracker", t.name.to_string())], get(t)));
        counters(encoder, &format!("whalewatch_tracker_events_{name}"), help, rows)?;
    }
    let lag = report.trackers.iter().map(|t| {
        let labels = [("tracker", t.name.to_string())];
        (labels, t.lag.as_secs_f64())
    });
    let help = "Age of the newest event when it was read";
    gauges(encoder, "whalewatch_tracker_lag_seconds", help, lag)?;
    for (name, help, get) in HANDLER_COUNTERS {
        let rows = report.handlers.iter().map(|h| ([("handler", h.name.to_string())], get(h)));
        counters(encoder, &format!("whalewatch_handler_{name}"), help, rows)?;
    }
    for (name, help, get) in HANDLER_GAUGES {
        let rows = report.handlers.iter().map(|h| {
            let labels = [("handler", h.name.to_string())];
            (labels, get(h) as f64)
        });
        gauges(encoder, &format!("whalewatch_handler_{name}"), help, rows)?;
    }
    Ok(())
}

/// What this process uses, under the names that every Prometheus client gives it, and what it is.
pub(crate) fn process(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32);
    let help = "Processor time used, in user space and in the kernel";
    let mut family =
        encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
    family.encode_counter::<NoLabelSet, _, u64>(&used.as_secs_f64(), None)?;
    if let Some(bytes) = resident_bytes() {
        let rows = std::iter::once(([], bytes as f64));
        gauges(encoder, "process_resident_memory_bytes", "Memory in use", rows)?;
    }
    let help = "Version of Whalewatch";
    let mut family = encoder.encode_descriptor("whalewatch_build", help, None, MetricType::Info)?;
    family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
}

/// Memory in use; `None` where /proc does not say.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
