//! The `geo` handler: adds the country and network of the other end of a connection, from a table
//! of prefixes.
//!
//! It adds fields to all events that have a peer address, whatever tracker they come from, and
//! passes the others on unchanged.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{
    Accessor, Batch, BuildError, ChainContext, Declaration, Extension, Field, FieldInfo, Handler,
    HandlerError, Never, PerType, Problem, Schema, Setup, Type, Value,
};

mod table;
#[cfg(test)]
mod tests;

use table::{Place, Table};

/// The field with the address to look up.
const ADDRESS: &str = "network.peer.address";

/// The table used if the options name none.
const BUILT_IN: &str = include_str!("../table.csv");

/// Options of the `geo` handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GeoOptions {
    /// A file with a line for each prefix: `192.0.2.0/24,XA,64496,Example Carrier` (prefix,
    /// country, number of the autonomous system, organisation; all but the first may be empty). It
    /// is read when the run starts. Default: a small table of private and example ranges.
    pub table: Option<PathBuf>,
}

/// The fields added to an event: the place of its address.
struct Located(Arc<Place>);

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&Located) -> Value<'_>,
) -> Field<Located> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

/// Returns a text as a value; an empty text is null.
fn text(text: &str) -> Value<'_> {
    if text.is_empty() { Value::Null } else { Value::Text(text.as_bytes()) }
}

impl Extension for Located {
    const NAME: &'static str = "geo";
    const FIELDS: &'static [Field<Self>] = &[
        field("geo.country.iso_code", Type::Text, "country of the other end: two letters", |at| {
            text(&at.0.country)
        }),
        field("geo.as.number", Type::Uint, "number of its autonomous system", |at| {
            at.0.system.map_or(Value::Null, |number| Value::Uint(number.into()))
        }),
        field("geo.organization.name", Type::Text, "organisation that runs the network", |at| {
            text(&at.0.organization)
        }),
    ];
}

/// Adds the country and network of the other end of a connection.
#[derive(Debug)]
pub struct Geo {
    table: Table,
    /// The accessor of the address for each type of event, found once by name.
    fields: PerType<Option<Accessor>>,
}

impl Handler for Geo {
    const ABOUT: &'static str = "adds the country and network of the other end of a connection";
    type Options = GeoOptions;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new()
        .extends(|schema| schema.find(ADDRESS).map(|_| schema.extended::<Located>()));

    fn check(options: &GeoOptions, input: &[Schema]) -> Vec<Problem> {
        let mut problems = Vec::new();
        if options.table.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            let problem = Problem::new("table", "the path is empty");
            problems.push(problem.hint("name a file, or remove the option"));
        }
        if !input.is_empty() && input.iter().all(|schema| schema.find(ADDRESS).is_none()) {
            let message = format!("no incoming event has a field `{ADDRESS}`");
            let hint = "add the `network` tracker to \"from\" of the chain";
            problems.push(Problem::new("", message).hint(hint));
        }
        problems
    }

    fn build(options: &GeoOptions, _: &Setup) -> Result<Self, BuildError> {
        let Some(file) = &options.table else {
            return Ok(Self::with(Table::parse(BUILT_IN).map_err(BuildError)?));
        };
        let wrong = |error: String| BuildError(format!("table {}: {error}", file.display()));
        let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::with(Table::parse(&text).map_err(wrong)?))
    }

    fn handle(&mut self, mut batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        let field = self.fields.of(&batch, |schema| Some(schema.find(ADDRESS)?.1));
        if let Some(address) = *field {
            batch.extend(|event| match event.value(address) {
                Value::Text(address) => self.locate(address).map(Located),
                _ => None,
            });
        }
        cx.emit(batch);
        Ok(())
    }
}

impl Geo {
    fn with(table: Table) -> Self {
        Self { table, fields: PerType::new() }
    }

    fn locate(&self, address: &[u8]) -> Option<Arc<Place>> {
        let address: IpAddr = str::from_utf8(address).ok()?.parse().ok()?;
        self.table.find(address)
    }
}
