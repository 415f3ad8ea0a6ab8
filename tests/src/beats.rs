//! A container that runs one numbered program after another, so that a lost event leaves a gap.

use crate::output::Event;
use crate::tracer::Tracer;
use crate::wait;

/// Returns a script that runs `/bin/true MARK NUMBER` with rising numbers, about 20 times a second.
pub fn script(mark: &str) -> String {
    format!("i=0; while :; do /bin/true {mark} $i; i=$((i + 1)); usleep 50000; done")
}

/// Returns the script's events, each with its number.
pub fn beats<'a>(events: &'a [Event], mark: &str) -> Vec<(u64, &'a Event)> {
    let number = |event: &'a Event| match event.args()[..] {
        ["/bin/true", found, number] if found == mark => Some((number.parse().ok()?, event)),
        _ => None,
    };
    events.iter().filter_map(number).collect()
}

/// Waits until `more` further events of the script are printed.
///
/// # Panics
/// If they do not come in time.
#[track_caller]
pub fn wait_for_beats(tracer: &mut Tracer, mark: &str, more: usize) {
    let before = beats(tracer.events(), mark).len();
    tracer.wait_for("the container continues", |events| {
        wait::when(beats(events, mark).len() >= before + more)
    });
}
