//! The `prometheus` handler: counters and histograms of events by chosen labels, and how Whalewatch
//! itself is doing, for Prometheus to scrape.
//!
//! It looks at events and passes them on as they are, so it can stand anywhere in a chain, at the
//! end too. The handler counts on its own thread under a lock that the server, which has a thread
//! of its own, takes only to copy the numbers: a scraper, however slow, holds up no event.
//!
//! Both text formats are written by `prometheus-client`. Its metric types are not used: a label set
//! would have to be made for each event only to look it up, and there is no cap and no end to the
//! series that it keeps.

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
    /// Time between two sweeps.
    sweep: Duration,
    sweeping: bool,
    server: Server,
}

/// What comes to the handler by itself.
#[derive(Debug)]
pub enum Message {
    /// It is time to let series go that are long without an event.
    Sweep,
}

impl Prometheus {
    /// Where it serves, for who had it choose the port.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The page that `/metrics` shows, in Prometheus' own text format.
    ///
    /// # Errors
    /// Never, but the library that writes it could.
    pub fn page(&self) -> Result<String, fmt::Error> {
        self.metrics.write(Format::Text)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.metrics.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Prometheus {
    const ABOUT: &'static str =
        "counts events for Prometheus to scrape, and tells how Whalewatch is doing";
    type Options = PrometheusOptions;
    type Message = Message;
    // There is one port, and one set of numbers behind it.
    // It fails only on events that were not there to be checked against, and would do so again.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().passive().on_failure(OnFailure::Stop);

    fn check(options: &PrometheusOptions, input: &[Schema]) -> Vec<Problem> {
        let mut checked = definition::read(options);
        checked.problems.extend(definition::check_fields(&checked.metrics, input));
        checked.problems
    }

    fn build(options: &PrometheusOptions, setup: &Setup<Message>) -> Result<Self, BuildError> {
        let Checked { listen: Some(listen), metrics, problems } = definition::read(options) else {
            return Err(BuildError(format!("\"{}\" is no address with a port", options.listen)));
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
                "there is no room for more series: events with label values that are new are not counted; \
                 raise max_series, lower expire, or choose labels with fewer values"
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
        let room = store.newly_roomy();
        drop(store);
        for metric in room {
            tracing::warn!(handler = %self.name, metric, "every event is counted again");
        }
        cx.after(self.sweep, Message::Sweep);
        Ok(())
    }
}
