//! The metrics that are always served: about the handler's counting, about trackers and handlers,
//! and about the process.

use std::fmt;
use std::fs;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use rustix::time::{ClockId, clock_gettime};
use whalewatch_core::{HandlerHealth, HealthReport, TrackerHealth};

use crate::series::Snapshot;

/// Writes a counter with a sample for each of `rows`: labels and number.
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

/// Like [`counters`], for numbers that can decrease.
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

/// Writes the metrics about the counting of events.
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
        "Events that a metric did not count, because of max_series or a negative value",
        refused,
    )?;
    counters(
        encoder,
        "whalewatch_prometheus_expired",
        "Combinations of label values that expired",
        by_metric(|m| m.tally.expired),
    )?;
    gauges(encoder, "whalewatch_prometheus_series", "Time series of a metric", float(|m| m.used))?;
    gauges(
        encoder,
        "whalewatch_prometheus_series_limit",
        "Maximum number of time series of a metric",
        float(|m| m.definition.max_series),
    )?;
    let scrapes = std::iter::once(([], scrapes));
    counters(
        encoder,
        "whalewatch_prometheus_scrapes",
        "Number of times that this page was written",
        scrapes,
    )
}

/// Name, help text, and how to read the number.
type Row<H, N> = (&'static str, &'static str, fn(&H) -> N);

const TRACKER_COUNTERS: &[Row<TrackerHealth, u64>] = &[
    ("generated", "Events that the tracker should have reported", |t| t.generated),
    ("delivered", "Events passed to handlers", |t| t.delivered),
    ("lost", "Events lost in the kernel because there was no room for them", |t| t.lost),
    ("refused", "Events refused by a budget", |t| t.refused),
    ("invalid", "Records that could not be read", |t| t.invalid),
];

const HANDLER_COUNTERS: &[Row<HandlerHealth, u64>] = &[
    ("events_in", "Events received", |h| h.input),
    ("events_added", "Events added by the handler", |h| h.added),
    ("events_out", "Events passed on or delivered", |h| h.output),
    ("events_filtered", "Events left out as configured", |h| h.filtered),
    ("events_dropped", "Events dropped because a queue was full or nothing could take them", |h| {
        h.dropped
    }),
    ("events_errors", "Events lost to an error", |h| h.errors),
    ("restarts", "Restarts of the handler", |h| h.restarts),
];

const HANDLER_GAUGES: &[Row<HandlerHealth, u64>] = &[
    ("queue_batches", "Batches waiting for the handler", |h| h.queued),
    ("queue_limit_batches", "Maximum number of batches waiting for the handler", |h| {
        h.queue_capacity
    }),
    ("containers", "Containers for which the handler has counted events", |h| h.containers),
];

/// Writes the metrics of trackers and handlers.
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

/// Writes the resources of this process, under the names that every Prometheus client uses, and the
/// program's version.
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

/// Memory in use, in bytes; `None` if /proc does not contain it.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
