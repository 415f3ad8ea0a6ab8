//! Bodies of requests.

use whalewatch_core::{Accessor, Batch, EventRef, PerType, Problem, Schema, Value};
use whalewatch_kit::text::json_string;
use whalewatch_kit::{Filled, Json, Subject, Template};

/// Writes events as bodies of requests.
#[derive(Debug)]
pub(crate) enum Bodies {
    /// Each event as a JSON object.
    Whole(Json),
    /// As a template says.
    Filled {
        template: Template,
        json: bool,
        host: Box<str>,
        plans: PerType<Filled>,
        /// A value that is being escaped.
        value: Vec<u8>,
    },
}

impl Bodies {
    /// By this template, or each event as JSON; `json` says whether values stand in JSON.
    pub(crate) fn new(template: Option<Template>, json: bool, host: &str) -> Self {
        match template {
            None => Self::Whole(Json::new(host)),
            Some(template) => {
                let (plans, value) = (PerType::new(), Vec::new());
                Self::Filled { template, json, host: host.into(), plans, value }
            }
        }
    }

    /// Makes ready for the events of a batch: the number of its plan.
    pub(crate) fn plan(&mut self, batch: &Batch) -> usize {
        match self {
            Self::Whole(json) => json.plan(batch),
            Self::Filled { template, host, plans, .. } => {
                plans.place(batch, |schema| template.fill(schema, host))
            }
        }
    }

    /// The body for an event of the type that `plan` was made for.
    pub(crate) fn write(&mut self, plan: usize, event: EventRef<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        match self {
            Self::Whole(json) => {
                json.event(&mut out, plan, event);
                // It is no line among others here.
                out.pop();
            }
            Self::Filled { json: false, plans, .. } => {
                plans[plan].write(&mut out, event, Vec::extend_from_slice);
            }
            Self::Filled { json: true, plans, value, .. } => {
                plans[plan].write(&mut out, event, |out, text| {
                    value.clear();
                    json_string(value, text);
                    // The quotes, if any, stand in the template.
                    out.extend_from_slice(&value[1..value.len() - 1]);
                });
            }
        }
        out
    }
}

/// What is wrong with a template for JSON: whatever its fields' values are, it is none.
pub(crate) fn check_json(template: &Template) -> Option<Problem> {
    let schema = Schema::new("", &[], std::iter::empty());
    let mut out = Vec::new();
    // A digit may stand in quotes and without.
    template.fill(&schema, "").write(&mut out, NoFields, |out, _| out.push(b'1'));
    let error = serde_json::from_slice::<serde_json::Value>(&out).err()?;
    let message = format!("with its fields filled in it is no JSON: {error}");
    let hint = "braces of JSON's own are doubled, texts stand in quotes: \
                {{\"text\": \"{kind}\", \"pid\": {process.pid|null}}}; \
                for other bodies set headers.content-type";
    Some(Problem::new("body", message).hint(hint))
}

/// An event of which nothing is known.
struct NoFields;

impl Subject for NoFields {
    fn value(&self, _: Accessor) -> Value<'_> {
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_kit::testing::{Ran, example};

    use super::*;

    fn body(template: Option<&str>, json: bool, event: Ran) -> String {
        let template = template.map(|text| Template::parse("body", text).expect("a template"));
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
    fn without_a_template_it_is_the_event_and_no_line_end() {
        let got = body(None, true, example());
        assert!(!got.ends_with('\n'));
        let value: serde_json::Value = serde_json::from_str(&got).expect("JSON");
        assert_eq!(value["host"]["name"], "node-1");
        assert_eq!(value["process"]["pid"], 19920);
    }
}
