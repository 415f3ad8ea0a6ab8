//! Options of the `rules` handler and of rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::HumanDuration;

/// Options of the `rules` handler.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RulesOptions {
    /// Whether to enable the built-in rules; `docs/handlers/rules.md` lists them. A built-in rule
    /// about events that do not come in is idle.
    pub pack: bool,
    /// Your own rules, as tables: `[[handlers.NAME.rules]]`. Keys: name, severity, description,
    /// tags, when or steps, count, distinct, within, first, learn, by, cooldown, enabled. A rule
    /// with the name of a built-in rule replaces it.
    #[schemars(with = "Vec<BTreeMap<String, String>>")]
    pub rules: Vec<RuleOptions>,
    /// Files with rules, as `[[rules]]` tables, and folders with such files, whose names end in
    /// `.toml`. They are read when the run begins. Paths are relative to the working directory.
    pub files: Vec<PathBuf>,
    /// The rules to disable: by name, by tag (`tag:T1059`), or all (`*`).
    pub disable: Vec<String>,
    /// The rules to enable although `enabled` or `disable` disables them: by name, by tag
    /// (`tag:T1059`), or all (`*`).
    pub enable: Vec<String>,
    /// Exceptions from rules: the name of a rule, and a condition on events that it ignores:
    /// `shell-from-server = "container.name == 'ci'"`.
    pub except: BTreeMap<String, String>,
    /// Whether to pass incoming events on together with the alerts. Otherwise they are counted as
    /// filtered.
    pub pass: bool,
    /// How long to keep events so that events of different trackers can be sorted by time. An event
    /// that comes later is evaluated on arrival and counted as late. Use a value well above the
    /// container manager's `hold`, for containers whose names come late. Alerts are delayed by this
    /// time, or by twice as much when few events come. At most "1m".
    pub order: HumanDuration,
    /// How long a rule is quiet about a key (see `by`) after an alert, by the times of the events.
    /// The next alert says how many were suppressed. "0s" suppresses none. A rule can have its own
    /// `cooldown`.
    pub cooldown: HumanDuration,
    /// The maximum number of keys that each rule keeps: for its counts, its sequences and its quiet
    /// times, each. From 1 to 1000000. A new key replaces the one that was silent for the longest
    /// time.
    pub max_keys: u32,
    /// The maximum number of processes to remember, for conditions on parents and ancestors: from
    /// 16 to 4000000.
    pub max_processes: u32,
    /// The maximum number of events to keep for `order`, from 256 to 10000000. Beyond it, the
    /// oldest are evaluated at once.
    pub max_waiting: u32,
    /// The memory for events of possible alerts, in KiB, from 64 to 1048576. When it is full,
    /// alerts have the times, kinds and pids of their events, but not the events themselves.
    pub max_evidence_kib: u32,
}

impl Default for RulesOptions {
    fn default() -> Self {
        Self {
            pack: true,
            rules: Vec::new(),
            files: Vec::new(),
            disable: Vec::new(),
            enable: Vec::new(),
            except: BTreeMap::new(),
            pass: false,
            order: HumanDuration(Duration::from_secs(1)),
            cooldown: HumanDuration(Duration::from_mins(5)),
            max_keys: 10_000,
            max_processes: 65_536,
            max_waiting: 200_000,
            max_evidence_kib: 16_384,
        }
    }
}

/// How serious a match of a rule is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unusual, mostly harmless.
    Low,
    /// Should be investigated.
    #[default]
    Medium,
    /// Most likely an attack or a serious mistake.
    High,
    /// A container accesses, or is about to access, the host or another container.
    Critical,
}

impl Severity {
    /// Returns the name that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Returns a number from 1 for info to 5 for critical.
    pub fn level(self) -> u64 {
        self as u64 + 1
    }
}

/// A rule, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleOptions {
    /// The rule's name: unique, of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The severity: "info", "low", "medium", "high" or "critical".
    #[serde(default)]
    pub severity: Severity,
    /// What happened, for people. Can contain fields of the event in braces:
    /// `{process.comm} opened {file.path}`.
    #[serde(default)]
    pub description: String,
    /// Words to select the rule by, for example techniques of MITRE ATT&CK.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The condition on an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Conditions on several events in sequence, from 2 to 8, instead of `when`. All steps must
    /// come `within` a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepOptions>,
    /// The rule matches only if there are this many events `within` a time: from 2 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Count only different values of this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<String>,
    /// The time for `count` and `steps`, at most "24h".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<HumanDuration>,
    /// The rule matches only the first event of each key, see `by`.
    #[serde(default)]
    pub first: bool,
    /// With `first`: keys of events in this time after the first event are considered normal and
    /// cause no alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<HumanDuration>,
    /// Which events belong together: those with the same values of these fields. `container`,
    /// `process` and `parent` stand for their identifying fields.
    #[serde(default = "by_container")]
    pub by: Vec<String>,
    /// How long the rule is quiet about a key after an alert. Default: the handler's `cooldown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<HumanDuration>,
    /// Whether the rule is enabled.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// One step of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepOptions {
    /// A name by which later steps and the description refer to this step's event: with the name
    /// `write`, to `write.file.path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The condition on the event.
    pub when: String,
}

fn by_container() -> Vec<String> {
    vec!["container".to_owned()]
}

fn yes() -> bool {
    true
}
