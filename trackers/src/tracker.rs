//! What the module of a tracker states, and the [`TrackerSpec`] that follows from it.

use std::marker::PhantomData;

use bytemuck::NoUninit;
use whalewatch_core::{Directory, OpenError, Options, Problem, Source, TrackerSpec};

use crate::budget::Budgets;
use crate::options::{self, TrackerOptions};
use crate::program::{Attached, Setup};
use crate::ring::{Decode, RingSource};
use crate::{Kernel, LoadError, Program, scope};

/// A tracker whose events come from one compiled object: it states only what differs from the
/// others. [`FromKernel`] makes a [`TrackerSpec`] of it.
pub trait KernelTracker: 'static {
    /// What it watches, in one line.
    const ABOUT: &'static str;
    /// What it costs the traced processes, in a phrase.
    const COST: &'static str;
    /// Its kernel programs.
    const PROGRAM: &'static Program;
    /// Its options, which `tracker_options!` declares.
    type Options: Options + TrackerOptions;
    /// What its programs read as `SETTINGS`.
    type Settings: NoUninit;
    /// Turns its records into events.
    type Decoder: Decode;

    /// Returns the settings for its programs on this kernel.
    ///
    /// # Errors
    /// If the kernel lacks something that the programs need.
    fn settings(options: &Self::Options, kernel: &Kernel) -> Result<Self::Settings, LoadError>;

    /// Returns the decoder, which may take further maps from the attached programs.
    ///
    /// # Errors
    /// If a map cannot be opened.
    fn decoder(
        options: &Self::Options,
        attached: &mut Attached,
    ) -> Result<Self::Decoder, LoadError>;

    /// Checks the tracker's own options. The shared ones are checked already.
    fn check(options: &Self::Options) -> Vec<Problem> {
        let _ = options;
        Vec::new()
    }

    /// Whether these options suit handlers that need this tracker: see [`TrackerSpec::whole`].
    fn whole(options: &Self::Options) -> bool {
        let _ = options;
        false
    }

    /// Returns the programs to load on this kernel, if they are not [`KernelTracker::PROGRAM`].
    ///
    /// # Errors
    /// If the kernel's type information cannot be read.
    fn program(options: &Self::Options, kernel: &Kernel) -> Result<&'static Program, LoadError> {
        let _ = (options, kernel);
        Ok(Self::PROGRAM)
    }
}

/// The [`TrackerSpec`] of a [`KernelTracker`].
#[derive(Clone, Copy, Debug)]
pub struct FromKernel<T>(PhantomData<T>);

impl<T: KernelTracker> TrackerSpec for FromKernel<T> {
    const ABOUT: &'static str = T::ABOUT;
    type Event = <T::Decoder as Decode>::Event;
    type Options = T::Options;

    const COST: &'static str = T::COST;

    fn attaches(_: &T::Options) -> Vec<&'static str> {
        T::PROGRAM.attaches()
    }

    fn check(options: &T::Options) -> Vec<Problem> {
        let mut problems = options::check(&options.shared());
        problems.extend(T::check(options));
        problems
    }

    fn whole(options: &T::Options) -> bool {
        T::whole(options)
    }

    fn needs_directory(options: &T::Options) -> bool {
        options.shared().limits.is_some_and(|limits| limits.scope.by_cgroup())
    }

    fn has_budget(options: &T::Options) -> bool {
        options.shared().limits.is_some_and(|limits| limits.budget.is_set())
    }

    fn open(
        options: &T::Options,
        directory: &Directory,
    ) -> Result<Box<dyn Source<Self::Event>>, OpenError> {
        Ok(Box::new(open::<T>(options, directory).map_err(OpenError::from_error)?))
    }
}

/// Loads and attaches a tracker's programs. Events may arrive as soon as this returns.
///
/// # Errors
/// If this host cannot run the programs; [`LoadError::remedy`] says what to do.
pub fn open<T: KernelTracker>(
    options: &T::Options,
    directory: &Directory,
) -> Result<RingSource<T::Decoder>, LoadError> {
    let kernel = Kernel::shared()?;
    let shared = options.shared();
    let (scope, budget) = options::settings(&shared);
    let setup = Setup { ring_kib: shared.ring_kib, scope, budget };
    let program = T::program(options, &kernel)?;
    let mut attached = program.load(&kernel, &T::settings(options, &kernel)?, &setup)?;
    let mut report_interval = shared.drain_interval.0;
    let mut budgets = None;
    if let Some(limits) = &shared.limits {
        report_interval = limits.interval.0;
        if limits.scope.by_cgroup() {
            scope::follow(limits.scope, attached.map("SCOPE")?, directory);
        }
        if limits.budget.is_set() {
            let per_second = limits.budget.events_per_second;
            budgets = Some(Budgets::new(attached.map("BUDGETS")?, per_second, report_interval));
        }
    }
    let decoder = T::decoder(options, &mut attached)?;
    Ok(RingSource::new(attached, decoder, shared.drain_interval.0, report_interval, budgets))
}
