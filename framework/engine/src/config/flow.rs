//! The flow of events: whether each handler accepts what it receives, and which trackers handlers
//! need in addition to those in chains.

use whalewatch_core::{Accepts, Schema};

use super::Diagnostic;
use super::options::Position;
use super::parts::{ChainPart, Reader};

/// Checks every chain, and adds the trackers that handlers need. Returns for each tracker the
/// handlers that need it.
pub(super) fn check(reader: &mut Reader<'_>, chains: &[ChainPart]) -> Vec<Vec<usize>> {
    // The options of a handler are checked against its input from all its chains.
    let mut inputs: Vec<Vec<Schema>> = reader.handlers.iter().map(|_| Vec::new()).collect();
    for chain in chains.iter().filter(|chain| chain.resolved) {
        check_chain(reader, chain, &mut inputs);
    }
    for (handler, input) in inputs.iter().enumerate() {
        let part = &reader.handlers[handler];
        let Some(configured) = &part.configured else { continue };
        // For a handler whose chains all have unknown names, the input is empty, and it checks only
        // what does not depend on the input.
        let problems = configured.check(input).into_iter().map(|p| (Position::Option, p)).collect();
        let (name, values) = (part.name.clone(), part.values.clone());
        reader.report("handler", &name, &values, problems);
    }
    for (part, input) in reader.handlers.iter_mut().zip(inputs) {
        if let Some(configured) = &mut part.configured {
            configured.set_input(input);
        }
    }
    refuse_without_directory(reader);
    needs(reader)
}

/// Refuses trackers that need the directory of containers if no handler publishes it.
fn refuse_without_directory(reader: &mut Reader<'_>) {
    let registry = reader.registry;
    let publishes =
        |name: &str| registry.handlers.get(name).is_some_and(|h| h.properties().publishes);
    if reader.handlers.iter().any(|part| publishes(&part.type_name)) {
        return;
    }
    let publishers: Vec<&str> = registry
        .handlers
        .iter()
        .filter(|(_, h)| h.properties().publishes)
        .map(|(name, _)| &**name)
        .collect();
    let refused: Vec<Diagnostic> = reader
        .trackers
        .iter()
        .filter(|part| part.configured.as_ref().is_some_and(|tracker| tracker.needs_directory()))
        .map(|part| {
            let span = part.values.get("scope").cloned().unwrap_or_else(|| part.span.clone());
            let message = format!(
                "tracker \"{}\" watches some containers only, but no chain has a handler that \
                 identifies them",
                part.name
            );
            let hint = format!("add one to a chain's \"through\": {}", publishers.join(", "));
            Diagnostic::new(span, message).hint(hint)
        })
        .collect();
    reader.found.extend(refused);
}

fn check_chain(reader: &mut Reader<'_>, chain: &ChainPart, inputs: &mut [Vec<Schema>]) {
    let registry = reader.registry;
    let mut flowing: Vec<Schema> = Vec::new();
    for &tracker in &chain.from {
        let schema = registry.trackers[&reader.trackers[tracker].type_name].schema();
        add(&mut flowing, schema);
        let configured = reader.trackers[tracker].configured.as_ref();
        if let Some(extra) = configured.and_then(|tracker| tracker.extra()) {
            add(&mut flowing, extra);
        }
    }
    for (place, (handler, at)) in chain.through.iter().enumerate() {
        let part = &reader.handlers[*handler];
        let kind = &registry.handlers[&part.type_name];
        let properties = kind.properties();
        let (name, last) = (&part.name, place + 1 == chain.through.len());
        let mut wrong = Vec::new();
        if let Accepts::Only(names) = properties.accepts {
            for schema in flowing.iter().filter(|schema| !names.contains(&schema.base_name())) {
                let message = format!("handler \"{name}\" does not accept {} events", schema.name);
                let hint = format!("it accepts only {} events", names.join(", "));
                wrong.push(Diagnostic::new(at.clone(), message).hint(hint));
            }
        }
        if !properties.passes_on && !last {
            let message =
                format!("handler \"{name}\" does not pass events on, so no handler can follow it");
            wrong
                .push(Diagnostic::new(at.clone(), message).hint("move it to the end of the chain"));
        }
        if !properties.output && last {
            let message = format!("the chain ends with \"{name}\", which is not an output");
            let outputs = registry.handlers.iter().filter(|(_, h)| h.properties().output);
            let outputs = outputs.map(|(name, _)| &**name).collect::<Vec<_>>().join(", ");
            wrong.push(
                Diagnostic::new(at.clone(), message).hint(format!("end it with one of: {outputs}")),
            );
        }
        reader.found.extend(wrong);
        for schema in &flowing {
            add(&mut inputs[*handler], schema.clone());
        }
        for schema in &mut flowing {
            if let Some(extended) = kind.extended(schema) {
                *schema = extended;
            }
        }
        let configured = reader.handlers[*handler].configured.as_ref();
        for schema in configured.map(|handler| handler.added()).unwrap_or_default() {
            add(&mut flowing, schema);
        }
    }
}

fn add(schemas: &mut Vec<Schema>, schema: Schema) {
    if !schemas.iter().any(|known| known.name == schema.name) {
        schemas.push(schema);
    }
}

fn needs(reader: &mut Reader<'_>) -> Vec<Vec<usize>> {
    let mut needs: Vec<(usize, usize)> = Vec::new();
    for handler in 0..reader.handlers.len() {
        let part = &reader.handlers[handler];
        let (name, span) = (part.name.clone(), part.span.clone());
        let observed = part.configured.as_ref().map(|h| h.properties().observed);
        for &type_name in observed.unwrap_or_default() {
            if !reader.registry.trackers.contains_key(type_name) {
                let message = format!(
                    "handler \"{name}\" needs the tracker type \"{type_name}\", which this program \
                     does not have"
                );
                reader.report_at(span.clone(), message).hint =
                    Some(String::from("register the type in the program"));
                continue;
            }
            // A tracker whose options exclude events may exclude what the handler needs.
            let fits = |part: &super::parts::TrackerPart| {
                let whole = part.plain || part.configured.as_ref().is_some_and(|t| t.whole());
                whole && part.type_name == type_name
            };
            let tracker = reader.trackers.iter().position(fits).or_else(|| {
                let taken = reader.trackers.iter().any(|part| part.name == type_name);
                let own =
                    if taken { format!("{type_name} for {name}") } else { type_name.to_owned() };
                reader.undeclared_tracker(&own, type_name, &span)
            });
            needs.extend(tracker.map(|tracker| (tracker, handler)));
        }
    }
    let fed = |tracker| needs.iter().filter(move |(t, _)| *t == tracker).map(|(_, h)| *h).collect();
    (0..reader.trackers.len()).map(fed).collect()
}
