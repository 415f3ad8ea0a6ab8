//! From a tracker's options to a source of its events.

use bytemuck::NoUninit;
use whalewatch_core::Directory;

use crate::budget::Budgets;
use crate::options::{self, TrackerOptions};
use crate::program::{Attached, Setup};
use crate::ring::Decode;
use crate::{Kernel, LoadError, Program, RingSource, scope};

/// Loads and attaches a tracker's programs, with the options that all trackers have.
///
/// `settings` makes what the programs know as `SETTINGS`; `decoder` takes what the tracker reads
/// beside the ring buffer.
pub(crate) fn open<D: Decode, S: NoUninit>(
    program: &Program,
    options: &impl TrackerOptions,
    directory: &Directory,
    settings: impl FnOnce(&Kernel) -> Result<S, LoadError>,
    decoder: impl FnOnce(&mut Attached) -> Result<D, LoadError>,
) -> Result<RingSource<D>, LoadError> {
    let kernel = Kernel::shared()?;
    let (scope, budget) = options::settings(options);
    let setup = Setup { ring_kib: options.ring_kib(), scope, budget };
    let mut attached = program.load(&kernel, &settings(&kernel)?, &setup)?;
    if options.scope().by_cgroup() {
        scope::follow(options.scope(), attached.map("SCOPE")?, directory);
    }
    let (drain_interval, interval) = (options.drain_interval().0, options.interval().0);
    let budgets = if options.budget().is_set() {
        let per_second = options.budget().events_per_second;
        Some(Budgets::new(attached.map("BUDGETS")?, per_second, interval))
    } else {
        None
    };
    let decoder = decoder(&mut attached)?;
    let source = RingSource::new(attached, decoder, drain_interval, interval);
    Ok(match budgets {
        Some(budgets) => source.with_budgets(budgets),
        None => source,
    })
}
