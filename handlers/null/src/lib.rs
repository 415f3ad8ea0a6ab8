//! The `null` handler: takes every event and does nothing with it. For measuring what stands before
//! it, and for chains that are watched only for their statistics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{
    Batch, BuildError, ChainContext, Declaration, Handler, HandlerError, Never, Setup,
};

/// Options of the `null` handler: it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NullOptions {}

/// Takes every event and does nothing with it.
#[derive(Debug, Default)]
pub struct Null;

impl Handler for Null {
    const ABOUT: &'static str = "takes every event and does nothing with it";
    type Options = NullOptions;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output();

    fn build(_: &NullOptions, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        cx.delivered(batch.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use whalewatch_core::{ChainId, Hosted};
    use whalewatch_kit::testing::TestEvent;

    use super::*;

    #[test]
    fn every_event_is_counted_as_delivered_and_none_goes_on() {
        let mut hosted = Hosted::new(Null, Arc::default());
        let batch = Batch::new("t".into(), vec![TestEvent::new("test"); 3]);
        hosted.handle(ChainId::new(0), batch).unwrap();
        assert_eq!(hosted.counters().output.load(Relaxed), 3);
        assert!(hosted.outgoing.is_empty());
    }
}
