//! The `otlp` handler: sends events as OpenTelemetry logs to a collector or any other OTLP
//! receiver, over gRPC or HTTP.
//!
//! Each event becomes one log record, whose attributes are the fields of the event. The records of
//! one container share a resource, named by the semantic conventions. The handler writes records
//! directly as Protocol Buffers. A separate thread sends them, and an event counts as delivered
//! when the receiver has confirmed it.

use std::time::{SystemTime, UNIX_EPOCH};

use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Problem, Schema, Setup,
};
use whalewatch_net::{Delivery, headers};

mod answer;
mod client;
mod groups;
mod grpc;
mod http;
mod options;
mod record;
mod severity;
#[cfg(test)]
mod tests;
mod wire;

use client::{Job, Plan};
use groups::Groups;
pub use options::{Compression, OtlpOptions, Protocol};

/// The size at which a request is sent, in bytes. Many receivers refuse more than 4 MiB.
const REQUEST_BYTES: usize = 2 * 1024 * 1024;

/// Sends events to an OTLP receiver.
#[derive(Debug)]
pub struct Otlp {
    groups: Groups,
    delivery: Delivery<Job>,
    options: OtlpOptions,
    /// The number of requests handed over so far. It identifies the request that a timer is for.
    requests: u64,
    /// Whether a timer is set for the next request.
    timed: bool,
}

/// Messages to the [`Otlp`] handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The receiver has answered a request, or the request was given up.
    Answered,
    /// The request with this number has waited for the interval.
    Due(u64),
}

impl Otlp {
    /// Hands over the next request.
    fn send(&mut self, cx: &Context<'_, Message>) {
        hand_over(&mut self.groups, &mut self.delivery, cx);
        self.requests += 1;
        self.timed = false;
    }
}

/// Hands over a request with all events in `groups`, if there are any.
fn hand_over(groups: &mut Groups, delivery: &mut Delivery<Job>, cx: &Context<'_, Message>) {
    let events = groups.events();
    if events > 0 {
        delivery.offer(Job { body: groups.request(), events }, events, cx);
    }
}

impl Handler for Otlp {
    const ABOUT: &'static str =
        "sends events as OpenTelemetry logs to a collector, over gRPC or HTTP";
    type Options = OtlpOptions;
    type Message = Message;
    // Shared: one connection to one receiver for all chains that name the handler.
    // Blocking: at the end, the handler waits for the remaining requests.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &OtlpOptions, input: &[Schema]) -> Vec<Problem> {
        options.check(input)
    }

    fn build(options: &OtlpOptions, setup: &Setup<Message>) -> Result<Self, BuildError> {
        let parsed = options.parse().map_err(|problem| BuildError(problem.message))?;
        let https = parsed.uri.scheme_str() == Some("https");
        let plan = Plan {
            handler: setup.name.to_string(),
            options: options.clone(),
            uri: parsed.uri,
            headers: headers::read(&options.headers).map_err(BuildError)?,
            tls: options.tls.config(https).map_err(BuildError)?,
        };
        let delivery = Delivery::start(
            setup,
            options.max_queued as usize,
            options.stop_timeout.0,
            || Message::Answered,
            |jobs| client::work(plan, jobs),
        )?;
        let name_attribute = options.event_name_attribute;
        let groups = Groups::new(&setup.host_name, &options.resource, parsed.body, name_attribute);
        Ok(Self { groups, delivery, options: options.clone(), requests: 0, timed: false })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Message>,
    ) -> Result<(), HandlerError> {
        let most = u64::from(self.options.batch);
        let (delivery, mut sent) = (&mut self.delivery, 0);
        self.groups.add(&batch, now(), |groups| {
            if groups.events() >= most || groups.bytes() >= REQUEST_BYTES {
                hand_over(groups, delivery, cx);
                sent += 1;
            }
        });
        if sent > 0 {
            self.requests += sent;
            self.timed = false;
        }
        if self.groups.events() > 0 && !self.timed {
            self.timed = true;
            cx.after(self.options.interval.0, Message::Due(self.requests));
        }
        self.delivery.settle(cx)
    }

    fn message(
        &mut self,
        message: Message,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        if message == Message::Due(self.requests) {
            self.send(cx);
        }
        self.delivery.settle(cx)
    }
}

impl Lifecycle for Otlp {
    fn finish(&mut self, cx: &mut Context<'_, Message>) -> Result<(), HandlerError> {
        self.send(cx);
        self.delivery.finish(cx)
    }
}

/// Returns the time in nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
