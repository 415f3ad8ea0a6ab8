//! Reads the parts of a configuration: trackers, handlers, and the chains that join them.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use whalewatch_core::Problem;

use super::options::{OptionTable, Position, read};
use super::{Diagnostic, Span, flow, scenarios};
use crate::config::names::suggest;
use crate::plan::{Plan, PlannedChain, PlannedHandler, PlannedTest, PlannedTracker};
use crate::queue::QueueOptions;
use crate::registry::{ConfiguredHandler, ConfiguredTracker, Registry};

/// A part that the text declares, or that a chain names by its type alone.
pub(super) struct Part<C> {
    pub(super) name: String,
    pub(super) type_name: String,
    /// The place of the name.
    pub(super) span: Span,
    /// `None` if the options have mistakes.
    pub(super) configured: Option<C>,
    /// Options of the queue; unused for a tracker.
    pub(super) queue: QueueOptions,
    /// Whether no option is set.
    pub(super) plain: bool,
    /// Whether a chain names the part.
    pub(super) used: bool,
    /// The place of each option's value, by dotted name.
    pub(super) values: BTreeMap<String, Span>,
}

pub(super) type TrackerPart = Part<Box<dyn ConfiguredTracker>>;
pub(super) type HandlerPart = Part<Box<dyn ConfiguredHandler>>;

/// A chain of the text, with its names resolved.
pub(super) struct ChainPart {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) from: Vec<usize>,
    pub(super) through: Vec<(usize, Span)>,
    /// Whether every name was found. If not, the flow of events cannot be checked.
    pub(super) resolved: bool,
}

/// The types that a part can have.
struct Known<'a> {
    types: Vec<&'a String>,
    /// The types that this build of the program lacks, each with how to get it.
    absent: Option<&'a BTreeMap<String, String>>,
}

impl Known<'_> {
    fn list(&self) -> String {
        let names: Vec<&str> = self.types.iter().map(|name| name.as_str()).collect();
        names.join(", ")
    }

    /// Returns what to say about a type that is not known.
    fn hint(&self, name: &str) -> Option<String> {
        let absent = self.absent.and_then(|absent| absent.get(name)).cloned();
        absent.or_else(|| suggest(name, self.types.iter().map(|known| known.as_str())))
    }
}

/// The parts that have been read so far.
pub(super) struct Reader<'a> {
    pub(super) registry: &'a Registry,
    pub(super) text: &'a str,
    pub(super) trackers: Vec<TrackerPart>,
    pub(super) handlers: Vec<HandlerPart>,
    /// Names of parts that are declared but could not be kept. Their mistake is reported once, at
    /// the declaration, and not again where a chain names them.
    broken: Vec<String>,
    pub(super) found: &'a mut Vec<Diagnostic>,
}

