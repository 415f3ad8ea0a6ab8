//! A container that goes on: it runs one numbered program after another, so that it shows whether
//! an event was lost.

use crate::output::Event;
use crate::tracer::Tracer;
use crate::wait;

/// A script that runs `/bin/true MARK NUMBER` with NUMBER counting up, about 20 times a second.
pub fn script(mark: &str) -> String {
    format!("i=0; while :; do /bin/true {mark} $i; i=$((i + 1)); usleep 50000; done")
}

/// Its events, each with its number.
pub fn beats<'a>(events: &'a [Event], mark: &str) -> Vec<(u64, &'a Event)> {
    let number = |event: &'a Event| match event.args()[..] {
        ["/bin/true", found, number] if found == mark => Some((number.parse().ok()?, event)),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

/// Waits until so many more have been printed.
///
/// # Panics
/// When they do not come.
#[track_caller]
pub fn wait_for_beats(tracer: &mut Tracer, mark: &str, more: usize) {
    let before = beats(tracer.events(), mark).len();
    tracer.wait_for("the container goes on", |events| {
        wait::when(beats(events, mark).len() >= before + more)
    });
}
