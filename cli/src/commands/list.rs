//! `whalewatch list`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use whalewatch_engine::{OptionInfo, Registry};

use crate::commands::TextOrJson;

/// List the types of trackers and handlers, and for each option its type and default
#[derive(Args)]
pub(crate) struct List {
    /// List only trackers, or only handlers
    #[arg(value_enum)]
    what: Option<What>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: TextOrJson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Parts that produce events
    Trackers,
    /// Parts that process events
    Handlers,
}

impl List {
    pub(super) fn run(&self, registry: &Registry) -> io::Result<ExitCode> {
        let mut out = io::stdout().lock();
        match self.format {
            TextOrJson::Json => {
                let text = serde_json::to_string_pretty(&self.json(registry))?;
                writeln!(out, "{text}")?;
            }
            TextOrJson::Text => self.text(registry, &mut out)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn shows(&self, what: What) -> bool {
        self.what.is_none_or(|only| only == what)
    }

    fn json(&self, registry: &Registry) -> Value {
        let mut lists = serde_json::Map::new();
        if self.shows(What::Trackers) {
            let trackers = registry.describe_trackers().map(|(name, about, options, schema)| {
                let fields = schema.fields.iter().map(|(field, _)| {
                    json!({ "name": field.name, "type": field.ty.as_str(), "about": field.doc })
                });
                let fields: Vec<Value> = fields.collect();
                json!({
                    "name": name, "about": about, "options": options,
                    "kinds": schema.kinds, "fields": fields,
                })
            });
            lists.insert(String::from("trackers"), trackers.collect());
        }
        if self.shows(What::Handlers) {
            let handlers = registry
                .describe_handlers()
                .map(|(name, about, options)| {
                    json!({ "name": name, "about": about, "options": options })
                });
            lists.insert(String::from("handlers"), handlers.collect());
            lists.insert(String::from("every_handler"), json!(registry.describe_queue()));
        }
        Value::Object(lists)
    }

    fn text(&self, registry: &Registry, out: &mut impl Write) -> io::Result<()> {
        if self.shows(What::Trackers) {
            writeln!(out, "Trackers (to declare one: [trackers.NAME] with type = \"…\")")?;
            for (name, about, options, schema) in registry.describe_trackers() {
                writeln!(out, "\n  {name}: {about}\n    events: {}", schema.kinds.join(", "))?;
                print_options(out, &options)?;
            }
        }
        if self.what.is_none() {
            writeln!(out)?;
        }
        if self.shows(What::Handlers) {
            writeln!(out, "Handlers (to declare one: [handlers.NAME] with type = \"…\")")?;
            for (name, about, options) in registry.describe_handlers() {
                writeln!(out, "\n  {name}: {about}")?;
                print_options(out, &options)?;
            }
            writeln!(out, "\n  Options of every handler, besides its own:")?;
            print_options(out, &registry.describe_queue())?;
        }
        Ok(())
    }
}

fn print_options(out: &mut impl Write, options: &[OptionInfo]) -> io::Result<()> {
    for option in options {
        let default = match (&option.default, option.required) {
            (_, true) => String::from("required"),
            (Some(default), false) => format!("default {default}"),
            (None, false) => String::from("optional"),
        };
        writeln!(out, "    {} ({}; {default})", option.name, option.ty)?;
        if !option.about.is_empty() {
            writeln!(out, "        {}", option.about)?;
        }
    }
    Ok(())
}
