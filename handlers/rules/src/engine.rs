//! Evaluates the rules on events, in the order of their times.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{Attribution, Batch, OwnedValue, PerType, Texts, Timestamp, Value};
use whalewatch_kit::{Clock, Filled, Json, Subject, Test, fields::Selected, text};

use crate::alert::{About, Alert, Events, Facts};
use crate::context::{After, Seen, keep};
use crate::evidence::{Cause, Room};
use crate::fit::{ByType, Candidate};
use crate::processes::Processes;
use crate::rule::{Rule, Shape};
use crate::state::{LaterStep, Match, State};

/// Longest description, in bytes.
const LONGEST_DESCRIPTION: usize = 4096;

/// The rules with their state, and the table of processes.
pub(crate) struct Engine {
    rules: Vec<Rule>,
    facts: Vec<Arc<Facts>>,
    states: Vec<State>,
    types: PerType<ByType>,
    pub(crate) processes: Processes,
    tools: Tools,
    /// Time of the first evaluated event.
    started: Option<Timestamp>,
}

/// What is needed to build alerts.
struct Tools {
    host: Arc<str>,
    json: Json,
    clock: Clock,
    room: Arc<Room>,
    key: Vec<u8>,
    line: Vec<u8>,
    alerts: Vec<(Alert, Attribution)>,
}

/// The limits of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) cooldown: Duration,
    pub(crate) keys: usize,
    pub(crate) processes: usize,
    pub(crate) evidence: usize,
}

/// Counts of what was left out because of a limit or a cooldown, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Omitted {
    pub(crate) suppressed: u64,
    pub(crate) keys_evicted: u64,
    pub(crate) processes_evicted: u64,
    pub(crate) evidence_refused: u64,
}

impl Engine {
    pub(crate) fn new(rules: Vec<Rule>, host: &Arc<str>, bounds: Bounds) -> Self {
        let facts = rules.iter().map(|rule| {
            let tags = rule.tags.iter().flat_map(|tag| tag.bytes().chain([0]));
            let (rule, severity) = (rule.name.clone(), rule.severity);
            Arc::new(Facts { rule, severity, tags: tags.collect() })
        });
        let state = |rule: &Rule| {
            let cooldown = rule.cooldown.unwrap_or(bounds.cooldown);
            State::new(rule.shape.clone(), cooldown, bounds.keys)
        };
        Self {
            facts: facts.collect(),
            states: rules.iter().map(state).collect(),
            rules,
            types: PerType::new(),
            processes: Processes::new(bounds.processes),
            tools: Tools {
                host: Arc::clone(host),
                json: Json::new(host),
                clock: Clock::new(),
                room: Room::new(bounds.evidence),
                key: Vec::new(),
                line: Vec::new(),
                alerts: Vec::new(),
            },
            started: None,
        }
    }

    pub(crate) fn omitted(&self) -> Omitted {
        Omitted {
            suppressed: self.states.iter().map(|state| state.suppressed).sum(),
            keys_evicted: self.states.iter().map(State::evicted).sum(),
            processes_evicted: self.processes.evicted,
            evidence_refused: self.tools.room.refused(),
        }
    }

    /// Updates the table of processes from events.
    pub(crate) fn observe(&mut self, batch: &Batch, events: Range<usize>) {
        self.processes.prepare(batch);
        for event in events.filter_map(|i| batch.get(i)) {
            self.processes.update(event);
        }
    }

    /// Evaluates the rules on events. [`Engine::alerts`] returns the alerts.
    ///
    /// # Errors
    /// If a rule does not match events of this type; the check of the options reports that first.
    pub(crate) fn evaluate(&mut self, batch: &Batch, events: Range<usize>) -> Result<(), String> {
        let (rules, host) = (&self.rules, &self.tools.host);
        let place = self.types.try_place(batch, |schema| ByType::new(schema, rules, host))?;
        let plan = self.tools.json.plan(batch);
        let Self { types, states, facts, processes, tools, started, .. } = self;
        let ByType { candidates, about, program } = &mut types[place];
        for event in events.filter_map(|i| batch.get(i)) {
            let started = *started.get_or_insert(event.time());
            let candidates = candidates.of(event.kind());
            if candidates.is_empty() {
                continue;
            }
            let seen = Seen::new(event, processes, *program);
            for candidate in candidates {
                let state = &mut states[candidate.rule];
                let evaluation = Evaluation { seen: &seen, plan, about, started };
                if let Some(found) = evaluation.find_match(candidate, state, tools)
                    && let Some(repeats) = state.pass_cooldown(&tools.key, event.time())
                {
                    evaluation.raise_alert(
                        &found,
                        candidate,
                        &facts[candidate.rule],
                        repeats,
                        tools,
                    );
                }
            }
        }
        Ok(())
    }

