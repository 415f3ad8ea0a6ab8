//! Options that every tracker of processes' doings has, and what they are to the kernel.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{ContainerPatterns, HumanDuration, Problem};
use whalewatch_trackers_common::{BudgetSettings, RingSettings, SCOPE_LIST, ScopeSettings};

use crate::host;

/// What a ring buffer may take.
const RING_KIB: RangeInclusive<u32> = 64..=1 << 20;
/// How often it may be drained.
const DRAIN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// How often sums may be reported.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// Most events that a budget may let through in a second: one in two nanoseconds would be no
/// budget.
const MOST_PER_SECOND: u32 = 100_000_000;

/// Which results are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Results {
    /// Success and failure.
    #[default]
    All,
    /// Failure only.
    Failed,
}

/// What is watched; what is not costs next to nothing, since the kernel leaves it out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScopeOptions {
    /// Containers that are watched, by patterns: `web*` for a name or an id, `image:nginx*`,
    /// `label:tier` or `label:tier=front*`; those that begin with `!` leave out. Empty for all.
    pub containers: Vec<String>,
    /// Whether what is in no container is watched. Not set: where `containers` is empty.
    pub host: Option<bool>,
    /// Effective user ids that are watched, in the host's numbers; at most 16. Empty for all.
    pub uids: Vec<u32>,
    /// Command names that are watched, as the kernel keeps them (at most 15 bytes); at most 16.
    /// Empty for all.
    pub comms: Vec<String>,
    /// Watch everything, or only what failed.
    pub results: Results,
}

/// How many events each container may have: what is beyond is refused in the kernel, counted, and
/// told of by the events `budget.exceeded`, `budget.refused` and `budget.ended`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetOptions {
    /// Events each second for each container (and each cgroup of the host); 0 for no budget.
    pub events_per_second: u32,
    /// Events that may come at once after a quiet time; 0 for as many as in a second.
    pub burst: u32,
}

/// What every tracker with these options has; implemented by `tracker_options!`.
pub trait TrackerOptions {
    /// Whether its events can have failed.
    const HAS_RESULTS: bool;

    /// Room for events on their way from the kernel, in KiB.
    fn ring_kib(&self) -> u32;
    /// How often events are taken from the kernel.
    fn drain_interval(&self) -> HumanDuration;
    /// How often sums are reported.
    fn interval(&self) -> HumanDuration;
    /// Whether Whalewatch's own doings are reported.
    fn include_own(&self) -> bool;
    /// What is watched.
    fn scope(&self) -> &ScopeOptions;
    /// How many events each container may have.
    fn budget(&self) -> &BudgetOptions;
}

