//! The page at `/metrics`: the configured metrics, Whalewatch's own metrics, and the resources of
//! the process.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use whalewatch_core::{Health, HealthReport};

use crate::accept::Format;
use crate::definition::Label;
use crate::options::Kind;
use crate::own;
use crate::series::Snapshot;
use crate::server::Page;
use crate::store::Store;

/// Copies the store and asks for a health report each time a page is written.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) store: Mutex<Store>,
    pub(crate) health: Health,
    /// Pages written so far.
    pub(crate) scrapes: AtomicU64,
}

impl Page for Metrics {
    fn write(&self, format: Format) -> Result<String, fmt::Error> {
        // The handler waits only while the numbers are copied.
        let events = self.store.lock().unwrap_or_else(PoisonError::into_inner).snapshot();
        let scrapes = self.scrapes.fetch_add(1, Relaxed) + 1;
        write(Contents { events, health: self.health.report(), scrapes }, format)
    }
}

/// The contents of a page at one moment.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) events: Vec<Snapshot>,
    pub(crate) health: HealthReport,
    pub(crate) scrapes: u64,
}

/// Writes the page.
pub(crate) fn write(contents: Contents, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(contents));
    let mut page = String::new();
    match format {
        Format::Text => prometheus_text::encode(&mut page, &registry)?,
        Format::OpenMetrics => text::encode(&mut page, &registry)?,
    }
    Ok(page)
}

impl Collector for Contents {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in &self.events {
            write_metric(&mut encoder, metric)?;
        }
        own::counting(&mut encoder, &self.events, self.scrapes)?;
        own::health(&mut encoder, &self.health)?;
        own::process(&mut encoder)
    }
}

/// Writes one configured metric.
fn write_metric(encoder: &mut DescriptorEncoder<'_>, metric: &Snapshot) -> fmt::Result {
    let definition = &*metric.definition;
    let kind = match definition.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Histogram => MetricType::Histogram,
    };
    let mut family = encoder.encode_descriptor(&definition.family, &definition.help, None, kind)?;
    let mut buckets: Vec<(f64, u64)> = Vec::new();
    for (values, numbers) in metric.rows() {
        let labels = Labels { names: &definition.labels, values };
        let mut row = family.encode_family(&labels)?;
        match numbers {
            [number] if definition.is_whole() => {
                row.encode_counter::<NoLabelSet, _, u64>(number, None)?;
            }
            [number] => {
                let scaled = *number as f64 * definition.scale;
                row.encode_counter::<NoLabelSet, _, u64>(&scaled, None)?;
            }
            [counts @ .., sum] => {
                let bounds = definition.bounds.iter().copied().chain([f64::INFINITY]);
                buckets.clear();
                buckets.extend(bounds.zip(counts.iter().copied()));
                let sum = *sum as f64 * definition.scale;
                row.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)?;
            }
            [] => {}
        }
    }
    Ok(())
}

/// The labels of a combination. A label with an empty value is the same as no label, and is left
/// out.
struct Labels<'a> {
    names: &'a [Label],
    values: &'a [Box<str>],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let pairs = self.names.iter().zip(self.values).filter(|(_, value)| !value.is_empty());
        for (label, value) in pairs {
            let mut encoder = encoder.encode_label();
            let mut key = encoder.encode_label_key()?;
            key.write_str(&label.name)?;
            let mut text = key.encode_label_value()?;
            text.write_str(value)?;
            text.finish()?;
        }
        Ok(())
    }
}
