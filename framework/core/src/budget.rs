//! The events by which a tracker reports that it refuses events over its budget.

use crate::event::Event;
use crate::field::{Field, FieldInfo, Type, Value};
use crate::process::Process;
use crate::time::Timestamp;

/// The state of a cgroup's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetState {
    /// The tracker started to refuse events.
    Exceeded,
    /// The tracker refused more events.
    Refused,
    /// The tracker refused no event for a whole interval.
    Ended,
}

/// A report that a tracker refused events of a cgroup over its budget. There is one when this
/// starts, one per `interval` while it lasts, and one when it ends. Their counts add up to all
/// refused events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetEvent {
    /// Whether refusing starts, lasts or ends.
    pub state: BudgetState,
    /// When the report was made.
    pub time: Timestamp,
    /// The cgroup.
    pub cgroup: u64,
    /// Events refused since the last report.
    pub refused: u64,
    /// Events refused since the tracker was attached.
    pub refused_total: u64,
    /// Events per second that the budget permits.
    pub events_per_second: u32,
}

const fn field(
    name: &'static str,
    doc: &'static str,
    get: fn(&BudgetEvent) -> Value<'_>,
) -> Field<BudgetEvent> {
    Field { info: FieldInfo { name, ty: Type::Uint, doc }, get }
}

impl Event for BudgetEvent {
    const NAME: &'static str = "budget";
    const KINDS: &'static [&'static str] = &["budget.exceeded", "budget.refused", "budget.ended"];
    const FIELDS: &'static [Field<Self>] = &[
        field("cgroup.id", "id of the cgroup", |e| Value::Uint(e.cgroup)),
        field("budget.refused", "events refused since the last report", |e| Value::Uint(e.refused)),
        field("budget.refused_total", "events refused since the tracker was attached", |e| {
            Value::Uint(e.refused_total)
        }),
        field("budget.events_per_second", "events per second that the budget permits", |e| {
            Value::Uint(e.events_per_second.into())
        }),
    ];

    fn kind(&self) -> &'static str {
        match self.state {
            BudgetState::Exceeded => "budget.exceeded",
            BudgetState::Refused => "budget.refused",
            BudgetState::Ended => "budget.ended",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        None
    }

    fn cgroup(&self) -> Option<u64> {
        Some(self.cgroup)
    }
}