    /// Takes the new alerts, each with its attribution.
    pub(crate) fn alerts(&mut self) -> Vec<(Alert, Attribution)> {
        std::mem::take(&mut self.tools.alerts)
    }
}

/// The evaluation of one event.
struct Evaluation<'a, 'e> {
    seen: &'a Seen<'e>,
    /// The JSON plan of the event's type.
    plan: usize,
    about: &'a [Selected; 5],
    /// Time of the first event of the run.
    started: Timestamp,
}

impl Evaluation<'_, '_> {
    /// Returns a match if the event completes one. Leaves the key in [`Tools::key`].
    fn find_match(
        &self,
        candidate: &Candidate,
        state: &mut State,
        tools: &mut Tools,
    ) -> Option<Match> {
        let now = self.seen.event.time();
        if let Shape::Sequence { .. } = state.shape() {
            return self.step(candidate, state, tools);
        }
        if !candidate.test.holds(self.seen) || is_excepted(candidate.except.as_ref(), self.seen) {
            return None;
        }
        self.key(candidate, tools);
        match state.shape() {
            Shape::First { .. } => {
                let key = std::mem::take(&mut tools.key);
                let first = state.first(&key, now, self.started);
                tools.key = key;
                first.then(|| self.single(tools))
            }
            Shape::Count { .. } => {
                let value = candidate.distinct.map_or(0, |field| hash(field.of(self.seen, "")));
                let key = std::mem::take(&mut tools.key);
                let found = state.count(&key, now, value, || self.cause(tools));
                tools.key = key;
                found
            }
            _ => Some(self.single(tools)),
        }
    }

    /// Evaluates a step of a sequence.
    fn step(&self, candidate: &Candidate, state: &mut State, tools: &mut Tools) -> Option<Match> {
        let now = self.seen.event.time();
        if candidate.step == 0 {
            if !candidate.test.holds(self.seen) {
                return None;
            }
            self.key(candidate, tools);
            let mut values = vec![OwnedValue::Null; candidate.references].into_boxed_slice();
            self.capture(candidate, &mut values);
            let cause = self.cause(tools);
            state.begin(&tools.key, now, values, cause, &tools.room);
            return None;
        }
        // Skips the condition if no sequence has started.
        if !state.has_started() || !candidate.refers && !candidate.test.holds(self.seen) {
            return None;
        }
        self.key(candidate, tools);
        let later = Later { evaluation: self, candidate };
        let (key, room) = (std::mem::take(&mut tools.key), Arc::clone(&tools.room));
        let found = state.advance(&key, now, &later, || self.cause(tools), &room);
        tools.key = key;
        found
    }

    fn single(&self, tools: &mut Tools) -> Match {
        let cause = self.cause(tools);
        Match { since: cause.time, causes: [cause].into(), count: 1, kept: None }
    }

    fn cause(&self, tools: &mut Tools) -> Cause {
        tools.line.clear();
        tools.json.event(&mut tools.line, self.plan, self.seen.event);
        let line = tools.line.strip_suffix(b"\n").unwrap_or(&tools.line);
        Cause::new(self.seen.event, line, &tools.room)
    }

    fn capture(&self, candidate: &Candidate, values: &mut [OwnedValue]) {
        for (place, field) in &candidate.captures {
            values[*place] = keep(field.of(self.seen, ""));
        }
    }

    /// Writes the key: the values of the fields in `by`.
    fn key(&self, candidate: &Candidate, tools: &mut Tools) {
        tools.key.clear();
        for field in &candidate.key {
            write_key(&mut tools.key, field.of(self.seen, &tools.host));
        }
    }

