//! The `webhook` handler: one HTTP request for each event, meant for alerts and whatever else is
//! rare.
//!
//! Bodies are made as events come; a thread of the handler's own sends them one after another, not
//! faster than it is told to. An event counts as delivered when the receiver has answered that it
//! has it. Nothing that the receiver does or leaves undone holds up the chain: what finds no room
//! in the queue is dropped and counted.

use bytes::Bytes;
use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Problem, Schema, Setup,
};
use whalewatch_kit::net::{Delivery, headers};

mod body;
mod client;
mod options;
#[cfg(test)]
mod tests;

use body::Bodies;
use client::Plan;
pub use options::{Verb, WebhookOptions};

/// Sends a request for each event.
#[derive(Debug)]
pub struct Webhook {
    bodies: Bodies,
    delivery: Delivery<Bytes>,
}

/// The message of the [`Webhook`] handler to itself: the receiver answered, or was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered;

impl Handler for Webhook {
    const ABOUT: &'static str = "sends an HTTP request for each event: for alerts";
    type Options = WebhookOptions;
    type Message = Answered;
    // One receiver to be spared, whichever chains name it.
    // At the end it waits for what is still to be sent.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &WebhookOptions, input: &[Schema]) -> Vec<Problem> {
        options.check(input)
    }

    fn build(options: &WebhookOptions, setup: &Setup<Answered>) -> Result<Self, BuildError> {
        let read = options.read().map_err(|problem| BuildError(problem.message))?;
        let https = read.uri.scheme_str() == Some("https");
        let plan = Plan {
            handler: setup.name.to_string(),
            options: options.clone(),
            uri: read.uri,
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
        Ok(Self { bodies: Bodies::new(read.body, read.json, &setup.host_name), delivery })
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
        // Not worth being written first.
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
