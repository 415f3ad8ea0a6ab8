//! The options of a type, read from the schema of its options struct: for `whalewatch list`, the
//! reference, and the check for unknown options.

use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value};
use whalewatch_core::Options;

/// An option of a tracker or handler type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptionInfo {
    /// The key. Nested tables are dotted, and `[]` marks a list of tables: `metrics[].name`.
    pub name: String,
    /// The type, in a few words.
    #[serde(rename = "type")]
    pub ty: String,
    /// The default value. `None` if the option is required, or unset by default.
    pub default: Option<Value>,
    /// Whether the option is required.
    pub required: bool,
    /// The meaning of the option.
    pub about: String,
}

/// Returns the options of an options struct, in the order of its fields.
pub(crate) fn describe<O: Options>() -> Vec<OptionInfo> {
    let generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let schema = generator.into_root_schema_for::<O>();
    let mut options = Vec::new();
    collect(schema.as_value(), "", &mut options);
    options
}

fn collect(schema: &Value, prefix: &str, options: &mut Vec<OptionInfo>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (key, property) in properties {
        let name = format!("{prefix}{key}");
        let inner = without_null(property);
        if inner.get("properties").is_some() {
            collect(inner, &format!("{name}."), options);
            continue;
        }
        let about = property.get("description").or_else(|| inner.get("description"));
        let list = format!("{name}[].");
        options.push(OptionInfo {
            ty: type_of(inner),
            default: property.get("default").filter(|d| !d.is_null()).cloned(),
            required: required.contains(&key.as_str()),
            about: about.and_then(Value::as_str).unwrap_or("").replace('\n', " "),
            name,
        });
        // A list of tables is followed by the options in each table.
        if let Some(items) = inner.get("items") {
            collect(items, &list, options);
        }
    }
}

/// Returns the schema without the alternative `null`, which stands for an absent option.
fn without_null(schema: &Value) -> &Value {
    let is_null = |s: &&Value| s.get("type").and_then(Value::as_str) != Some("null");
    let any = schema.get("anyOf").and_then(Value::as_array);
    any.and_then(|any| any.iter().find(is_null)).unwrap_or(schema)
}

fn type_of(schema: &Value) -> String {
    if let Some(choices) = choices(schema) {
        return choices.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(" | ");
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && type_word(schema.get("type")) == "string"
    {
        return format.to_owned();
    }
    match type_word(schema.get("type")) {
        "array" => {
            let items = schema.get("items").map_or_else(String::new, type_of);
            format!("list of {items}")
        }
        "object" => String::from("table"),
        word => word.to_owned(),
    }
}

fn type_word(ty: Option<&Value>) -> &str {
    let word = match ty {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).find(|t| *t != "null"),
        ty => ty.and_then(Value::as_str),
    };
    word.unwrap_or("any")
}

/// Returns the allowed words, if the option is an enumeration.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let variants = schema.get("oneOf").and_then(Value::as_array)?;
    let word = |v: &Map<String, Value>| -> Option<Vec<String>> {
        let one = v.get("const").and_then(Value::as_str).map(|c| vec![c.to_owned()]);
        one.or_else(|| {
            let words = v.get("enum")?.as_array()?;
            Some(words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        })
    };
    let all: Option<Vec<_>> = variants.iter().map(|v| v.as_object().and_then(word)).collect();
    all?;
    Some(
        variants
            .iter()
            .flat_map(|v| {
                let one = v.get("const").and_then(Value::as_str).into_iter();
                let more = v.get("enum").and_then(Value::as_array).into_iter().flatten();
                one.chain(more.filter_map(Value::as_str))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;
    use whalewatch_core::HumanDuration;

    use super::*;

    #[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Format {
        #[default]
        Json,
        /// A variant with a description.
        Table,
    }

    #[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
    struct Scope {
        /// Names.
        #[serde(default)]
        containers: Vec<String>,
    }

    #[derive(Clone, Deserialize, Serialize, JsonSchema)]
    struct Example {
        /// What to keep.
        when: String,
        #[serde(default)]
        format: Format,
        #[serde(default = "hold")]
        hold: HumanDuration,
        limit: Option<u32>,
        #[serde(default)]
        scope: Scope,
        #[serde(default)]
        scopes: Vec<Scope>,
    }

    fn hold() -> HumanDuration {
        "100ms".parse().unwrap()
    }

    #[test]
    fn options_are_described_in_order() {
        let described: Vec<String> = describe::<Example>()
            .into_iter()
            .map(|o| {
                let default = o.default.map_or(String::from("-"), |d| d.to_string());
                format!("{} | {} | {default} | {} | {}", o.name, o.ty, o.required, o.about)
            })
            .collect();
        assert_eq!(
            described,
            [
                "when | string | - | true | What to keep.",
                "format | \"json\" | \"table\" | \"json\" | false | ",
                "hold | duration | \"100ms\" | false | ",
                "limit | integer | - | false | ",
                "scope.containers | list of string | [] | false | Names.",
                "scopes | list of table | [] | false | ",
                "scopes[].containers | list of string | [] | false | Names.",
            ]
        );
    }
}
