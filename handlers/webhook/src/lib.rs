//! The `webhook` handler: sends one HTTP request for each event. It is meant for alerts and other
//! rare events.
//!
//! The handler writes the bodies; a helper thread sends them one after another, at a limited rate.
//! An event counts as delivered when the receiver has answered with success. A slow or broken
//! receiver never blocks the chain: events that find a full queue are dropped and counted.

use bytes::Bytes;
use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Problem, Schema, Setup,
};
use whalewatch_net::{Delivery, headers};

mod body;
mod client;
mod options;
#[cfg(test)]
mod tests;

use body::Bodies;
use client::Plan;
pub use options::{Verb, WebhookOptions};

/// Sends an HTTP request for each event.
#[derive(Debug)]
pub struct Webhook {
    bodies: Bodies,
    delivery: Delivery<Bytes>,
}

/// A message from the helper thread: a request was answered or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered;

impl Handler for Webhook {
    const ABOUT: &'static str = "sends an HTTP request for each event, such as an alert";
    type Options = WebhookOptions;
    type Message = Answered;
    // Shared: the limits that spare the receiver apply to all chains together.
    // Blocking: at the end it waits for the events that are still queued.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &WebhookOptions, input: &[Schema]) -> Vec<Problem> {
        options.check(input)
    }

    fn build(options: &WebhookOptions, setup: &Setup<Answered>) -> Result<Self, BuildError> {
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
            || Answered,
            |jobs| client::work(plan, jobs),
        )?;
        Ok(Self { bodies: Bodies::new(parsed.body, parsed.json, &setup.host_name), delivery })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Answered>,
    ) -> Result<(), HandlerError> {
        self.delivery.settle(cx)?;
        let plan = self.bodies.plan(&batch);
        let mut events = batch.iter();
        while self.delivery.has_room(1) {
            let Some(event) = events.next() else { return Ok(()) };
            let body = self.bodies.write(plan, event);
            self.delivery.offer(body.into(), 1, cx);
        }
        // There is no room for the rest, so their bodies need not be written.
        self.delivery.refuse(events.len() as u64, cx);
        Ok(())
    }

    fn message(&mut self, _: Answered, cx: &mut Context<'_, Answered>) -> Result<(), HandlerError> {
        self.delivery.settle(cx)
    }
}

impl Lifecycle for Webhook {
    fn finish(&mut self, cx: &mut Context<'_, Answered>) -> Result<(), HandlerError> {
        self.delivery.finish(cx)
    }
}
