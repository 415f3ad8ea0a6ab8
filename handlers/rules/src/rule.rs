//! A parsed rule: its conditions, and which events match it.

use std::time::Duration;

use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::{Condition, Extra, Template, fields};

use crate::context;
use crate::options::{RuleOptions, Severity, StepOptions};

/// Maximum number of steps.
const MAX_STEPS: usize = 8;
/// Largest `count`.
const MAX_COUNT: u32 = 10_000;
/// Maximum number of fields in `by`.
const MAX_BY: usize = 8;
/// Longest name, in bytes.
const LONGEST_NAME: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) severity: Severity,
    pub(crate) tags: Vec<String>,
    pub(crate) description: Template,
    /// One for each event of the sequence; most rules have one.
    pub(crate) steps: Vec<Step>,
    pub(crate) shape: Shape,
    /// The events that the rule ignores.
    pub(crate) except: Option<Condition>,
    /// The fields of the key.
    pub(crate) by: Vec<String>,
    pub(crate) cooldown: Option<Duration>,
    pub(crate) enabled: bool,
    /// Fields of earlier steps that later steps, the exception or the description use.
    pub(crate) references: Vec<Reference>,
    /// The fields of [`context`], followed by the references.
    pub(crate) extra: Vec<Extra>,
    /// Prefix of the rule's options in problems: `rules[3].`, or empty.
    key: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    name: Option<String>,
    pub(crate) when: Condition,
}

/// When a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// On each event.
    Each,
    /// When there are `count` events, or `count` different values of a field, within a time.
    Count { count: usize, within: Duration, distinct: Option<String> },
    /// When all steps have come within a time.
    Sequence { within: Duration },
    /// On the first event of each key, except for keys seen while learning.
    First { learn: Duration },
}

/// A field of an earlier step's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) step: usize,
    /// The field's name in that event: `file.path`.
    pub(crate) field: String,
}

