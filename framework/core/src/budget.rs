//! What a tracker tells when its budget keeps events of a container back.

use crate::event::Event;
use crate::field::{Field, FieldInfo, Type, Value};
use crate::process::Process;
use crate::time::Timestamp;

/// What became of a container's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetState {
    /// Events are refused from now on.
    Exceeded,
    /// Events were refused meanwhile.
    Refused,
    /// No event was refused for a whole interval.
    Ended,
}

/// A tracker refused events of a cgroup, whose budget was used up. Told when it begins, each
/// `interval` while it goes on, and when it is over; what they say adds up to what was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetEvent {
    /// What is told.
    pub state: BudgetState,
    /// When.
    pub time: Timestamp,
    /// The cgroup.
    pub cgroup: u64,
    /// Events that were refused since it was told last.
    pub refused: u64,
    /// Events that were refused since the tracker was attached.
    pub refused_total: u64,
    /// Events that the budget lets through each second.
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
        field("budget.refused", "events refused since it was told last", |e| {
            Value::Uint(e.refused)
        }),
        field("budget.refused_total", "events refused since watching began", |e| {
            Value::Uint(e.refused_total)
        }),
        field("budget.events_per_second", "events that the budget lets through", |e| {
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
