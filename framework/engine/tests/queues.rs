//! Queues: what becomes of events when a handler is slower than what comes to it.

mod common;

use common::{await_note, note, notes, run_with};
use whalewatch_engine::{Control, Totals};

/// A chain with a handler that blocks until it is let go, beside one that goes on; the second has
/// to see all of its events while the first is blocked.
fn run(name: &str, queue: &str) -> Totals {
    let (slow, out) = (format!("{name}-slow"), format!("{name}-out"));
    let text = format!(
        "
        [handlers.slow]
        type = 'block'
        note = '{slow}'
        {queue}
        [handlers.out]
        type = 'collect'
        note = '{out}'
        [[chains]]
        from = ['many']
        through = ['slow']
        [[chains]]
        from = ['many']
        through = ['out']
        "
    );
    let (_, totals) = run_with(&text, move |controller| {
        await_note(&slow, "blocked");
        await_note(&out, "99999");
        note(&slow, "go");
        controller.send(Control::Stop).unwrap();
    })
    .unwrap();
    assert!(totals.add_up(), "{totals}");
    assert_eq!(totals.handlers["out"].output, 100_000, "the other chain loses nothing");
    assert_eq!(totals.handlers["slow"].input, 100_000, "what is dropped has come, too");
    totals
}

#[test]
fn a_chain_that_waits_stalls_no_other_that_the_same_tracker_serves() {
    let totals = run("wait", "");
    let slow = &totals.handlers["slow"];
    // One batch is with the handler, 64 are in its queue, and 16,384 events are in line for that.
    let room = 65 * 256 + 16_384 + 256;
    assert!(slow.dropped > 0 && slow.dropped >= 100_000 - room, "{totals}");
    assert_eq!(slow.dropped_by_cgroup.values().sum::<u64>(), slow.dropped, "{totals:?}");
}

#[test]
fn drop_newest_keeps_what_came_first() {
    let totals = run("newest", "when_full = 'drop_newest'\nqueue = 2");
    let slow = &totals.handlers["slow"];
    assert!(slow.output <= 3 * 256, "one batch is with it, two are in its queue: {totals}");
    assert_eq!(slow.dropped, 100_000 - slow.output);
}

#[test]
fn drop_oldest_keeps_what_came_last() {
    let totals = run("oldest", "when_full = 'drop_oldest'\nqueue = 2");
    let slow = &totals.handlers["slow"];
    assert!(slow.output <= 3 * 256, "{totals}");
    assert_eq!(slow.dropped, 100_000 - slow.output);
    assert!(notes("oldest-slow").iter().any(|note| note == "blocked"));
}

#[test]
fn a_chain_alone_waits_and_loses_nothing() {
    let text = "
        [handlers.slow]
        type = 'block'
        note = 'alone'
        queue = 1
        [[chains]]
        from = ['many']
        through = ['slow']
    ";
    let (_, totals) = run_with(text, |controller| {
        await_note("alone", "blocked");
        note("alone", "go");
        controller.send(Control::Stop).unwrap();
    })
    .unwrap();
    assert!(totals.add_up(), "{totals}");
    let slow = &totals.handlers["slow"];
    assert_eq!((slow.output, slow.dropped), (totals.trackers["many"].generated, 0), "{totals}");
}
