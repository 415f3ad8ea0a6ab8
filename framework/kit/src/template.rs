//! Text with placeholders for fields of an event:
//! `whalewatch.{host.name}.{container.name|host}.{kind}`.

use whalewatch_core::{Problem, Schema, Value};

use crate::fields::{self, Selected, write_plain};
use crate::{Clock, Extra, Subject, fields::HOST};

/// Text with placeholders. `{field}` is replaced by the field's value, or, written `{field|other}`,
/// by `other` if the field is null. `{{` and `}}` produce braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    key: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { name: String, other: String, at: usize },
}

impl Template {
    /// Parses the template in the option `key`.
    ///
    /// # Errors
    /// If a brace has no counterpart, or a placeholder has no field name.
    pub fn parse(key: &str, text: &str) -> Result<Self, Problem> {
        let problem = |message: &str, at| {
            Problem::new(key, message).at(at).hint("write {kind} for a field, {{ or }} for a brace")
        };
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(brace) = rest.find(['{', '}']) {
            let at = text.len() - rest.len() + brace;
            plain.push_str(&rest[..brace]);
            let tail = &rest[brace..];
            if tail.starts_with("{{") || tail.starts_with("}}") {
                plain.push_str(&tail[..1]);
                rest = &tail[2..];
                continue;
            }
            if tail.starts_with('}') {
                return Err(problem("this `}` has no counterpart", at));
            }
            let Some(end) = tail.find('}') else {
                return Err(problem("this `{` is not closed", at));
            };
            let inner = &tail[1..end];
            let (name, other) = inner.split_once('|').unwrap_or((inner, ""));
            if name.trim().is_empty() || inner.contains('{') {
                return Err(problem("missing field name between braces", at));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            let (name, other) = (name.trim().to_owned(), other.to_owned());
            parts.push(Part::Field { name, other, at: at + 1 });
            rest = &tail[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts, key: key.into() })
    }

    /// Returns a problem for each field that no incoming event has.
    pub fn check(&self, input: &[Schema]) -> Vec<Problem> {
        self.check_with(input, &[])
    }

    /// As [`Template::check`], with extra fields.
    pub fn check_with(&self, input: &[Schema], extra: &[Extra]) -> Vec<Problem> {
        let fields = self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field { name, at, .. } => Some((name, *at)),
        });
        let wrong = fields.filter_map(|(name, at)| {
            fields::check_with(&self.key, name, input, extra).map(|problem| problem.at(at))
        });
        wrong.collect()
    }

    /// Iterates over the names of its fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field { name, .. } => Some(&**name),
        })
    }

    /// Resolves the fields for events of one type; `host` is the host name.
    pub fn fill(&self, schema: &Schema, host: &str) -> Filled {
        self.fill_with(schema, &[], host)
    }

    /// As [`Template::fill`], with extra fields.
    pub fn fill_with(&self, schema: &Schema, extra: &[Extra], host: &str) -> Filled {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => Piece::Text(text.as_bytes().into()),
            Part::Field { name, .. } if name == HOST && schema.find(HOST).is_none() => {
                Piece::Host(host.as_bytes().into())
            }
            Part::Field { name, other, .. } => {
                let selected = Selected::new_with(schema, extra, name);
                Piece::Field(name.as_str().into(), selected, other.as_bytes().into())
            }
        });
        Filled { parts: parts.collect(), clock: Clock::new(), value: Vec::new() }
    }
}

/// A [`Template`] with its fields resolved for events of one type.
#[derive(Clone, Debug)]
pub struct Filled {
    parts: Box<[Piece]>,
    clock: Clock,
    value: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<[u8]>),
    /// The host name, the same for all events.
    Host(Box<[u8]>),
    /// A field's name, the field, and the text to write if it is null.
    Field(Box<str>, Selected, Box<[u8]>),
}

impl Filled {
    /// Writes the text for an event. The template's own text is written as it is; values, which
    /// come from traced programs, go through `escape`.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        event: impl Subject,
        mut escape: impl FnMut(&mut Vec<u8>, &[u8]),
    ) {
        self.write_fields(out, event, |out, _, value| escape(out, value));
    }

    /// As [`Filled::write`], but `escape` gets the field's name, too: for texts in which fields are
    /// escaped in different ways.
    pub fn write_fields(
        &mut self,
        out: &mut Vec<u8>,
        event: impl Subject,
        mut escape: impl FnMut(&mut Vec<u8>, &str, &[u8]),
    ) {
        for part in &self.parts {
            match part {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Host(name) => escape(out, HOST, name),
                Piece::Field(name, field, other) => match field.of(&event, "") {
                    Value::Null => escape(out, name, other),
                    Value::Text(text) => escape(out, name, text),
                    value => {
                        self.value.clear();
                        write_plain(&mut self.value, &mut self.clock, value);
                        escape(out, name, &self.value);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::Batch;

    use super::*;
    use whalewatch_testing::{Ran, example};

    fn filled(template: &str) -> String {
        let batch = Batch::new("t".into(), vec![example()]);
        let template = Template::parse("subject", template).expect("a template");
        assert_eq!(template.check(&[Schema::of::<Ran>()]), []);
        let mut out = Vec::new();
        let event = batch.iter().next().expect("an event");
        template.fill(&batch.schema(), "node-1").write(&mut out, event, |out, value| {
            out.extend(value.iter().map(|&b| if b == b'.' { b'_' } else { b }));
        });
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn values_are_escaped_and_the_rest_is_kept() {
        for (template, want) in [
            ("a.b", "a.b"),
            ("w.{host.name}.{kind}.{process.pid}", "w.node-1.process_exec.19920"),
            ("{container.name|no.ne}", "no_ne"),
            ("{container.name}", ""),
            ("{{\"kind\":\"{ kind }\"}}", "{\"kind\":\"process_exec\"}"),
            ("", ""),
        ] {
            assert_eq!(filled(template), want, "{template}");
        }
    }

    #[test]
    fn escape_gets_the_name_of_the_field() {
        let batch = Batch::new("t".into(), vec![example()]);
        let template =
            Template::parse("x", "{host.name} {kind} {process.pid}").expect("a template");
        let mut out = Vec::new();
        let event = batch.iter().next().expect("an event");
        template.fill(&batch.schema(), "node-1").write_fields(
            &mut out,
            event,
            |out, name, value| {
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value);
            },
        );
        assert_eq!(out, b"host.name=node-1 kind=process.exec process.pid=19920");
    }

    #[test]
    fn mistakes_are_reported_with_their_offset() {
        for (template, at, message) in [
            ("a {kind", 2, "this `{` is not closed"),
            ("a } b", 2, "this `}` has no counterpart"),
            ("{}", 0, "missing field name between braces"),
            ("{a{b}", 0, "missing field name between braces"),
        ] {
            let problem = Template::parse("subject", template).expect_err("a mistake");
            assert_eq!((problem.offset, &*problem.message), (Some(at), message), "{template}");
        }
        let template = Template::parse("subject", "é{kin}").expect("a template");
        let [problem] = &template.check(&[Schema::of::<Ran>()])[..] else { panic!("one problem") };
        assert_eq!((&*problem.key, problem.offset), ("subject", Some(3)));
        assert_eq!(problem.hint.as_deref(), Some("did you mean `kind`?"));
    }
}
