//! The `null` handler: accepts and discards every event. It serves to measure the parts before it,
//! and to end chains of which only the statistics matter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{
    Batch, BuildError, ChainContext, Declaration, Handler, HandlerError, Never, Setup,
};

/// Options of the `null` handler, which has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NullOptions {}

/// Accepts and discards every event.
#[derive(Debug, Default)]
pub struct Null;

impl Handler for Null {
    const ABOUT: &'static str = "accepts and discards every event";
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
    use whalewatch_testing::TestEvent;

    use super::*;

    #[test]
    fn events_count_as_delivered_and_are_not_passed_on() {
        let mut hosted = Hosted::new(Null, Arc::default());
        let batch = Batch::new("t".into(), vec![TestEvent::new("test"); 3]);
        hosted.handle(ChainId::new(0), batch).unwrap();
        assert_eq!(hosted.counters().output.load(Relaxed), 3);
        assert!(hosted.outgoing.is_empty());
    }
}
