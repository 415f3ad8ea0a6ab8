//! The `prometheus` handler: serves counters and histograms of events, and metrics of Whalewatch
//! itself, to Prometheus.
//!
//! The handler passes events on unchanged, so it can be anywhere in a chain, also at the end. It
//! counts on its own thread. The server has another thread and takes the lock only to copy the
//! numbers, so a slow scraper never blocks an event.
//!
//! `prometheus-client` writes both text formats. Its metric types are not used: they would build a
//! label set for each event only to look it up, and they neither limit nor expire series.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, OnFailure,
    Problem, Schema, Setup,
};

mod accept;
mod definition;
mod label;
mod options;
mod own;
mod page;
mod series;
mod server;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use options::{Kind, LabelOption, MetricOptions, PrometheusOptions};

use accept::Format;
use definition::Checked;
use page::Metrics;
use series::SWEEPS;
use server::{Limits, Page, Server};
use store::Store;

/// Counts events for Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    name: Arc<str>,
    metrics: Arc<Metrics>,
    /// Time between two sweeps for expired series.
    sweep: Duration,
    sweeping: bool,
    server: Server,
}

/// The messages of the handler's timer.
#[derive(Debug)]
pub enum Message {
    /// Remove the series that had no event for [`PrometheusOptions::expire`].
    Sweep,
}

impl Prometheus {
    /// The address that the server listens on. It has the real port if the options have port 0.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the page at `/metrics`, in the text format of Prometheus.
    ///
    /// # Errors
    /// If the page cannot be written, which is not expected to happen.
    pub fn page(&self) -> Result<String, fmt::Error> {
        self.metrics.write(Format::Text)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.metrics.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Prometheus {
    const ABOUT: &'static str =
        "counts events, and serves the counts and Whalewatch's own metrics to Prometheus";
    type Options = PrometheusOptions;
    type Message = Message;
    // Shared, because there is one port and one set of numbers. A failure stops the run:
    // it means events of a type that could not be checked before, so a restart would not help.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().passive().on_failure(OnFailure::Stop);

    fn check(options: &PrometheusOptions, input: &[Schema]) -> Vec<Problem> {
        let mut checked = definition::read(options);
        checked.problems.extend(definition::check_fields(&checked.metrics, input));
        checked.problems
    }

    fn build(options: &PrometheusOptions, setup: &Setup<Message>) -> Result<Self, BuildError> {
        let Checked { listen: Some(listen), metrics, problems } = definition::read(options) else {
            return Err(BuildError(format!(
                "\"{}\" is not an IP address with a port",
                options.listen
            )));
        };
        if !problems.is_empty() {
            let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            return Err(BuildError(messages.join("; ")));
        }
        let store = Store::new(&metrics, options.max_series, &setup.host_name);
        let metrics = Arc::new(Metrics {
            store: Mutex::new(store),
            health: setup.health.clone(),
            scrapes: AtomicU64::new(0),
        });
        let page: Arc<dyn Page> = Arc::clone(&metrics) as _;
        let server = Server::start(listen, page, Limits::default())?;
        tracing::info!(handler = %setup.name, "serving http://{}/metrics", server.address());
        Ok(Self {
            name: Arc::clone(&setup.name),
            metrics,
            sweep: options.expire.0 / SWEEPS,
            sweeping: false,
            server,
        })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Message>,
    ) -> Result<(), HandlerError> {
        if !std::mem::replace(&mut self.sweeping, true) {
            cx.after(self.sweep, Message::Sweep);
        }
        let mut store = self.store();
        let counted = store.count(&batch);
        let full = store.newly_full();
        drop(store);
        for metric in full {
            tracing::warn!(
                handler = %self.name, metric,
                "max_series is reached, events with new label values are not counted: raise \
                 max_series, lower expire, or choose labels with fewer values"
            );
        }
        counted.map_err(|message| HandlerError::Failed { message, source: None })?;
        cx.emit(batch);
        Ok(())
    }

    fn message(
        &mut self,
        message: Message,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        let Message::Sweep = message;
        let mut store = self.store();
        store.sweep();
        let room = store.no_longer_full();
        drop(store);
        for metric in room {
            tracing::warn!(
                handler = %self.name, metric,
                "there is room for new series, every event is counted again"
            );
        }
        cx.after(self.sweep, Message::Sweep);
        Ok(())
    }
}
