//! Options of the `rules` handler, and what a rule is written as.

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
    /// Whether the rules that come with Whalewatch are on; `docs/handlers/rules.md` lists them.
    /// Those about events that do not come in are idle.
    pub pack: bool,
    /// Rules of your own, as tables: `[[handlers.NAME.rules]]`. Keys: name, severity, description,
    /// tags, when or steps, count, distinct, within, first, learn, by, cooldown, enabled. One with
    /// the name of a rule of the pack takes its place.
    #[schemars(with = "Vec<BTreeMap<String, String>>")]
    pub rules: Vec<RuleOptions>,
    /// Files with rules, as `[[rules]]` tables, and folders with files whose names end in `.toml`.
    /// Read when the run begins; relative to the folder that the program runs in.
    pub files: Vec<PathBuf>,
    /// Rules to switch off: by name, by tag (`tag:T1059`), or all (`*`).
    pub disable: Vec<String>,
    /// Rules to switch on, be they off by themselves or by `disable`: by name, by tag
    /// (`tag:T1059`), or all (`*`).
    pub enable: Vec<String>,
    /// For a rule, by its name, a condition on events that it leaves out:
    /// `shell-from-server = "container.name == 'ci'"`.
    pub except: BTreeMap<String, String>,
    /// Whether the events that come in go on as well. If not, only alerts do, and all else is
    /// counted as filtered.
    pub pass: bool,
    /// How long events are kept so that those of different trackers can be put in the order of
    /// their times. What comes later than that is looked at when it comes, and counted late. Well
    /// over the container manager's `hold`, for containers whose names come late. Alerts come that
    /// much later, at a quiet time twice that. At most "1m".
    pub order: HumanDuration,
    /// How long a rule is quiet about a key (see `by`) once it has told; the next alert says how
    /// often it would have. By the times of the events. "0s" to tell each time. A rule may have its
    /// own.
    pub cooldown: HumanDuration,
    /// How many keys each rule remembers, for its counts, its steps and its quiet times, each: from
    /// 1 to 1000000. The one that was silent longest makes room for a new one.
    pub max_keys: u32,
    /// How many processes are remembered, for what conditions ask of parents: from 16 to 4000000.
    pub max_processes: u32,
    /// How many events are kept at most for `order`, from 256 to 10000000; beyond, the oldest are
    /// looked at at once.
    pub max_waiting: u32,
    /// How many KiB of events are kept at most for alerts that may come of them, from 64 to
    /// 1048576; beyond, an alert tells the times, kinds and pids of its events without the events
    /// themselves.
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

/// How bad it is if a rule is right.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unusual, mostly harmless.
    Low,
    /// Should be looked at.
    #[default]
    Medium,
    /// Most likely an attack or a grave mistake.
    High,
    /// A container reaches, or is about to reach, the host or another container.
    Critical,
}

impl Severity {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// From 1 for info to 5 for critical.
    pub fn level(self) -> u64 {
        self as u64 + 1
    }
}

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleOptions {
    /// Its name: unique, of letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// How bad it is: "info", "low", "medium", "high" or "critical".
    #[serde(default)]
    pub severity: Severity,
    /// What happened, for people: a text with fields of the event in it:
    /// `{process.comm} opened {file.path}`.
    #[serde(default)]
    pub description: String,
    /// Words to select by: techniques of MITRE ATT&CK, say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The condition on an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Conditions on several events that follow each other, `within` a time, instead of `when`:
    /// from 2 to 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepOptions>,
    /// Tell only if there are that many events `within` a time: from 2 to 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Count only events in which this field has a value that it has not had in the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<String>,
    /// The time for `count` and `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<HumanDuration>,
    /// Tell only the first event of each key, see `by`.
    #[serde(default)]
    pub first: bool,
    /// For `first`: keys that are met in this time from the first event on are taken for normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<HumanDuration>,
    /// Events with the same values of these belong together: names of fields; `container`,
    /// `process` and `parent` stand for what makes those unique.
    #[serde(default = "by_container")]
    pub by: Vec<String>,
    /// How long it is quiet about a key once it has told; not set for that of the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<HumanDuration>,
    /// Whether it is on.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// One of several events that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepOptions {
    /// A name by which later steps and the description reach this step's event: `write`, for
    /// `write.file.path`.
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
