//! The behaviour of chains: order, back-pressure, sharing, needs, failure, end.

mod common;

use common::{await_note, note, notes, run, run_with};
use whalewatch_engine::{Control, End, RunError};

fn all(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn every_event_arrives_once_and_in_order() {
    let (end, totals) = run("
        [handlers.out]
        type = 'collect'
        note = 'order'
        [[chains]]
        from = ['ticks']
        through = ['out']
    ");
    assert_eq!(end, End::Done);
    assert_eq!(notes("order"), all(0..1000));
    assert_eq!(totals.trackers["ticks"].generated, 1000);
    assert_eq!(totals.handlers["out"].output, 1000);
}

#[test]
fn filtered_events_are_counted() {
    let (_, totals) = run("
        [handlers.out]
        type = 'collect'
        note = 'filtered'
        [[chains]]
        from = ['ticks']
        through = ['even', 'out']
    ");
    let even = &totals.handlers["even"];
    assert_eq!((even.input, even.filtered, even.output), (1000, 500, 500));
    assert_eq!(notes("filtered").len(), 500);
}

#[test]
fn tracker_in_two_chains_sends_every_event_to_both() {
    run("
        [handlers.a]
        type = 'collect'
        note = 'both-a'
        [handlers.b]
        type = 'collect'
        note = 'both-b'
        [[chains]]
        from = ['ticks']
        through = ['a']
        [[chains]]
        from = ['ticks']
        through = ['even', 'b']
    ");
    assert_eq!(notes("both-a"), all(0..1000));
    assert_eq!(notes("both-b").len(), 500);
}

#[test]
fn handler_observes_needed_events_before_chains_deliver_them() {
    run("
        [manager]
        note = 'needs'
        [handlers.out]
        type = 'collect'
        note = 'needs-out'
        [[chains]]
        from = ['ticks']
        through = ['manager', 'out']
    ");
    let notes = notes("needs");
    assert_eq!(notes[0], "built for 1 chains");
    assert_eq!(notes[1], "observed 1000", "events about what existed come first");
    let mut seen = Vec::new();
    for note in &notes[2..] {
        match note.split_once(' ').unwrap() {
            ("observed", numbers) => seen.push(numbers.to_owned()),
            ("handled", numbers) => {
                assert!(
                    seen.iter().any(|s| s == numbers),
                    "{numbers} was handled before it was observed"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(common::notes("needs-out"), all(0..1000), "existing events go to no chain");
}

#[test]
fn needed_tracker_is_attached_without_a_chain() {
    let (_, totals) = run("
        [manager]
        note = 'attached'
        [handlers.out]
        type = 'collect'
        note = 'attached-out'
        [[chains]]
        from = ['open']
        through = ['manager', 'out']
        [[chains]]
        from = ['ticks']
        through = ['closes']
    ");
    // `closes` ends the run. By then the manager has received its feed.
    assert!(notes("attached").iter().any(|n| n == "observed 1000"));
    assert_eq!(totals.trackers.len(), 2);
}

#[test]
fn shared_handler_has_one_instance_for_all_chains() {
    run("
        [manager]
        note = 'shared'
        [handlers.a]
        type = 'collect'
        note = 'shared-a'
        [handlers.b]
        type = 'collect'
        note = 'shared-b'
        [[chains]]
        from = ['ticks']
        through = ['manager', 'a']
        [[chains]]
        from = ['ticks']
        through = ['manager', 'even', 'b']
    ");
    assert_eq!(notes("shared").iter().filter(|n| n.starts_with("built")).count(), 1);
    assert_eq!(notes("shared-a").len(), 1000);
    assert_eq!(notes("shared-b").len(), 500);
}

#[test]
fn blocked_chain_does_not_stall_another_of_the_same_handler() {
    let (end, totals) = run_with(
        "
        [manager]
        note = 'stall'
        [handlers.slow]
        type = 'block'
        note = 'stall-slow'
        [handlers.out]
        type = 'collect'
        note = 'stall-out'
        [[chains]]
        from = ['ticks']
        through = ['manager', 'slow']
        [[chains]]
        from = ['open']
        through = ['manager', 'out']
        ",
        |controller| {
            await_note("stall-slow", "blocked");
            await_note("stall-out", "99");
            note("stall-slow", "go");
            controller.send(Control::Stop).unwrap();
        },
    )
    .unwrap();
    assert_eq!(end, End::Done);
    assert!(totals.add_up(), "{totals}");
    assert_eq!(totals.handlers["slow"].output, 1000);
}

#[test]
fn stop_drains_events_in_flight() {
    let (end, totals) = run_with(
        "
        [handlers.late]
        type = 'later'
        note = 'stop-late'
        [handlers.out]
        type = 'collect'
        note = 'stop'
        [[chains]]
        from = ['open']
        through = ['late', 'out']
        ",
        |controller| {
            await_note("stop-late", "helper");
            controller.send(Control::Stop).unwrap();
        },
    )
    .unwrap();
    assert_eq!(end, End::Done);
    assert!(totals.add_up(), "{totals}");
    let out = totals.handlers["out"].output;
    assert!(out > 0, "{totals}");
    assert_eq!(totals.trackers["open"].delivered, out, "{totals}");
    assert_eq!(totals.trackers["open"].generated, out, "{totals}");
}

#[test]
fn panicking_handler_is_rebuilt_and_its_events_are_counted() {
    let (end, totals) = run("
        [handlers.out]
        type = 'collect'
        note = 'panic'
        [[chains]]
        from = ['ticks']
        through = ['unlucky', 'out']
    ");
    assert_eq!(end, End::Done);
    let unlucky = &totals.handlers["unlucky"];
    assert_eq!(unlucky.restarts, 1);
    assert!(unlucky.errors > 0 && unlucky.errors <= 256, "{totals}");
    assert_eq!(unlucky.errors + totals.handlers["out"].output, 1000);
}

#[test]
fn events_held_by_a_failed_handler_count_as_errors() {
    let (_, totals) = run("
        [handlers.unlucky]
        type = 'unlucky'
        holds = true
        fails = true
        [handlers.out]
        type = 'collect'
        note = 'held'
        [[chains]]
        from = ['ticks']
        through = ['unlucky', 'out']
    ");
    assert_eq!(totals.handlers["unlucky"].restarts, 1);
    assert_eq!(totals.handlers["unlucky"].errors + notes("held").len() as u64, 1000);
}

#[test]
fn handler_that_fails_too_often_stops_the_run() {
    let error = run_with(
        "
        [handlers.a]
        type = 'collect'
        note = 'often'
        [[chains]]
        from = ['ticks']
        through = ['often', 'a']
        [handlers.often]
        type = 'always'
        ",
        |_| {},
    );
    let Err(RunError::Failed { name, message, totals }) = error else { panic!("{error:?}") };
    assert_eq!(name, "often");
    assert_eq!(message, "panicked: always");
    assert!(totals.add_up(), "{totals}");
    let often = &totals.handlers["often"];
    assert_eq!(often.restarts, 2, "{totals}");
    assert_eq!(often.errors + often.dropped, often.input);
}

#[test]
fn closed_reader_ends_the_run_without_an_error() {
    let (end, totals) = run("
        [[chains]]
        from = ['open']
        through = ['closes']
    ");
    assert_eq!(end, End::Closed);
    assert_eq!(totals.handlers["closes"].dropped, totals.handlers["closes"].input);
}

#[test]
fn messages_of_timers_and_helper_threads_reach_a_handler() {
    let (_, totals) = run_with(
        "
        [handlers.later]
        type = 'later'
        note = 'later'
        [handlers.out]
        type = 'collect'
        note = 'later-out'
        [[chains]]
        from = ['open']
        through = ['later', 'out']
        ",
        |controller| {
            await_note("later", "helper");
            await_note("later", "timer");
            await_note("later-out", "99");
            controller.send(Control::Stop).unwrap();
        },
    )
    .unwrap();
    assert!(totals.add_up(), "{totals}");
    assert_eq!(notes("later-out"), all(0..100));
    assert_eq!(totals.handlers["later"].errors, 0);
}

#[test]
fn events_sent_by_a_timer_go_on_while_the_source_is_idle() {
    let text = "
        [handlers.out]
        type = 'collect'
        note = 'alone-out'
        [[chains]]
        from = ['open']
        through = ['alarm', 'out']
    ";
    let steer = |controller: flume::Sender<Control>| {
        await_note("alone-out", "99");
        controller.send(Control::Stop).unwrap();
    };
    let (_, totals) = run_with(text, steer).unwrap();
    assert_eq!(totals.handlers["out"].input, 100);
}

#[test]
fn abort_does_not_wait_for_a_blocked_handler() {
    let (end, _) = run_with(
        "
        [handlers.slow]
        type = 'block'
        note = 'abort'
        [[chains]]
        from = ['open']
        through = ['slow']
        ",
        |controller| {
            await_note("abort", "blocked");
            controller.send(Control::Stop).unwrap();
            controller.send(Control::Abort).unwrap();
        },
    )
    .unwrap();
    note("abort", "go");
    assert_eq!(end, End::Aborted);
}

#[test]
fn behind_is_true_while_a_slow_handler_blocks_the_chain() {
    let (_, totals) = run_with(
        "
        [handlers.later]
        type = 'later'
        note = 'behind'
        [handlers.slow]
        type = 'block'
        note = 'behind-slow'
        [[chains]]
        from = ['many']
        through = ['later', 'slow']
        ",
        |controller| {
            await_note("behind", "a timer, behind");
            note("behind-slow", "go");
            await_note("behind", "a timer, not behind");
            controller.send(Control::Stop).unwrap();
        },
    )
    .unwrap();
    assert!(totals.add_up(), "{totals}");
    assert_eq!(totals.handlers["slow"].output, 100_000, "no event is dropped");
}
