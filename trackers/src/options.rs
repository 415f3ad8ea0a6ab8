//! The options that trackers share, and the form in which their programs read them.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{ContainerPatterns, HumanDuration, Problem};
use whalewatch_trackers_common::{BudgetSettings, RingSettings, SCOPE_LIST, ScopeSettings};

use crate::host;

/// Sizes that a ring buffer may have, in KiB.
const RING_KIB: RangeInclusive<u32> = 64..=1 << 20;
/// Intervals at which a ring buffer may be read.
const DRAIN: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// Intervals at which sums may be reported.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// The largest budget: beyond this rate, the cost of an event rounds to a few nanoseconds and the
/// budget becomes meaningless.
const MOST_PER_SECOND: u32 = 100_000_000;

/// Which results to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Results {
    /// Successes and failures.
    #[default]
    All,
    /// Failures only.
    Failed,
}

/// What to watch. Everything else costs next to nothing, because the kernel side skips it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScopeOptions {
    /// Containers to watch, as patterns: `web*` matches a name or an id; `image:nginx*`,
    /// `label:tier` and `label:tier=front*` match images and labels; a leading `!` excludes.
    /// Empty: all containers.
    pub containers: Vec<String>,
    /// Whether to watch processes outside containers. Default: yes, unless `containers` is set.
    pub host: Option<bool>,
    /// Effective user ids to watch, as the host numbers them; at most 16. Empty: all users.
    pub uids: Vec<u32>,
    /// Command names to watch, as the kernel stores them (1 to 15 bytes); at most 16. Empty: all
    /// commands.
    pub comms: Vec<String>,
    /// Whether to report all results (`all`) or only failures (`failed`).
    pub results: Results,
}

/// How many events each container may cause. The kernel side refuses and counts the excess; the
/// events `budget.exceeded`, `budget.refused` and `budget.ended` report it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetOptions {
    /// Events per second for each container, and for each cgroup outside containers; 0: no budget.
    pub events_per_second: u32,
    /// Events that may arrive at once after a quiet period; 0: as many as in one second.
    pub burst: u32,
}

/// Access to the options that trackers share; implemented by `tracker_options!`.
pub trait TrackerOptions {
    /// Returns the options that trackers share.
    fn shared(&self) -> SharedOptions<'_>;
}

/// The options that trackers share.
#[derive(Clone, Copy, Debug)]
pub struct SharedOptions<'a> {
    /// Size of the ring buffer, in KiB.
    pub ring_kib: u32,
    /// How often the ring buffer is read.
    pub drain_interval: HumanDuration,
    /// What to report and what to leave out; `None` for a tracker that always reports everything.
    pub limits: Option<Limits<'a>>,
}

/// What a tracker of processes' actions reports and what it leaves out.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// What to watch.
    pub scope: &'a ScopeOptions,
    /// How many events each container may cause.
    pub budget: &'a BudgetOptions,
    /// How often to report sums and refused events.
    pub interval: HumanDuration,
    /// Whether to report Whalewatch's own actions.
    pub include_own: bool,
    /// Whether the actions that the tracker reports can fail.
    pub has_results: bool,
}

/// Declares a tracker's options: the shared ones, and its own with their defaults.
macro_rules! tracker_options {
    (
        $(#[$attribute:meta])*
        $name:ident { ring_kib: $ring_kib:literal, results: $results:literal,
            $($(#[$own_attribute:meta])* $own:ident: $own_type:ty = $own_default:expr,)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[derive(serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$own_attribute])* pub $own: $own_type,)*
            /// What to watch.
            pub scope: $crate::options::ScopeOptions,
            /// How many events each container may cause.
            pub budget: $crate::options::BudgetOptions,
            /// How often to report sums and refused events, from 100ms to 1h.
            pub interval: whalewatch_core::HumanDuration,
            /// Size of the ring buffer between kernel and user space, in KiB: a power of two from
            /// 64 to 1048576.
            pub ring_kib: u32,
            /// How often to read the ring buffer, from 1ms to 1s. It is read earlier when it is
            /// half full.
            pub drain_interval: whalewatch_core::HumanDuration,
            /// Also report Whalewatch's own process and its children.
            pub include_own: bool,
        }

        impl Default for $name {
            fn default() -> Self {
                let milliseconds =
                    |ms| whalewatch_core::HumanDuration(std::time::Duration::from_millis(ms));
                Self {
                    $($own: $own_default,)*
                    scope: Default::default(),
                    budget: Default::default(),
                    interval: milliseconds(1000),
                    ring_kib: $ring_kib,
                    drain_interval: milliseconds(10),
                    include_own: false,
                }
            }
        }

        impl $crate::options::TrackerOptions for $name {
            fn shared(&self) -> $crate::options::SharedOptions<'_> {
                $crate::options::SharedOptions {
                    ring_kib: self.ring_kib,
                    drain_interval: self.drain_interval,
                    limits: Some($crate::options::Limits {
                        scope: &self.scope,
                        budget: &self.budget,
                        interval: self.interval,
                        include_own: self.include_own,
                        has_results: $results,
                    }),
                }
            }
        }
    };
}
pub(crate) use tracker_options;

impl ScopeOptions {
    /// Whether the scope depends on which container a cgroup belongs to.
    pub fn by_cgroup(&self) -> bool {
        !self.containers.is_empty() || self.host == Some(false)
    }

    /// Whether everything is watched.
    pub fn is_everything(&self) -> bool {
        !self.by_cgroup() && *self == Self { host: self.host, ..Self::default() }
    }

    /// Whether processes outside containers are watched.
    pub(crate) fn host(&self) -> bool {
        self.host.unwrap_or(self.containers.is_empty())
    }

    /// The patterns of containers; none if they are invalid, which [`check`] reports.
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
                let message = format!("{count} entries, but at most {SCOPE_LIST} are allowed");
                problems.push(Problem::new(key, message).hint("use the filter handler for more"));
            }
        }
        for comm in self.comms.iter().filter(|comm| comm.is_empty() || comm.len() > 15) {
            let message =
                format!("{comm:?} is not a command name: the kernel stores 1 to 15 bytes");
            let short: String = comm.chars().take(15).collect();
            problems.push(Problem::new("scope.comms", message).hint(format!("write {short:?}")));
        }
        if self.results == Results::Failed && !has_results {
            let message = "the events of this tracker cannot fail";
            problems.push(Problem::new("scope.results", message).hint("remove the option"));
        }
        problems
    }
}