/// Declares a tracker's options: those that all have, and its own with their defaults.
macro_rules! tracker_options {
    (
        $(#[$attribute:meta])*
        $name:ident { ring_kib: $ring_kib:literal, results: $results:literal,
            $($(#[$own_attribute:meta])* $own:ident: $own_type:ty = $own_default:expr,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$own_attribute])* pub $own: $own_type,)*
            /// What is watched.
            pub scope: $crate::options::ScopeOptions,
            /// How many events each container may have.
            pub budget: $crate::options::BudgetOptions,
            /// How often sums, and what a budget refused, are reported. From 100ms to 1h.
            pub interval: whalewatch_core::HumanDuration,
            /// Room for events on their way from the kernel, in KiB: a power of two from 64 to
            /// 1048576.
            pub ring_kib: u32,
            /// How often events are taken from the kernel, from 1ms to 1s; sooner when the room is
            /// half full.
            pub drain_interval: whalewatch_core::HumanDuration,
            /// Report Whalewatch's own process and its children too.
            pub include_own: bool,
        }

        impl Default for $name {
            fn default() -> Self {
                let interval = |ms| whalewatch_core::HumanDuration(std::time::Duration::from_millis(ms));
                Self {
                    $($own: $own_default,)*
                    scope: Default::default(),
                    budget: Default::default(),
                    interval: interval(1000),
                    ring_kib: $ring_kib,
                    drain_interval: interval(10),
                    include_own: false,
                }
            }
        }

        impl $crate::options::TrackerOptions for $name {
            const HAS_RESULTS: bool = $results;

            fn ring_kib(&self) -> u32 {
                self.ring_kib
            }

            fn drain_interval(&self) -> whalewatch_core::HumanDuration {
                self.drain_interval
            }

            fn interval(&self) -> whalewatch_core::HumanDuration {
                self.interval
            }

            fn include_own(&self) -> bool {
                self.include_own
            }

            fn scope(&self) -> &$crate::options::ScopeOptions {
                &self.scope
            }

            fn budget(&self) -> &$crate::options::BudgetOptions {
                &self.budget
            }
        }
    };
}
pub(crate) use tracker_options;

impl ScopeOptions {
    /// Whether it depends on who lives in which cgroup.
    pub fn by_cgroup(&self) -> bool {
        !self.containers.is_empty() || self.host == Some(false)
    }

    /// Whether everything is watched.
    pub fn is_everything(&self) -> bool {
        !self.by_cgroup() && *self == Self { host: self.host, ..Self::default() }
    }

    /// Whether what is in no container is watched.
    pub(crate) fn host(&self) -> bool {
        self.host.unwrap_or(self.containers.is_empty())
    }

    /// The patterns; none where they are wrong, which [`check`] tells.
    pub(crate) fn patterns(&self) -> ContainerPatterns {
        ContainerPatterns::new("scope.containers", &self.containers).unwrap_or_default()
    }

    fn settings(&self) -> ScopeSettings {
        let mut settings = ScopeSettings {
            by_cgroup: self.by_cgroup().into(),
            unlisted: self.patterns().matches_unknown().into(),
            failed_only: (self.results == Results::Failed).into(),
            uid_count: self.uids.len().min(SCOPE_LIST) as u32,
            comm_count: self.comms.len().min(SCOPE_LIST) as u32,
            ..ScopeSettings::default()
        };
        for (to, &uid) in settings.uids.iter_mut().zip(&self.uids) {
            *to = uid;
        }
        for (to, comm) in settings.comms.iter_mut().zip(&self.comms) {
            let mut bytes = [0; 16];
            let length = comm.len().min(15);
            bytes[..length].copy_from_slice(&comm.as_bytes()[..length]);
            *to = bytemuck::cast(bytes);
        }
        settings
    }

    fn problems(&self, has_results: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(
            ContainerPatterns::new("scope.containers", &self.containers)
                .err()
                .into_iter()
                .flatten(),
        );
        for (key, count) in [("scope.uids", self.uids.len()), ("scope.comms", self.comms.len())] {
            if count > SCOPE_LIST {
                let message = format!("{count} are listed, and at most {SCOPE_LIST} can be");
                problems.push(Problem::new(key, message).hint("use the filter handler for more"));
            }
        }
        for comm in self.comms.iter().filter(|comm| comm.is_empty() || comm.len() > 15) {
            let message = format!("{comm:?} is no command name: the kernel keeps 1 to 15 bytes");
            let short: String = comm.chars().take(15).collect();
            problems.push(Problem::new("scope.comms", message).hint(format!("write {short:?}")));
        }
        if self.results == Results::Failed && !has_results {
            let message = "what this tracker tells of does not fail";
            problems.push(Problem::new("scope.results", message).hint("leave it out"));
        }
        problems
    }
}

impl BudgetOptions {
    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.events_per_second > 0
    }

    fn settings(&self) -> BudgetSettings {
        if !self.is_set() {
            return BudgetSettings::default();
        }
        let cost = 1_000_000_000 / u64::from(self.events_per_second);
        let burst = if self.burst == 0 { self.events_per_second } else { self.burst };
        BudgetSettings { cost, room: cost * u64::from(burst) }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.events_per_second > MOST_PER_SECOND {
            let message = format!("{} is more than {MOST_PER_SECOND}", self.events_per_second);
            problems.push(
                Problem::new("budget.events_per_second", message).hint("write 0 for no budget"),
            );
        }
        if self.burst > 0 && !self.is_set() {
            let message = "a burst is set, but no events_per_second";
            let hint = "set events_per_second, too";
            problems.push(Problem::new("budget.burst", message).hint(hint));
        }
        problems
    }
}

/// Checks the options that every tracker has.
pub(crate) fn check(options: &impl TrackerOptions) -> Vec<Problem> {
    fn has_results<O: TrackerOptions>(_: &O) -> bool {
        O::HAS_RESULTS
    }
    let mut problems = check_ring(options.ring_kib(), options.drain_interval());
    if !INTERVAL.contains(&options.interval().0) {
        let message = format!("{} is not between 100ms and 1h", options.interval());
        problems.push(Problem::new("interval", message).hint("write \"1s\""));
    }
    problems.extend(options.scope().problems(has_results(options)));
    problems.extend(options.budget().problems());
    problems
}

/// Checks the options that every ring buffer has.
pub(crate) fn check_ring(kib: u32, drain: HumanDuration) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !kib.is_power_of_two() || !RING_KIB.contains(&kib) {
        let message = format!("{kib} is no power of two from 64 to 1048576");
        let nearest = kib.clamp(*RING_KIB.start(), *RING_KIB.end()).next_power_of_two();
        problems.push(Problem::new("ring_kib", message).hint(format!("write {nearest}")));
    }
    if !DRAIN.contains(&drain.0) {
        let message = format!("{drain} is not between 1ms and 1s");
        problems.push(Problem::new("drain_interval", message).hint("write \"10ms\""));
    }
    problems
}

/// How to use a ring buffer of so many bytes: wake user space from half full, and tell it for a
/// sixteenth more.
pub(crate) fn ring_settings(kib: u32) -> RingSettings {
    let bytes = u64::from(kib) * 1024;
    let (half, window) = (bytes / 2, bytes / 16);
    RingSettings { wake_from: half, wake_to: half + window }
}

/// What scope and budget are to the kernel.
pub(crate) fn settings(options: &impl TrackerOptions) -> (ScopeSettings, BudgetSettings) {
    // In a pid namespace of its own Whalewatch does not know the pid that the programs see.
    let hide_own = !options.include_own() && host::in_initial_pid_namespace();
    let mut scope = options.scope().settings();
    scope.own_pid = if hide_own { std::process::id() } else { 0 };
    (scope, options.budget().settings())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_ring_options_are_found_with_a_hint() {
        let check = |kib, ms| check_ring(kib, HumanDuration(Duration::from_millis(ms)));
        assert_eq!(check(4096, 10), []);
        assert_eq!(check(1 << 20, 1), []);
        let problems = check(5000, 0);
        assert_eq!(problems[0].message, "5000 is no power of two from 64 to 1048576");
        assert_eq!(problems[0].hint.as_deref(), Some("write 8192"));
        assert_eq!(problems[1].message, "0s is not between 1ms and 1s");
        assert_eq!(check(u32::MAX, 10)[0].hint.as_deref(), Some("write 1048576"));
    }

    #[test]
    fn a_scope_of_containers_leaves_the_host_out_unless_it_is_asked_for() {
        let scope = |containers: &[&str], host| ScopeOptions {
            containers: containers.iter().map(ToString::to_string).collect(),
            host,
            ..ScopeOptions::default()
        };
        let told = |scope: ScopeOptions| {
            let settings = scope.settings();
            (settings.by_cgroup, settings.unlisted, scope.host())
        };
        assert_eq!(told(scope(&[], None)), (0, 1, true));
        assert_eq!(told(scope(&[], Some(false))), (1, 1, false));
        assert_eq!(told(scope(&["web*"], None)), (1, 0, false));
        assert_eq!(told(scope(&["web*"], Some(true))), (1, 0, true));
        assert_eq!(told(scope(&["!web*"], None)), (1, 1, false));
        assert!(scope(&[], Some(true)).is_everything());
        assert!(!scope(&[], Some(false)).is_everything());
        assert!(!ScopeOptions { uids: vec![0], ..ScopeOptions::default() }.is_everything());
    }

    #[test]
    fn every_mistake_in_a_scope_is_told() {
        let scope = ScopeOptions {
            containers: vec!["[".into()],
            uids: vec![0; 17],
            comms: vec!["a-name-of-16-byte".into(), String::new()],
            results: Results::Failed,
            ..ScopeOptions::default()
        };
        let told: Vec<_> = scope.problems(false).into_iter().map(|p| p.key).collect();
        let comms = "scope.comms";
        assert_eq!(told, ["scope.containers", "scope.uids", comms, comms, "scope.results"]);
        assert_eq!(ScopeOptions::default().problems(false), []);
    }

    #[test]
    fn a_budget_is_a_cost_and_a_room() {
        let settings = |events_per_second, burst| {
            let settings = BudgetOptions { events_per_second, burst }.settings();
            (settings.cost, settings.room)
        };
        assert_eq!(settings(0, 0), (0, 0));
        assert_eq!(settings(1000, 0), (1_000_000, 1_000_000_000));
        assert_eq!(settings(1000, 10), (1_000_000, 10_000_000));
        let problems = BudgetOptions { events_per_second: 0, burst: 1 }.problems();
        assert_eq!(problems[0].key, "budget.burst");
    }
}
