//! A rule that was read: its conditions, and what becomes of events that meet them.

use std::time::Duration;

use whalewatch_core::{HumanDuration, Problem, Schema};
use whalewatch_kit::{Condition, Extra, Template, fields};

use crate::context;
use crate::options::{RuleOptions, Severity, StepOptions};

/// How many steps a rule may have.
const MOST_STEPS: usize = 8;
/// How many events a rule may count up to.
const MOST_COUNT: u32 = 10_000;
/// How many fields events may belong together by.
const MOST_BY: usize = 8;
/// How long a name may be, in bytes.
const LONGEST_NAME: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) severity: Severity,
    pub(crate) tags: Vec<String>,
    pub(crate) description: Template,
    /// One for each event in turn; most rules have one.
    pub(crate) steps: Vec<Step>,
    pub(crate) shape: Shape,
    /// What is left out.
    pub(crate) except: Option<Condition>,
    /// Fields by which events belong together.
    pub(crate) by: Vec<String>,
    pub(crate) cooldown: Option<Duration>,
    pub(crate) enabled: bool,
    /// Fields of earlier steps' events that later ones ask for.
    pub(crate) references: Vec<Reference>,
    /// The fields of [`context`] and then the references.
    pub(crate) extra: Vec<Extra>,
    /// Where it stands: `rules[3].`, or nothing.
    key: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    name: Option<String>,
    pub(crate) when: Condition,
}

/// When a rule tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Of each event.
    Each,
    /// Of so many events in a time, or so many values of a field.
    Count { count: usize, within: Duration, distinct: Option<String> },
    /// When all steps have come within a time.
    Sequence { within: Duration },
    /// Of the first event of each key, but for those of the beginning.
    First { learn: Duration },
}

/// A field of an earlier step's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) step: usize,
    /// Its name in the event: `file.path`.
    pub(crate) field: String,
}

impl Rule {
    /// Reads a rule; `key` is what its options stand below: `rules[3].`.
    ///
    /// # Errors
    /// Everything that is wrong with it, but for what depends on the events that come in.
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
            reader.problem("tags", format!("{tag:?} is no tag")).hint =
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

    /// Finds the references to steps, and checks everything against the events that come in.
    /// Without `input` only what needs none.
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
            problems
                .extend(self.steps.iter().enumerate().filter_map(|(i, _)| self.never(i, input)));
        }
        problems
    }

    /// A step whose condition no event that comes in can meet.
    fn never(&self, step: usize, input: &[Schema]) -> Option<Problem> {
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
        let hint = format!("what comes in is {}", kinds.join(", "));
        Some(Problem::new(key, "no event that comes here can meet this condition").hint(hint))
    }

    /// Names like `write.file.path`, where a step is named `write`.
    fn find_references(&mut self, input: &[Schema], problems: &mut Vec<Problem>) {
        let names = |step: &Step| step.when.names().into_iter().map(str::to_owned).collect();
        let mut asked: Vec<(usize, Vec<String>)> =
            self.steps.iter().map(names).enumerate().collect();
        let others = self.except.iter().flat_map(|except| except.names());
        let others = others.chain(self.description.names()).map(str::to_owned);
        asked.push((self.steps.len(), others.collect()));
        for (asking, names) in asked {
            for name in names {
                let Some((first, field)) = name.split_once('.') else { continue };
                let named = |step: &Step| step.name.as_deref() == Some(first);
                let Some(step) = self.steps.iter().position(named) else { continue };
                if step >= asking {
                    let key = format!("{}steps[{asking}].when", self.key);
                    let message = format!("`{name}`: the step \"{first}\" does not come before");
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

    /// Whether a word of `disable` or `enable` means it.
    pub(crate) fn is_meant(&self, word: &str) -> bool {
        match word.strip_prefix("tag:") {
            Some(tag) => self.tags.iter().any(|own| own == tag),
            None => word == "*" || word == self.name,
        }
    }
}

/// Reads the options of one rule.
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
            let message = format!("{name:?} is no name of a rule");
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
            (None, 2..=MOST_STEPS) => {
                let steps = options.steps.iter().enumerate();
                steps.map(|(i, step)| self.step(i, step, &options.steps[..i])).collect()
            }
            (None, 0) => {
                self.problem("", "nothing says which events it is about").hint =
                    Some("set when = \"kind == 'process.exec' && …\", or steps".into());
                None
            }
            (Some(_), _) => {
                self.problem("when", "a rule has either `when` or `steps`").hint =
                    Some("put the condition into the first of the steps".into());
                None
            }
            (None, count) => {
                let message = format!("a rule has from 2 to {MOST_STEPS} steps, not {count}");
                self.problem("steps", message).hint = (count == 1).then(|| "write `when`".into());
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
                let message = format!("{name:?} cannot name a step");
                self.problem(&key("name"), message).hint =
                    Some("use letters, digits and _: write".into());
            } else if before.iter().any(|other| other.name.as_ref() == Some(name)) {
                self.problem(&key("name"), format!("two steps are named \"{name}\""));
            } else if RESERVED.contains(&&**name) {
                let message = format!("\"{name}\" names fields of every event");
                self.problem(&key("name"), message).hint = Some("name the step otherwise".into());
            }
        }
        let when = Condition::parse(&format!("{}{}", self.key, key("when")), &step.when);
        Some(Step { name: step.name.clone(), when: self.take(when)? })
    }

    fn shape(&mut self, options: &RuleOptions) -> Option<Shape> {
        let before = self.problems.len();
        let within = options.within.map(|HumanDuration(within)| within);
        if within.is_some_and(|within| within.is_zero() || within > MOST_WITHIN) {
            self.problem("within", "`within` is from above 0s to 24h");
        }
        let sequence = !options.steps.is_empty();
        let shapes = [sequence, options.count.is_some(), options.first];
        if shapes.iter().filter(|set| **set).count() > 1 {
            let message = "`steps`, `count` and `first` cannot stand together";
            self.problem("", message).hint = Some("make two rules of it".into());
        }
        if let Some(count) = options.count
            && !(2..=MOST_COUNT).contains(&count)
        {
            self.problem("count", format!("`count` is from 2 to {MOST_COUNT}, not {count}"));
        }
        for (set, option, needs) in [
            (options.distinct.is_some() && options.count.is_none(), "distinct", "count"),
            (options.learn.is_some() && !options.first, "learn", "first"),
            (within.is_some() && options.count.is_none() && !sequence, "within", "count or steps"),
        ] {
            if set {
                self.problem(option, format!("`{option}` goes with {needs}"));
            }
        }
        if within.is_none() && (sequence || options.count.is_some()) {
            let hint = "set within = \"10s\", say";
            self.problem("", "nothing says in what time").hint = Some(hint.into());
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
        if by.len() > MOST_BY {
            self.problem("by", format!("events belong together by at most {MOST_BY} fields"));
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

/// The longest time that counts and steps can be over.
const MOST_WITHIN: Duration = Duration::from_hours(24);

/// What fields of every event are in, so that no step can be named so.
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