impl Rule {
    /// Parses a rule. `key` is the prefix of its options in problems: `rules[3].`.
    ///
    /// # Errors
    /// All problems that can be found without knowing the input.
    pub(crate) fn read(
        options: &RuleOptions,
        key: &str,
        except: Option<&String>,
    ) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { key, problems: Vec::new() };
        reader.name(&options.name);
        let description = reader.description(options);
        let steps = reader.steps(options);
        let shape = reader.shape(options);
        let by = reader.by(&options.by);
        let except = except.and_then(|text| {
            let key = format!("except.{}", options.name);
            reader.take(Condition::parse(&key, text))
        });
        for tag in options.tags.iter().filter(|tag| tag.is_empty() || tag.contains('\0')) {
            reader.problem("tags", format!("{tag:?} is not a tag")).hint =
                Some("write for example \"T1059\"".into());
        }
        match (description, steps, shape) {
            (Some(description), Some(steps), Some(shape)) if reader.problems.is_empty() => {
                Ok(Self {
                    name: options.name.clone(),
                    severity: options.severity,
                    tags: options.tags.clone(),
                    description,
                    steps,
                    shape,
                    except,
                    by,
                    cooldown: options.cooldown.map(|HumanDuration(cooldown)| cooldown),
                    enabled: options.enabled,
                    references: Vec::new(),
                    extra: context::fields().collect(),
                    key: key.to_owned(),
                })
            }
            _ => Err(reader.problems),
        }
    }

    /// Finds the references to steps, and checks all fields against the input. Without `input`,
    /// checks only what does not need it.
    pub(crate) fn resolve(&mut self, input: &[Schema]) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.find_references(input, &mut problems);
        if input.is_empty() {
            return problems;
        }
        for step in &self.steps {
            problems.extend(step.when.check_with(input, &self.extra));
        }
        if let Some(except) = &self.except {
            problems.extend(except.check_with(input, &self.extra));
        }
        problems.extend(self.description.check_with(input, &self.extra));
        let distinct = match &self.shape {
            Shape::Count { distinct: Some(field), .. } => Some(("distinct", field)),
            _ => None,
        };
        for (option, name) in self.by.iter().map(|name| ("by", name)).chain(distinct) {
            let key = format!("{}{option}", self.key);
            problems.extend(fields::check_with(&key, name, input, &self.extra));
        }
        if problems.is_empty() {
            problems.extend(
                self.steps.iter().enumerate().filter_map(|(i, _)| self.check_reachable(i, input)),
            );
        }
        problems
    }

    /// Returns a problem if no incoming event can meet the condition of a step.
    fn check_reachable(&self, step: usize, input: &[Schema]) -> Option<Problem> {
        let when = &self.steps[step].when;
        let meets = |schema: &Schema| {
            let test = when.compile_with(schema, Some(input), &self.extra);
            test.is_ok_and(|test| schema.kinds.iter().any(|kind| !test.for_kind(kind).never()))
        };
        if input.iter().any(meets) {
            return None;
        }
        let key = if self.steps.len() == 1 {
            format!("{}when", self.key)
        } else {
            format!("{}steps[{step}].when", self.key)
        };
        let kinds: Vec<_> = input.iter().flat_map(|schema| schema.kinds).copied().collect();
        let hint = format!("the incoming kinds are {}", kinds.join(", "));
        Some(Problem::new(key, "no incoming event can meet this condition").hint(hint))
    }

    /// Finds names such as `write.file.path`, where `write` is the name of a step.
    fn find_references(&mut self, input: &[Schema], problems: &mut Vec<Problem>) {
        let names = |step: &Step| step.when.names().into_iter().map(str::to_owned).collect();
        let mut used: Vec<(usize, Vec<String>)> =
            self.steps.iter().map(names).enumerate().collect();
        let others = self.except.iter().flat_map(|except| except.names());
        let others = others.chain(self.description.names()).map(str::to_owned);
        used.push((self.steps.len(), others.collect()));
        for (at, names) in used {
            for name in names {
                let Some((first, field)) = name.split_once('.') else { continue };
                let named = |step: &Step| step.name.as_deref() == Some(first);
                let Some(step) = self.steps.iter().position(named) else { continue };
                if step >= at {
                    let key = format!("{}steps[{at}].when", self.key);
                    let message = format!("`{name}`: the step \"{first}\" is not an earlier step");
                    problems.push(Problem::new(key, message));
                }
                let own =
                    input.iter().find_map(|schema| schema.find(field)).map(|(info, _)| info.ty);
                let context = || context::fields().find(|extra| extra.name == field);
                let ty = own.or_else(|| context().map(|extra| extra.ty));
                if let Some(ty) = ty
                    && !self.extra.iter().any(|extra| extra.name == name)
                {
                    self.references.push(Reference { step, field: field.to_owned() });
                    self.extra.push(Extra { name, ty });
                }
            }
        }
    }

    /// Whether a word of `disable` or `enable` selects this rule.
    pub(crate) fn is_selected_by(&self, word: &str) -> bool {
        match word.strip_prefix("tag:") {
            Some(tag) => self.tags.iter().any(|own| own == tag),
            None => word == "*" || word == self.name,
        }
    }
}