impl BudgetOptions {
    /// Whether there is a budget.
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
        let (key, rate) = ("budget.events_per_second", self.events_per_second);
        let rate = Problem::check_range(key, rate, ..=MOST_PER_SECOND);
        problems.extend(rate.map(|problem| problem.hint("write 0 for no budget")));
        if self.burst > 0 && !self.is_set() {
            let message = "burst is set, but events_per_second is not";
            let hint = "set events_per_second too";
            problems.push(Problem::new("budget.burst", message).hint(hint));
        }
        problems
    }
}

/// Checks the options that trackers share.
pub(crate) fn check(shared: &SharedOptions<'_>) -> Vec<Problem> {
    let mut problems = check_ring(shared.ring_kib, shared.drain_interval);
    let Some(limits) = &shared.limits else { return problems };
    problems.extend(Problem::check_range("interval", limits.interval.0, INTERVAL));
    problems.extend(limits.scope.problems(limits.has_results));
    problems.extend(limits.budget.problems());
    problems
}

/// Checks the options of the ring buffer.
fn check_ring(kib: u32, drain: HumanDuration) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !kib.is_power_of_two() || !RING_KIB.contains(&kib) {
        let message = format!("{kib} is not a power of two from 64 to 1048576");
        let nearest = kib.clamp(*RING_KIB.start(), *RING_KIB.end()).next_power_of_two();
        problems.push(Problem::new("ring_kib", message).hint(format!("write {nearest}")));
    }
    problems.extend(Problem::check_range("drain_interval", drain.0, DRAIN));
    problems
}

/// Returns when to wake user space for a ring buffer of `kib` KiB: from half full on, until a
/// sixteenth more is waiting. By then user space has been woken.
pub(crate) fn ring_settings(kib: u32) -> RingSettings {
    let bytes = u64::from(kib) * 1024;
    let (half, window) = (bytes / 2, bytes / 16);
    RingSettings { wake_from: half, wake_to: half + window }
}

/// Returns scope and budget in the form that the programs read.
pub(crate) fn settings(shared: &SharedOptions<'_>) -> (ScopeSettings, BudgetSettings) {
    let Some(limits) = &shared.limits else {
        return (ScopeSettings::default(), BudgetSettings::default());
    };
    // In another pid namespace Whalewatch does not know the pid that the programs see.
    let hide_own = !limits.include_own && host::in_initial_pid_namespace();
    let mut scope = limits.scope.settings();
    scope.own_pid = if hide_own { std::process::id() } else { 0 };
    (scope, limits.budget.settings())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_ring_options_are_reported_with_a_hint() {
        let check = |kib, ms| check_ring(kib, HumanDuration(Duration::from_millis(ms)));
        assert_eq!(check(4096, 10), []);
        assert_eq!(check(1 << 20, 1), []);
        let problems = check(5000, 0);
        assert_eq!(problems[0].message, "5000 is not a power of two from 64 to 1048576");
        assert_eq!(problems[0].hint.as_deref(), Some("write 8192"));
        assert_eq!(problems[1].message, "0s is out of range: expected 1ms to 1s");
        assert_eq!(check(u32::MAX, 10)[0].hint.as_deref(), Some("write 1048576"));
    }

    #[test]
    fn a_scope_of_containers_excludes_the_host_by_default() {
        let scope = |containers: &[&str], host| ScopeOptions {
            containers: containers.iter().map(ToString::to_string).collect(),
            host,
            ..ScopeOptions::default()
        };
        let seen = |scope: ScopeOptions| {
            let settings = scope.settings();
            (settings.by_cgroup, settings.unlisted, scope.host())
        };
        assert_eq!(seen(scope(&[], None)), (0, 1, true));
        assert_eq!(seen(scope(&[], Some(false))), (1, 1, false));
        assert_eq!(seen(scope(&["web*"], None)), (1, 0, false));
        assert_eq!(seen(scope(&["web*"], Some(true))), (1, 0, true));
        assert_eq!(seen(scope(&["!web*"], None)), (1, 1, false));
        assert!(scope(&[], Some(true)).is_everything());
        assert!(!scope(&[], Some(false)).is_everything());
        assert!(!ScopeOptions { uids: vec![0], ..ScopeOptions::default() }.is_everything());
    }

    #[test]
    fn every_mistake_in_a_scope_is_reported() {
        let scope = ScopeOptions {
            containers: vec!["[".into()],
            uids: vec![0; 17],
            comms: vec!["a-name-of-16-byte".into(), String::new()],
            results: Results::Failed,
            ..ScopeOptions::default()
        };
        let keys: Vec<_> = scope.problems(false).into_iter().map(|p| p.key).collect();
        let comms = "scope.comms";
        assert_eq!(keys, ["scope.containers", "scope.uids", comms, comms, "scope.results"]);
        assert_eq!(ScopeOptions::default().problems(false), []);
    }

    #[test]
    fn a_budget_becomes_a_cost_and_a_room() {
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
