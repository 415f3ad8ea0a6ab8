//! Events of different trackers are sorted by time.

use std::time::Duration;

use proptest::prelude::*;
use whalewatch_core::{ChainId, Timestamp};

use super::event::{AnyEvent, batches};
use super::*;
use crate::order::{Order, Origin};

const SEQUENCE: &str = r#"
    [[rules]]
    name = "drop"
    within = "5s"
    steps = [{ name = "write", when = "kind == 'file.open'" }, { when = "kind == 'process.exec' && parent.comm == 'x'" }]
"#;

const EVENTS: &str = r#"
    { kind = "process.existing", pid = 1, comm = "init" }
    { kind = "process.fork", pid = 9, ppid = 1, comm = "x" }
    { kind = "file.open", pid = 5, "file.path" = "/a" }
    { kind = "process.fork", pid = 6, ppid = 9, comm = "x" }
    { kind = "process.exec", pid = 6, ppid = 9, comm = "y" }
    { kind = "process.exit", pid = 9, ppid = 1, comm = "x" }
"#;

/// Delivers batches in another order than that of their times. Returns the number of alerts.
fn shuffled(order: &[usize], window: &str) -> usize {
    let options = only(&format!("order = '{window}'\n{SEQUENCE}"));
    let mut bench = Bench::<Rules>::new::<AnyEvent>(&options).expect("valid options");
    let lines = lines(EVENTS);
    let batches = batches(&lines);
    for &i in order {
        if lines[i].is_of_process() {
            bench.observe(&batches[i]).expect("handler observes");
        }
        if !lines[i].existed() {
            bench.handle(batches[i].clone()).expect("handler takes it");
        }
    }
    bench.end().expect("handler ends");
    assert!(bench.adds_up());
    alerts(&bench).len()
}

#[test]
fn events_late_within_the_window_are_sorted() {
    assert_eq!(shuffled(&[0, 1, 2, 3, 4, 5], "0s"), 1);
    assert_eq!(shuffled(&[0, 1, 3, 4, 5, 2], "0s"), 0, "the write comes after the exec");
}

#[test]
fn quiet_chain_alerts_after_the_window() {
    let options = only("[[rules]]\nname = 'a'\nwhen = \"kind == 'file.open'\"");
    let mut bench = Bench::<Rules>::new::<AnyEvent>(&options).expect("valid options");
    deliver(&mut bench, &lines(r#"{ kind = "file.open", pid = 5 }"#));
    assert_eq!(alerts(&bench).len(), 0);
    // The first tick marks the waiting events, the second releases them: they wait at least one
    // window and at most two.
    bench.advance(Duration::from_secs(2)).expect("handler ticks");
    assert_eq!(alerts(&bench).len(), 1);
    assert_eq!(bench.count(|c| &c.filtered), 1);
}

/// Batches of events at these times, each in its own order. Returns the times in the order of
/// release.
fn passed(order: &mut Order, until: u64) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(run) = order.next(Timestamp(until)) {
        let of = |i: usize| run.batch.get(i).expect("an event").time().0;
        times.extend(run.events.clone().map(of));
        order.done(run);
    }
    times
}

#[test]
fn events_beyond_the_limit_are_released_at_once() {
    let mut order = Order::new(Duration::from_secs(1), 256);
    let text = vec![r#"{ kind = "file.open", pid = 5 }"#; 300].join("\n");
    for batch in batches(&lines(&text)) {
        order.push(batch, Origin::Chain(ChainId::new(0)));
    }
    assert_eq!(passed(&mut order, 0).len(), 44);
    assert_eq!((order.len(), order.early), (256, 44));
}

proptest! {
    #[test]
    fn alerts_are_the_same_in_any_order_of_arrival(
        order in Just([0, 1, 2, 3, 4, 5]).prop_shuffle(),
    ) {
        prop_assert_eq!(shuffled(&order, "100ms"), 1);
    }

    #[test]
    fn all_events_are_released_once_and_in_order(
        batches in prop::collection::vec(
            (prop::collection::vec(0_u64..1000, 1..20), any::<bool>()),
            1..20,
        ),
    ) {
        let mut order = Order::new(Duration::from_secs(1), 1_000_000);
        let mut all = Vec::new();
        for (mut times, chain) in batches {
            times.sort_unstable();
            all.extend(times.iter().copied());
            let origin = if chain { Origin::Chain(ChainId::new(0)) } else { Origin::Observed };
            order.push(at(&times), origin);
        }
        all.sort_unstable();
        let middle = all[all.len() / 2];
        let mut out = passed(&mut order, middle);
        prop_assert!(out.iter().all(|time| *time <= middle));
        out.extend(passed(&mut order, u64::MAX));
        prop_assert_eq!(out, all);
        prop_assert_eq!((order.len(), order.late), (0, 0));
    }
}

fn at(times: &[u64]) -> Batch {
    let template = lines(r#"{ kind = "file.open", pid = 5 }"#).remove(0);
    let events = times.iter().map(|time| template.event(Timestamp(*time)));
    Batch::new("t".into(), events.collect())
}