    fn raise_alert(
        &self,
        found: &Match,
        candidate: &mut Candidate,
        facts: &Arc<Facts>,
        repeats: u64,
        tools: &mut Tools,
    ) {
        let event = self.seen.event;
        let kept = found.kept.as_ref().map_or(&[][..], |kept| &kept.values);
        let after = After { seen: self.seen, kept };
        let description = candidate.description.as_mut();
        let alert = Alert {
            time: event.time(),
            process: event.process().copied(),
            target: event.target().copied(),
            cgroup: event.cgroup(),
            facts: Arc::clone(facts),
            description: description.map_or_else(Box::default, |filled| describe(filled, &after)),
            count: found.count,
            repeats,
            since: found.since,
            events: events(found, &mut tools.clock),
            about: self.about(),
        };
        tools.alerts.push((alert, event.attribution().clone()));
    }

    fn about(&self) -> About {
        let [path, args, parent_comm, parent_path, ancestors] = *self.about;
        let bytes = |field: Selected| match field.of(self.seen, "") {
            Value::Text(bytes) | Value::Texts(Texts(bytes)) => Some(bytes.into()),
            _ => None,
        };
        About {
            path: bytes(path),
            args: bytes(args),
            parent_comm: bytes(parent_comm),
            parent_path: bytes(parent_path),
            ancestors: bytes(ancestors),
        }
    }
}

/// An event that may be a later step of a sequence.
struct Later<'a, 'b, 'e> {
    evaluation: &'a Evaluation<'b, 'e>,
    candidate: &'a Candidate,
}

impl LaterStep for Later<'_, '_, '_> {
    fn step(&self) -> usize {
        self.candidate.step
    }

    fn is_last(&self) -> bool {
        self.candidate.last
    }

    fn fits(&self, kept: &[OwnedValue]) -> bool {
        let after = After { seen: self.evaluation.seen, kept };
        (!self.candidate.refers || self.candidate.test.holds(&after))
            && !is_excepted(self.candidate.except.as_ref(), &after)
    }

    fn capture(&self, kept: &mut [OwnedValue]) {
        self.evaluation.capture(self.candidate, kept);
    }
}

fn is_excepted(except: Option<&Test>, subject: impl Subject) -> bool {
    except.is_some_and(|except| except.holds(subject))
}

fn describe(filled: &mut Filled, on: &After<'_, '_>) -> Box<[u8]> {
    let mut out = Vec::new();
    filled.write(&mut out, on, text::visible);
    if out.len() > LONGEST_DESCRIPTION {
        let cut = String::from_utf8_lossy(&out[..LONGEST_DESCRIPTION]);
        // Remove a character that was cut in the middle.
        return cut.trim_end_matches(char::REPLACEMENT_CHARACTER).as_bytes().into();
    }
    out.into()
}

fn events(found: &Match, clock: &mut Clock) -> Events {
    let mut events = Events::default();
    for cause in &found.causes {
        events.kinds.extend_from_slice(cause.kind.as_bytes());
        events.kinds.push(0);
        clock.rfc3339(&mut events.times, cause.time);
        events.times.push(0);
        match cause.pid {
            Some(pid) => events.pids.extend_from_slice(pid.to_string().as_bytes()),
            None => events.pids.push(b'-'),
        }
        events.pids.push(0);
        if let Some(line) = cause.line() {
            events.lines.extend_from_slice(line);
            events.lines.push(0);
        }
    }
    events
}

/// How many bytes of a value are in a key unchanged. A longer value is these bytes and a hash of
/// the whole.
const LONGEST_IN_KEY: usize = 256;

/// Appends a value to a key, so that different sequences of values give different keys.
fn write_key(key: &mut Vec<u8>, value: Value<'_>) {
    let mut bytes = |tag: u8, bytes: &[u8]| {
        key.push(tag);
        key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        key.extend_from_slice(&bytes[..bytes.len().min(LONGEST_IN_KEY)]);
        if bytes.len() > LONGEST_IN_KEY {
            key.extend_from_slice(&hash_bytes(bytes).to_le_bytes());
        }
    };
    match value {
        Value::Null => key.push(0),
        Value::Bool(flag) => bytes(1, &[u8::from(flag)]),
        Value::Int(number) if number < 0 => bytes(2, &number.to_le_bytes()),
        Value::Int(number) => bytes(3, &number.to_le_bytes()),
        Value::Uint(number) => bytes(3, &number.to_le_bytes()),
        Value::Text(text) => bytes(4, text),
        Value::Texts(Texts(list)) => bytes(5, list),
        Value::Time(time) => bytes(6, &time.0.to_le_bytes()),
    }
}

fn hash(value: Value<'_>) -> u64 {
    let mut key = Vec::new();
    write_key(&mut key, value);
    hash_bytes(&key)
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
