//! Bodies of requests.

use whalewatch_core::{Accessor, Batch, EventRef, PerType, Problem, Schema, Value};
use whalewatch_kit::text::json_string;
use whalewatch_kit::{Filled, Json, Subject, Template};

/// Writes events as bodies of requests.
#[derive(Debug)]
pub(crate) enum Bodies {
    /// Writes each event as a JSON object.
    Event(Json),
    /// Fills a template.
    Template {
        template: Template,
        /// Whether to escape values for a JSON string.
        json: bool,
        host: Box<str>,
        plans: PerType<Filled>,
        /// A buffer for the value that is being escaped.
        value: Vec<u8>,
    },
}

impl Bodies {
    /// Creates bodies from a template, or from each event as JSON if there is none. `json` says
    /// whether the template is JSON; `host` is the host name.
    pub(crate) fn new(template: Option<Template>, json: bool, host: &str) -> Self {
        match template {
            None => Self::Event(Json::new(host)),
            Some(template) => {
                let (plans, value) = (PerType::new(), Vec::new());
                Self::Template { template, json, host: host.into(), plans, value }
            }
        }
    }

    /// Prepares for the events of a batch; returns the plan that [`Bodies::write`] takes.
    pub(crate) fn plan(&mut self, batch: &Batch) -> usize {
        match self {
            Self::Event(json) => json.plan(batch),
            Self::Template { template, host, plans, .. } => {
                plans.place(batch, |schema| template.fill(schema, host))
            }
        }
    }

    /// Returns the body for an event. `plan` is that of its batch.
    pub(crate) fn write(&mut self, plan: usize, event: EventRef<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        match self {
            Self::Event(json) => {
                json.event(&mut out, plan, event);
                // Removes the newline.
                out.pop();
            }
            Self::Template { json: false, plans, .. } => {
                plans[plan].write(&mut out, event, Vec::extend_from_slice);
            }
            Self::Template { json: true, plans, value, .. } => {
                plans[plan].write(&mut out, event, |out, text| {
                    value.clear();
                    json_string(value, text);
                    // The template has the quotes, if there are any.
                    out.extend_from_slice(&value[1..value.len() - 1]);
                });
            }
        }
        out
    }
}

/// Returns the problem with a template that does not make valid JSON for any values of its fields.
pub(crate) fn check_json(template: &Template) -> Option<Problem> {
    let schema = Schema::new("", &[], std::iter::empty());
    let mut out = Vec::new();
    // A digit is valid JSON with and without quotes.
    template.fill(&schema, "").write(&mut out, NoFields, |out, _| out.push(b'1'));
    let error = serde_json::from_slice::<serde_json::Value>(&out).err()?;
    let message = format!("the body is not valid JSON when its fields are filled in: {error}");
    let hint = "double JSON's own braces and put texts in quotes: \
                {{\"text\": \"{kind}\", \"pid\": {process.pid|null}}}; \
                for a body that is not JSON, set headers.content-type";
    Some(Problem::new("body", message).hint(hint))
}

/// An event without fields.
struct NoFields;

impl Subject for NoFields {
    fn value(&self, _: Accessor) -> Value<'_> {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_testing::{Ran, example};

    use super::*;

    fn body(template: Option<&str>, json: bool, event: Ran) -> String {
        let template =
            template.map(|text| Template::parse("body", text).expect("a valid template"));
        let mut bodies = Bodies::new(template, json, "node-1");
        let batch = Batch::new("t".into(), vec![event]);
        let plan = bodies.plan(&batch);
        let written = bodies.write(plan, batch.iter().next().expect("an event"));
        String::from_utf8(written).expect("UTF-8")
    }

    #[test]
    fn values_cannot_break_out_of_a_json_string() {
        let hostile =
            || Ran { args: Some(b"a\0\",\"admin\":true,\"x\":\"\\\n\0".to_vec()), ..example() };
        let template = r#"{{"args":"{process.command_args}","pid":{process.pid|null}}}"#;
        let got: serde_json::Value =
            serde_json::from_str(&body(Some(template), true, hostile())).expect("JSON");
        let args = "a \",\"admin\":true,\"x\":\"\\\n";
        assert_eq!(got, serde_json::json!({ "args": args, "pid": 19920 }));
        let plain = body(Some("{process.command_args}"), false, hostile());
        assert_eq!(plain, args);
    }

    #[test]
    fn body_without_a_template_is_the_event_without_newline() {
        let got = body(None, true, example());
        assert!(!got.ends_with('\n'));
        let value: serde_json::Value = serde_json::from_str(&got).expect("JSON");
        assert_eq!(value["host"]["name"], "node-1");
        assert_eq!(value["process"]["pid"], 19920);
    }
}
