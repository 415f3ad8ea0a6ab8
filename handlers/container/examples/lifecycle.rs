//! Prints the containers that come and go, as the container manager reports them. Needs no tracker,
//! and no privileges beyond Docker's socket.
//!
//! `cargo run -p whalewatch-container --example lifecycle -- unix:///var/run/docker.sock`
//!
//! It is also the smallest host for a handler: a mailbox, timers, and an output.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_container::{ContainerManager, ContainerOptions, Message};
use whalewatch_core::{ChainId, Hosted, Mailbox, Setup};

fn main() {
    let options =
        ContainerOptions { endpoint: std::env::args().nth(1), ..ContainerOptions::default() };
    actix::System::new().block_on(host(options));
}

async fn host(options: ContainerOptions) {
    let (sender, mut mailbox) = tokio::sync::mpsc::unbounded_channel::<Message>();
    let deliver = sender.clone();
    // Messages to a handler that has ended are dropped.
    let to_handler = Mailbox::new(move |message| deliver.send(message).unwrap_or_default());
    let mut setup = Setup::new("container", "here", to_handler);
    setup.chains = vec![ChainId::new(0)];
    let built = Hosted::<ContainerManager>::build(&options, &setup, Arc::default());
    let mut manager = built.expect("the manager can be built");
    while let Some(message) = mailbox.recv().await {
        manager.message(message, false).expect("the manager does not fail");
        for (_, batch) in manager.outgoing.drain(..) {
            for event in batch.iter() {
                println!("{} {:?}", event.kind(), event.attribution());
            }
        }
        for (after, message) in manager.timers.drain(..) {
            later(&sender, after, message);
        }
    }
}

fn later(sender: &tokio::sync::mpsc::UnboundedSender<Message>, after: Duration, message: Message) {
    let sender = sender.clone();
    actix::spawn(async move {
        tokio::time::sleep(after).await;
        sender.send(message).unwrap_or_default();
    });
}
