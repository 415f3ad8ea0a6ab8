//! Compiles the rules for one type of events: for each kind, the conditions that such an event can
//! meet.

use whalewatch_core::Schema;
use whalewatch_kit::{Filled, Test, fields::Selected};

use crate::context::ProgramFields;
use crate::rule::{Rule, Shape};

/// The rules compiled for one type of events.
pub(crate) struct ByType {
    pub(crate) candidates: Candidates,
    /// Where these events have the fields of [`crate::alert::About`].
    pub(crate) about: [Selected; 5],
    pub(crate) program: ProgramFields,
}

/// The candidates by kind.
pub(crate) struct Candidates {
    all: Vec<Candidate>,
    kinds: Vec<(&'static str, Vec<Candidate>)>,
}

/// A rule, or one step of it, that events of one kind can match.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) rule: usize,
    pub(crate) step: usize,
    /// Whether this is the last step.
    pub(crate) last: bool,
    pub(crate) test: Test,
    /// Only for the last step.
    pub(crate) except: Option<Test>,
    /// Whether the condition or the exception uses fields of earlier steps.
    pub(crate) refers: bool,
    /// Number of such fields in the whole rule.
    pub(crate) references: usize,
    /// Fields of this step that later steps use, with their indexes among them.
    pub(crate) captures: Box<[(usize, Selected)]>,
    pub(crate) key: Box<[Selected]>,
    pub(crate) distinct: Option<Selected>,
    /// Only for the last step.
    pub(crate) description: Option<Filled>,
}

impl ByType {
    /// # Errors
    /// If a rule does not match such events.
    pub(crate) fn new(schema: &Schema, rules: &[Rule], host: &str) -> Result<Self, String> {
        let mut all = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            // The last step first, so that one event is never two steps of one sequence.
            for step in (0..rule.steps.len()).rev() {
                all.push(fit(rule, place, step, schema, host)?);
            }
        }
        let extra: Vec<_> = crate::context::fields().collect();
        let about = [
            "process.executable.path",
            "process.command_args",
            "parent.comm",
            "parent.executable.path",
            "ancestors.comm",
        ];
        Ok(Self {
            candidates: Candidates { all, kinds: Vec::new() },
            about: about.map(|name| Selected::new_with(schema, &extra, name)),
            program: ProgramFields::new(schema),
        })
    }
}

impl Candidates {
    /// Returns the candidates of one kind. A type has few kinds, so a list is the fastest map.
    pub(crate) fn of(&mut self, kind: &'static str) -> &mut [Candidate] {
        let place = self.kinds.iter().position(|(known, _)| *known == kind);
        let place = place.unwrap_or_else(|| self.add(kind));
        &mut self.kinds[place].1
    }

    #[cold]
    fn add(&mut self, kind: &'static str) -> usize {
        let of_kind = |candidate: &Candidate| {
            let test = candidate.test.for_kind(kind);
            (!test.never()).then(|| Candidate { test, ..candidate.clone() })
        };
        self.kinds.push((kind, self.all.iter().filter_map(of_kind).collect()));
        self.kinds.len() - 1
    }
}

fn fit(
    rule: &Rule,
    place: usize,
    step: usize,
    schema: &Schema,
    host: &str,
) -> Result<Candidate, String> {
    let failed = |problems: Vec<whalewatch_core::Problem>| {
        let messages: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
        let (rule, events) = (&rule.name, schema.name);
        format!(
            "the rule \"{rule}\" cannot be evaluated on {events} events: {}",
            messages.join("; ")
        )
    };
    let extra = &rule.extra;
    let select = |name: &str| Selected::new_with(schema, extra, name);
    let last = step + 1 == rule.steps.len();
    let when = &rule.steps[step].when;
    let except = rule.except.as_ref().filter(|_| last);
    let referred = |name: &str| extra[crate::context::COUNT..].iter().any(|e| e.name == name);
    let captures = rule.references.iter().enumerate().filter(|(_, of)| of.step == step);
    Ok(Candidate {
        rule: place,
        step,
        last,
        test: when.compile_with(schema, None, extra).map_err(failed)?,
        except: except
            .map(|except| except.compile_with(schema, None, extra))
            .transpose()
            .map_err(failed)?,
        refers: when.names().into_iter().any(referred),
        references: rule.references.len(),
        captures: captures.map(|(i, of)| (i, select(&of.field))).collect(),
        key: rule.by.iter().map(|name| select(name)).collect(),
        distinct: match &rule.shape {
            Shape::Count { distinct: Some(field), .. } => Some(select(field)),
            _ => None,
        },
        description: last.then(|| rule.description.fill_with(schema, extra, host)),
    })
}
