//! The ways into and out of a stage: a lane for each chain, a feed for each tracker that its
//! handler needs.

use std::sync::Arc;

use actix::{Message, Recipient};
use flume::r#async::RecvStream;
use whalewatch_core::{Batch, ChainId};

use super::outlet::Outlet;
use super::tracker::{LinkId, SendExisting, TrackerCounters};
use crate::queue::Inlet;

/// One chain through a handler.
pub(crate) struct LaneSetup {
    pub(crate) chain: ChainId,
    pub(crate) from: flume::Receiver<Batch>,
    /// None at the end of a chain.
    pub(crate) to: Option<Inlet>,
    /// Those that the chain's events come from.
    pub(crate) trackers: Vec<Arc<TrackerCounters>>,
}

/// A tracker that the handler needs.
pub(crate) struct FeedSetup {
    pub(crate) from: flume::Receiver<Batch>,
    /// Which of the tracker's links this is.
    pub(crate) link: LinkId,
    pub(crate) counters: Arc<TrackerCounters>,
}

/// Tells a stage whom to ask for what existed before, once the trackers are there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FeedFrom {
    pub(crate) feed: LinkId,
    pub(crate) tracker: Recipient<SendExisting>,
}

/// Puts a handler that runs into other chains.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Attach {
    /// Others are on their way: do not end when the last lane does.
    Wait,
    /// Here they are.
    To { lanes: Vec<LaneSetup>, feeds: Vec<FeedSetup> },
}

/// A chain through a handler while it runs.
pub(super) struct Lane {
    pub(super) chain: ChainId,
    pub(super) from: Option<RecvStream<'static, Batch>>,
    pub(super) to: Option<Outlet>,
    /// Whether the handler is the end of the chain.
    pub(super) last: bool,
    /// Whether so much is in line that what the handler makes by itself is refused.
    pub(super) full: bool,
    pub(super) trackers: Vec<Arc<TrackerCounters>>,
}

impl Lane {
    pub(super) fn new(setup: LaneSetup) -> Self {
        Self {
            chain: setup.chain,
            from: Some(setup.from.into_stream()),
            last: setup.to.is_none(),
            to: setup.to.map(Outlet::new),
            full: false,
            trackers: setup.trackers,
        }
    }

    pub(super) fn ended(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Whether events that happened a while ago may still be on their way by it.
    pub(super) fn behind(&self) -> bool {
        self.from.as_ref().is_some_and(|from| !from.is_empty())
            || self.to.as_ref().is_some_and(|to| to.waiting() > 0)
            || (self.from.is_some() && self.trackers.iter().any(|tracker| tracker.behind()))
    }
}

/// What comes from a tracker that the handler needs.
pub(super) struct Feed {
    pub(super) from: RecvStream<'static, Batch>,
    pub(super) ended: bool,
    pub(super) link: LinkId,
    pub(super) counters: Arc<TrackerCounters>,
    pub(super) tracker: Option<Recipient<SendExisting>>,
}

impl Feed {
    pub(super) fn new(setup: FeedSetup) -> Self {
        Self {
            from: setup.from.into_stream(),
            ended: false,
            link: setup.link,
            counters: setup.counters,
            tracker: None,
        }
    }

    pub(super) fn behind(&self) -> bool {
        !self.ended && (!self.from.is_empty() || self.counters.behind())
    }
}