/// Parses the options of one rule.
struct Reader<'a> {
    key: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, option: &str, message: impl Into<String>) -> &mut Problem {
        let key = format!("{}{option}", self.key);
        self.problems.push(Problem::new(key, message));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn name(&mut self, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
            let message = format!("{name:?} is not a valid rule name");
            let hint = format!("use letters, digits, - _ and ., at most {LONGEST_NAME}");
            self.problem("name", message).hint = Some(hint);
        }
    }

    fn description(&mut self, options: &RuleOptions) -> Option<Template> {
        let key = format!("{}description", self.key);
        self.take(Template::parse(&key, &options.description))
    }

    fn steps(&mut self, options: &RuleOptions) -> Option<Vec<Step>> {
        match (&options.when, options.steps.len()) {
            (Some(when), 0) => {
                let when = self.take(Condition::parse(&format!("{}when", self.key), when))?;
                Some(vec![Step { name: None, when }])
            }
            (None, 2..=MAX_STEPS) => {
                let steps = options.steps.iter().enumerate();
                steps.map(|(i, step)| self.step(i, step, &options.steps[..i])).collect()
            }
            (None, 0) => {
                self.problem("", "the rule has no condition").hint =
                    Some("set when = \"kind == 'process.exec' && …\", or steps".into());
                None
            }
            (Some(_), _) => {
                self.problem("when", "a rule cannot have both `when` and `steps`").hint =
                    Some("move the condition into the first step".into());
                None
            }
            (None, count) => {
                let message = format!("a sequence has 2 to {MAX_STEPS} steps, not {count}");
                self.problem("steps", message).hint =
                    (count == 1).then(|| "write `when` instead".into());
                None
            }
        }
    }

    fn step(&mut self, i: usize, step: &StepOptions, before: &[StepOptions]) -> Option<Step> {
        let key = |option| format!("steps[{i}].{option}");
        if let Some(name) = &step.name {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !starts || !name.chars().all(plain) {
                let message = format!("{name:?} is not a valid step name");
                self.problem(&key("name"), message).hint =
                    Some("use letters, digits and _, and a letter first".into());
            } else if before.iter().any(|other| other.name.as_ref() == Some(name)) {
                self.problem(&key("name"), format!("two steps are named \"{name}\""));
            } else if RESERVED.contains(&&**name) {
                let message = format!("\"{name}\" is reserved for fields of events");
                self.problem(&key("name"), message).hint = Some("choose another name".into());
            }
        }
        let when = Condition::parse(&format!("{}{}", self.key, key("when")), &step.when);
        Some(Step { name: step.name.clone(), when: self.take(when)? })
    }

    fn shape(&mut self, options: &RuleOptions) -> Option<Shape> {
        let before = self.problems.len();
        let within = options.within.map(|HumanDuration(within)| within);
        if within.is_some_and(|within| within.is_zero() || within > MAX_WITHIN) {
            self.problem("within", "`within` must be above 0s and at most 24h");
        }
        let sequence = !options.steps.is_empty();
        let shapes = [sequence, options.count.is_some(), options.first];
        if shapes.iter().filter(|set| **set).count() > 1 {
            let message = "`steps`, `count` and `first` cannot be combined";
            self.problem("", message).hint = Some("split it into two rules".into());
        }
        if let Some(count) = options.count
            && !(2..=MAX_COUNT).contains(&count)
        {
            self.problem("count", format!("`count` must be from 2 to {MAX_COUNT}, not {count}"));
        }
        for (set, option, needs) in [
            (options.distinct.is_some() && options.count.is_none(), "distinct", "count"),
            (options.learn.is_some() && !options.first, "learn", "first"),
            (within.is_some() && options.count.is_none() && !sequence, "within", "count or steps"),
        ] {
            if set {
                self.problem(option, format!("`{option}` needs {needs}"));
            }
        }
        if within.is_none() && (sequence || options.count.is_some()) {
            let hint = "write for example within = \"10s\"";
            self.problem("", "`within` is missing").hint = Some(hint.into());
        }
        if self.problems.len() > before {
            return None;
        }
        Some(match (options.count, within) {
            (Some(count), Some(within)) => {
                Shape::Count { count: count as usize, within, distinct: options.distinct.clone() }
            }
            (None, Some(within)) => Shape::Sequence { within },
            _ if options.first => {
                Shape::First { learn: options.learn.map_or(Duration::ZERO, |learn| learn.0) }
            }
            _ => Shape::Each,
        })
    }

    fn by(&mut self, by: &[String]) -> Vec<String> {
        if by.len() > MAX_BY {
            self.problem("by", format!("`by` can have at most {MAX_BY} fields"));
        }
        let mut fields = Vec::new();
        for name in by {
            match &**name {
                "container" => fields.push("container.id".to_owned()),
                "process" => {
                    fields.push("process.pid".to_owned());
                    fields.push("process.start_time".to_owned());
                }
                "parent" => {
                    fields.push("parent.pid".to_owned());
                    fields.push("parent.start_time".to_owned());
                }
                name => fields.push(name.to_owned()),
            }
        }
        fields
    }
}

/// Longest time for counts and sequences.
const MAX_WITHIN: Duration = Duration::from_hours(24);

/// First parts of the names of event fields. A step cannot have such a name.
const RESERVED: [&str; 11] = [
    "alert",
    "ancestors",
    "attribution",
    "container",
    "error",
    "file",
    "host",
    "kind",
    "parent",
    "process",
    "target",
];
