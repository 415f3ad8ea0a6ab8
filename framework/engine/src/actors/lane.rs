//! The ways into and out of a stage: a lane for each chain, and a feed for each tracker that its
//! handler observes.

use std::sync::Arc;

use actix::{Message, Recipient};
use flume::r#async::RecvStream;
use whalewatch_core::{Batch, ChainId};

use super::output::Output;
use super::tracker::{OutputId, TrackerCommand, TrackerCounters};
use crate::queue::QueueSender;

/// A lane to be added to a stage: one chain's way through its handler.
pub(crate) struct NewLane {
    pub(crate) chain: ChainId,
    pub(crate) from: flume::Receiver<Batch>,
    /// `None` at the end of the chain.
    pub(crate) to: Option<QueueSender>,
    /// The trackers that the chain's events come from.
    pub(crate) trackers: Vec<Arc<TrackerCounters>>,
}

/// A feed to be added to a stage: the batches of a tracker that its handler observes.
pub(crate) struct NewFeed {
    pub(crate) from: flume::Receiver<Batch>,
    /// Which of the tracker's outputs this is.
    pub(crate) id: OutputId,
    pub(crate) counters: Arc<TrackerCounters>,
}

/// A command for a running stage.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum StageCommand {
    /// The tracker of a feed is there, and can be asked for what existed before it watched.
    Introduce { feed: OutputId, tracker: Recipient<TrackerCommand> },
    /// A reload is about to add lanes: do not end when the last lane does.
    ExpectLanes,
    /// Add these lanes and feeds, and end with the last lane again.
    Join { lanes: Vec<NewLane>, feeds: Vec<NewFeed> },
}

/// One chain's way through a handler.
pub(super) struct Lane {
    pub(super) chain: ChainId,
    /// `None` once the chain's input has ended.
    pub(super) from: Option<RecvStream<'static, Batch>>,
    pub(super) to: Option<Output>,
    /// Whether the handler is the end of the chain.
    pub(super) last: bool,
    /// Whether the output has no room, so that events that the handler makes by itself are dropped.
    pub(super) full: bool,
    pub(super) trackers: Vec<Arc<TrackerCounters>>,
}

impl Lane {
    pub(super) fn new(new: NewLane) -> Self {
        Self {
            chain: new.chain,
            from: Some(new.from.into_stream()),
            last: new.to.is_none(),
            to: new.to.map(Output::new),
            full: false,
            trackers: new.trackers,
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Whether events that happened a while ago may still arrive by this lane.
    pub(super) fn behind(&self) -> bool {
        self.from.as_ref().is_some_and(|from| !from.is_empty())
            || self.to.as_ref().is_some_and(|to| to.waiting() > 0)
            || (self.from.is_some() && self.trackers.iter().any(|tracker| tracker.behind()))
    }
}

/// The batches of a tracker that the handler observes.
pub(super) struct Feed {
    pub(super) from: RecvStream<'static, Batch>,
    pub(super) ended: bool,
    pub(super) id: OutputId,
    pub(super) counters: Arc<TrackerCounters>,
    pub(super) tracker: Option<Recipient<TrackerCommand>>,
}

impl Feed {
    pub(super) fn new(new: NewFeed) -> Self {
        Self {
            from: new.from.into_stream(),
            ended: false,
            id: new.id,
            counters: new.counters,
            tracker: None,
        }
    }

    pub(super) fn behind(&self) -> bool {
        !self.ended && (!self.from.is_empty() || self.counters.behind())
    }
}
