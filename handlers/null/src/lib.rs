//! The `null` handler: takes every event and does nothing with it. For measuring what stands before
//! it, and for chains that are watched only for their statistics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, BuildError, Context, Handler, HandlerError, Never, Setup};

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

    const OUTPUT: bool = true;

    fn build(_: &NullOptions, _: &Setup<Never>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut Context<'_, Never>) -> Result<(), HandlerError> {
        cx.delivered(batch.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use whalewatch_core::{ChainId, Event, Field, HandlerCounters, Process, Timestamp};

    use super::*;

    #[derive(Clone)]
    struct Tick;

    impl Event for Tick {
        const NAME: &'static str = "tick";
        const KINDS: &'static [&'static str] = &["tick"];
        const FIELDS: &'static [Field<Self>] = &[];

        fn kind(&self) -> &'static str {
            "tick"
        }

        fn time(&self) -> Timestamp {
            Timestamp(0)
        }

        fn process(&self) -> Option<&Process> {
            None
        }
    }

    #[test]
    fn every_event_is_counted_as_delivered_and_none_goes_on() {
        let counters = HandlerCounters::default();
        let (mut outgoing, mut timers) = (Vec::new(), Vec::new());
        let mut cx = Context::new(ChainId(0), &counters, &mut outgoing, &mut timers);
        Null.handle(Batch::new("ticks".into(), vec![Tick, Tick, Tick]), &mut cx).unwrap();
        assert_eq!(counters.output.load(Relaxed), 3);
        assert!(outgoing.is_empty());
    }
}
