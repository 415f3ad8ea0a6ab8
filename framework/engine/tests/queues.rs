//! Queues: what happens to events when a handler is slower than its tracker.

mod common;

use common::{await_note, note, notes, run_with};
use whalewatch_engine::{Control, Totals};

/// Runs two chains of one tracker with 100,000 events. The handler `slow` blocks until the other
/// chain has received all events.
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
    assert_eq!(totals.handlers["slow"].input, 100_000, "dropped events count as input");
    totals
}

/// Returns the batches that a blocking handler took, as the numbers of their events.
fn taken(name: &str) -> Vec<Vec<u64>> {
    let numbers = |batch: &str| {
        batch.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    };
    notes(name).iter().filter_map(|note| note.strip_prefix("took ")).map(numbers).collect()
}

#[test]
fn blocked_chain_does_not_stall_another_of_the_same_tracker() {
    let totals = run("wait", "");
    let slow = &totals.handlers["slow"];
    // One batch is with the handler, 64 are in its queue, and 16,384 events wait for the queue.
    let room = 65 * 256 + 16_384 + 256;
    assert!(slow.dropped > 0 && slow.dropped >= 100_000 - room, "{totals}");
    assert_eq!(slow.dropped_by_cgroup.values().sum::<u64>(), slow.dropped, "{totals:?}");
}

#[test]
fn drop_newest_keeps_the_first_events() {
    let totals = run("newest", "when_full = 'drop_newest'\nqueue = 2");
    let slow = &totals.handlers["slow"];
    assert!(slow.output <= 3 * 256, "one batch is with it, two are in its queue: {totals}");
    assert_eq!(slow.dropped, 100_000 - slow.output);
    // The queue had room for the first two batches, even before the handler took one.
    let first = taken("newest-slow")[..2].concat();
    assert_eq!(first, (0..first.len() as u64).collect::<Vec<_>>());
}

#[test]
fn drop_oldest_keeps_the_last_events() {
    let totals = run("oldest", "when_full = 'drop_oldest'\nqueue = 2");
    let slow = &totals.handlers["slow"];
    assert!(slow.output <= 3 * 256, "{totals}");
    assert_eq!(slow.dropped, 100_000 - slow.output);
    // The handler took one batch when it blocked, and the queue had the last ones after that.
    let taken = taken("oldest-slow");
    assert_eq!(taken.last().and_then(|batch| batch.last()), Some(&99_999));
    let queued = taken[1..].concat();
    assert_eq!(queued, (100_000 - queued.len() as u64..100_000).collect::<Vec<_>>());
}

#[test]
fn single_blocked_chain_waits_and_drops_nothing() {
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
