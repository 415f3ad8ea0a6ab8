//! Prints the containers that come and go, as the container manager reports them. Needs no tracker,
//! and no privileges beyond Docker's socket.
//!
//! `cargo run -p whalewatch-container --example lifecycle -- unix:///var/run/docker.sock`
//!
//! It is also the smallest host for a handler: a mailbox, timers, and a context for each call.

use std::time::Duration;

use whalewatch_container::{ContainerManager, ContainerOptions, Message};
use whalewatch_core::{ChainId, Context, Directory, Handler, HandlerCounters, Mailbox, Setup};

fn main() {
    let options =
        ContainerOptions { endpoint: std::env::args().nth(1), ..ContainerOptions::default() };
    actix::System::new().block_on(host(options));
}

async fn host(options: ContainerOptions) {
    let (sender, mut mailbox) = tokio::sync::mpsc::unbounded_channel::<Message>();
    let deliver = sender.clone();
    let setup = Setup {
        name: "container".into(),
        host_name: "here".into(),
        // A handler that has ended takes no more messages.
        mailbox: Mailbox::new(move |message| deliver.send(message).unwrap_or_default()),
        directory: Directory::default(),
        health: whalewatch_core::Health::default(),
        outside: whalewatch_core::Outside::default(),
        ahead: whalewatch_core::Ahead::default(),
        chains: vec![ChainId(0)],
    };
    let mut manager = ContainerManager::build(&options, &setup).expect("the manager is built");
    let counters = HandlerCounters::default();
    while let Some(message) = mailbox.recv().await {
        let (mut outgoing, mut timers) = (Vec::new(), Vec::new());
        let mut cx = Context::new(ChainId(0), &counters, &mut outgoing, &mut timers);
        manager.message(message, &mut cx).expect("the manager does not fail");
        for event in outgoing.iter().flat_map(|(_, batch)| batch.iter()) {
            println!("{} {:?}", event.kind(), event.attribution());
        }
        for (after, message) in timers {
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