/// Reads a document. Adds mistakes to `found`. The plan is complete only if there are none.
pub(super) fn read_document(
    registry: &Registry,
    text: &str,
    document: DeTable<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Plan> {
    let (trackers, handlers, broken) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader { registry, text, trackers, handlers, broken, found };
    let (mut chains, mut tests) = (None, None);
    for (key, value) in document {
        match key.get_ref().as_ref() {
            "trackers" => reader.declared(&value, Reader::tracker),
            "handlers" => reader.declared(&value, Reader::handler),
            "chains" => chains = Some(value),
            "tests" => tests = Some(value),
            name if registry.handlers.get(name).is_some_and(|h| h.properties().shared) => {
                let name = name.to_owned();
                reader.handler(&name, key.span(), value, Some(&name));
            }
            name => {
                let shared = registry.handlers.iter().filter(|(_, h)| h.properties().shared);
                let known = shared.map(|(name, _)| &**name);
                let known = ["trackers", "handlers", "chains", "tests"].into_iter().chain(known);
                let hint = suggest(name, known);
                let unknown = format!("unknown table or key \"{name}\"");
                reader.found.push(Diagnostic::new(key.span(), unknown).maybe_hint(hint));
            }
        }
    }
    let chains = reader.chains(chains.as_ref());
    let tests = tests.map(|value| scenarios::read(&mut reader, &value, &chains));
    let tests = tests.unwrap_or_default();
    reader.refuse_unused();
    let needs = flow::check(&mut reader, &chains);
    plan(reader, chains, &needs, tests)
}

/// Makes the plan. `needs` has for each tracker the handlers that need it.
fn plan(
    reader: Reader<'_>,
    chains: Vec<ChainPart>,
    needs: &[Vec<usize>],
    tests: Vec<PlannedTest>,
) -> Option<Plan> {
    let trackers = reader.trackers.into_iter().zip(needs).map(|(part, needed_by)| {
        Some(PlannedTracker {
            name: part.name,
            type_name: part.type_name,
            tracker: part.configured?,
            needed_by: needed_by.clone(),
        })
    });
    let trackers = trackers.collect::<Option<Vec<_>>>()?;
    let registry = reader.registry;
    let handlers = reader.handlers.into_iter().map(|part| {
        Some(PlannedHandler {
            shared: registry.handlers.get(&part.type_name)?.properties().shared,
            name: part.name,
            type_name: part.type_name,
            queue: part.queue,
            handler: part.configured?,
        })
    });
    let handlers = handlers.collect::<Option<Vec<_>>>()?;
    let chains = chains.into_iter().map(|chain| PlannedChain {
        name: chain.name,
        from: chain.from,
        through: chain.through.into_iter().map(|(handler, _)| handler).collect(),
    });
    Some(Plan { trackers, handlers, chains: chains.collect(), tests })
}

impl Reader<'_> {
    /// Adds a mistake, and returns it so that a hint can be set.
    pub(super) fn report_at(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.found.push(Diagnostic::new(span, message));
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// Reads `[trackers.*]` or `[handlers.*]`.
    fn declared<'i>(
        &mut self,
        value: &Spanned<DeValue<'i>>,
        part: fn(&mut Self, &str, Span, Spanned<DeValue<'i>>, Option<&str>),
    ) {
        let Some(table) = value.get_ref().as_table() else {
            self.report_at(value.span(), "expected a table with one table per part");
            return;
        };
        for (key, value) in table {
            part(self, key.get_ref(), key.span(), value.clone(), None);
        }
    }

    fn tracker(
        &mut self,
        name: &str,
        span: Span,
        value: Spanned<DeValue<'_>>,
        type_name: Option<&str>,
    ) {
        let registry = self.registry;
        let known = Known { types: registry.trackers.keys().collect(), absent: None };
        let head = self.head("tracker", name, &span, value, type_name, &known);
        let Some(head) = head else {
            self.broken.push(name.to_owned());
            return;
        };
        let mut problems = Vec::new();
        let kind = &registry.trackers[&head.type_name];
        let configured = kind.configure(head.options, &mut problems);
        self.report("tracker", name, &head.values, problems);
        self.trackers.push(Part {
            name: name.to_owned(),
            type_name: head.type_name,
            span,
            configured,
            queue: QueueOptions::default(),
            plain: head.values.is_empty(),
            used: false,
            values: head.values,
        });
    }

    fn handler(
        &mut self,
        name: &str,
        span: Span,
        value: Spanned<DeValue<'_>>,
        type_name: Option<&str>,
    ) {
        if self.handlers.iter().any(|part| part.name == name) {
            self.report_at(span, format!("handler \"{name}\" is declared twice"))
                .hint
                .replace(format!("use either [{name}] or [handlers.{name}]"));
            return;
        }
        let registry = self.registry;
        let absent = Some(&registry.absent_handlers);
        let known = Known { types: registry.handlers.keys().collect(), absent };
        let head = self.head("handler", name, &span, value, type_name, &known);
        let Some(mut head) = head else {
            self.broken.push(name.to_owned());
            return;
        };
        let mut problems = Vec::new();
        let kind = &registry.handlers[&head.type_name];
        let own = head.options.split(&QueueOptions::KEYS);
        let queue = read::<QueueOptions>(own, &mut problems, QueueOptions::check);
        let configured = kind.configure(head.options, &mut problems);
        self.report("handler", name, &head.values, problems);
        self.handlers.push(Part {
            name: name.to_owned(),
            type_name: head.type_name,
            span,
            configured,
            queue: queue.unwrap_or_default(),
            plain: head.values.is_empty(),
            used: false,
            values: head.values,
        });
    }

    /// Reads what all parts have in common: a table with a known `type`.
    fn head<'i>(
        &mut self,
        what: &str,
        name: &str,
        span: &Span,
        value: Spanned<DeValue<'i>>,
        type_name: Option<&str>,
        known: &Known<'_>,
    ) -> Option<Head<'i>> {
        let at = value.span();
        let DeValue::Table(mut table) = value.into_inner() else {
            self.report_at(at, format!("{what} \"{name}\" must be a table"))
                .hint
                .replace(format!("write [{what}s.{name}], and type = \"…\" below it"));
            return None;
        };
        let type_name = match type_name {
            Some(type_name) => type_name.to_owned(),
            None => {
                let Some(given) = table.remove("type") else {
                    self.report_at(span.clone(), format!("{what} \"{name}\" has no type"))
                        .hint
                        .replace(format!("add type = \"…\"; known: {}", known.list()));
                    return None;
                };
                let Some(text) = given.get_ref().as_str() else {
                    self.report_at(given.span(), "type must be a string");
                    return None;
                };
                if !known.types.iter().any(|known| *known == text) {
                    let hint = known.hint(text);
                    let unknown = format!("unknown {what} type \"{text}\"");
                    self.found.push(Diagnostic::new(given.span(), unknown).maybe_hint(hint));
                    return None;
                }
                text.to_owned()
            }
        };
        let mut values = BTreeMap::new();
        places("", &table, &mut values);
        Some(Head { type_name, values, options: OptionTable { table, span: span.clone() } })
    }

    /// Adds the problems of a part's options to the mistakes.
    pub(super) fn report(
        &mut self,
        what: &str,
        name: &str,
        values: &BTreeMap<String, Span>,
        problems: Vec<(Position, Problem)>,
    ) {
        for (position, problem) in problems {
            let span = match position {
                Position::At(span) => span,
                Position::Option => self.place(values, &problem),
            };
            let of = if problem.key.is_empty() {
                format!("{what} \"{name}\"")
            } else {
                format!("{what} \"{name}\", {}", problem.key)
            };
            self.found.push(Diagnostic {
                span,
                message: format!("{of}: {}", problem.message),
                hint: problem.hint,
            });
        }
    }

    /// Returns the place of a problem: the value of its option, or a position within that text if
    /// the problem has an offset.
    fn place(&self, values: &BTreeMap<String, Span>, problem: &Problem) -> Span {
        let span = outward(&problem.key).find_map(|key| values.get(key)).cloned().unwrap_or(0..0);
        let Some(offset) = problem.offset else { return span };
        let raw = self.text.get(span.clone()).unwrap_or("");
        let quote = ["'''\n", "\"\"\"\n", "'''", "\"\"\"", "'", "\""];
        let skip = quote.iter().find(|q| raw.starts_with(**q)).map_or(0, |q| q.len());
        let start = (span.start + skip + offset).min(span.end);
        start..(start + 1).min(span.end.max(start))
    }

    fn chains(&mut self, value: Option<&Spanned<DeValue<'_>>>) -> Vec<ChainPart> {
        let Some(value) = value else {
            self.report_at(0..0, "no chain is defined").hint.replace(String::from(
                "add [[chains]], and below it from = [\"process\"] and through = [\"container\", \
                 \"stdout\"]",
            ));
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.report_at(value.span(), "chains must be a list of tables: write [[chains]]");
            return Vec::new();
        };
        let mut chains: Vec<ChainPart> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let Some(chain) = self.chain(index, value) else { continue };
            if chains.iter().any(|other| other.name == chain.name) {
                self.report_at(
                    chain.span.clone(),
                    format!("two chains are called \"{}\"", chain.name),
                );
            }
            chains.push(chain);
        }
        chains
    }

    fn chain(&mut self, index: usize, value: &Spanned<DeValue<'_>>) -> Option<ChainPart> {
        let Some(table) = value.get_ref().as_table() else {
            self.report_at(value.span(), "a chain must be a table: write [[chains]]");
            return None;
        };
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !["name", "from", "through"].contains(&name) {
                let hint = suggest(name, ["from", "through", "name"]);
                let unknown = format!("unknown key \"{name}\" in a chain");
                self.found.push(Diagnostic::new(key.span(), unknown).maybe_hint(hint));
            }
        }
        let name = table.get("name").and_then(|name| name.get_ref().as_str());
        let name = name.map_or_else(|| format!("{}", index + 1), str::to_owned);
        let span = value.span();
        let (mut from, mut resolved) = (Vec::new(), true);
        for (tracker, at) in self.names(table, &span, "from") {
            match self.find_tracker(&tracker, &at) {
                Some(found) if from.contains(&found) => {
                    self.report_at(at, format!("tracker \"{tracker}\" is in this chain already"));
                }
                Some(found) => from.push(found),
                None => resolved = false,
            }
        }
        let mut through: Vec<(usize, Span)> = Vec::new();
        for (handler, at) in self.names(table, &span, "through") {
            match self.find_handler(&handler, &at) {
                Some(found) if through.iter().any(|(other, _)| *other == found) => {
                    self.report_at(at, format!("handler \"{handler}\" is in this chain already"));
                }
                Some(found) => through.push((found, at)),
                None => resolved = false,
            }
        }
        Some(ChainPart { name, span, from, through, resolved })
    }

    /// Returns the names in a list of a chain.
    fn names(&mut self, table: &DeTable<'_>, chain: &Span, key: &str) -> Vec<(String, Span)> {
        let Some(value) = table.get(key) else {
            self.report_at(chain.clone(), format!("a chain needs \"{key}\", a list of names"));
            return Vec::new();
        };
        let list = value.get_ref().as_array();
        let names = list.and_then(|list| {
            let name =
                |v: &Spanned<DeValue<'_>>| Some((v.get_ref().as_str()?.to_owned(), v.span()));
            list.iter().map(name).collect::<Option<Vec<_>>>()
        });
        match names {
            Some(names) if !names.is_empty() => names,
            Some(_) => {
                self.report_at(value.span(), format!("\"{key}\" is empty: name at least one"));
                Vec::new()
            }
            None => {
                self.report_at(value.span(), format!("\"{key}\" must be a list of names"));
                Vec::new()
            }
        }
    }

    /// Returns the index of a declared tracker, or adds one if the name is that of a type.
    fn find_tracker(&mut self, name: &str, at: &Span) -> Option<usize> {
        if let Some(i) = self.trackers.iter().position(|part| part.name == name) {
            self.trackers[i].used = true;
            return Some(i);
        }
        if self.registry.trackers.contains_key(name) {
            return self.undeclared_tracker(name, name, at);
        }
        if !self.broken.iter().any(|broken| broken == name) {
            let declared = self.trackers.iter().map(|part| &*part.name);
            let known = declared.chain(self.registry.trackers.keys().map(String::as_str));
            let hint = suggest(name, known);
            let unknown = format!("no tracker is called \"{name}\"");
            self.found.push(Diagnostic::new(at.clone(), unknown).maybe_hint(hint));
        }
        None
    }

    /// Adds a tracker that no table declares, with default options.
    pub(super) fn undeclared_tracker(
        &mut self,
        name: &str,
        type_name: &str,
        at: &Span,
    ) -> Option<usize> {
        let before = self.trackers.len();
        let empty = Spanned::new(at.clone(), DeValue::Table(DeTable::new()));
        self.tracker(name, at.clone(), empty, Some(type_name));
        self.trackers.get_mut(before).map(|part| part.used = true)?;
        Some(before)
    }

    /// Returns the index of a declared handler, or adds one if the name is that of a type.
    fn find_handler(&mut self, name: &str, at: &Span) -> Option<usize> {
        if let Some(i) = self.handlers.iter().position(|part| part.name == name) {
            self.handlers[i].used = true;
            return Some(i);
        }
        if self.registry.handlers.contains_key(name) {
            let before = self.handlers.len();
            let empty = Spanned::new(at.clone(), DeValue::Table(DeTable::new()));
            self.handler(name, at.clone(), empty, Some(name));
            self.handlers.get_mut(before).map(|part| part.used = true)?;
            return Some(before);
        }
        if !self.broken.iter().any(|broken| broken == name) {
            let declared = self.handlers.iter().map(|part| &*part.name);
            let known = declared.chain(self.registry.handlers.keys().map(String::as_str));
            let absent = self.registry.absent_handlers.get(name).cloned();
            let hint = absent.or_else(|| suggest(name, known));
            let unknown = format!("no handler is called \"{name}\"");
            self.found.push(Diagnostic::new(at.clone(), unknown).maybe_hint(hint));
        }
        None
    }

    fn refuse_unused(&mut self) {
        let trackers = self.trackers.iter().filter(|part| !part.used);
        let trackers = trackers.map(|part| ("tracker", &part.name, &part.span));
        let handlers = self.handlers.iter().filter(|part| !part.used);
        let handlers = handlers.map(|part| ("handler", &part.name, &part.span));
        let unused: Vec<Diagnostic> = trackers
            .chain(handlers)
            .map(|(what, name, span)| {
                let list = if what == "tracker" { "from" } else { "through" };
                let message = format!("{what} \"{name}\" is not used by any chain");
                Diagnostic::new(span.clone(), message)
                    .hint(format!("name it in a chain's \"{list}\", or remove it"))
            })
            .collect();
        self.found.extend(unused);
    }
}

struct Head<'i> {
    type_name: String,
    values: BTreeMap<String, Span>,
    options: OptionTable<'i>,
}

/// Returns a dotted key and the keys that contain it: `a[1].b`, `a[1]`, `a`.
fn outward(key: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(key), |key| key.rfind(['.', '[']).map(|end| &key[..end]))
}

/// Collects the place of each value of a table by dotted key, with indices in lists:
/// `metrics[0].name`.
fn places(prefix: &str, table: &DeTable<'_>, values: &mut BTreeMap<String, Span>) {
    for (key, value) in table {
        place_of(format!("{prefix}{}", key.get_ref()), value, values);
    }
}

fn place_of(name: String, value: &Spanned<DeValue<'_>>, values: &mut BTreeMap<String, Span>) {
    match value.get_ref() {
        DeValue::Table(inner) => places(&format!("{name}."), inner, values),
        DeValue::Array(inner) => {
            for (index, value) in inner.iter().enumerate() {
                place_of(format!("{name}[{index}]"), value, values);
            }
        }
        _ => {}
    }
    values.insert(name, value.span());
}
