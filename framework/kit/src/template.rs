//! Texts with fields of the event in them: `whalewatch.{host.name}.{container.name|host}.{kind}`.

use whalewatch_core::{Problem, Schema, Value};

use crate::fields::{self, Selected, write_plain};
use crate::{Clock, Extra, Subject, fields::HOST};

/// A text with fields in it. `{field}` stands for a field's value, `{field|other}` gives `other`
/// where the event has none; `{{` and `}}` stand for braces.
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
    /// Reads the text of the option `key`.
    ///
    /// # Errors
    /// If a brace is not closed, or nothing stands between two.
    pub fn parse(key: &str, text: &str) -> Result<Self, Problem> {
        let problem = |message: &str, at| {
            Problem::new(key, message).at(at).hint("a field stands as {kind}, a brace as {{ or }}")
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
                return Err(problem("this brace closes nothing", at));
            }
            let Some(end) = tail.find('}') else {
                return Err(problem("this brace is not closed", at));
            };
            let inner = &tail[1..end];
            let (name, other) = inner.split_once('|').unwrap_or((inner, ""));
            if name.trim().is_empty() || inner.contains('{') {
                return Err(problem("a field's name is missing between these braces", at));
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

    /// Every field named in it that no event of those that come in has.
    pub fn check(&self, input: &[Schema]) -> Vec<Problem> {
        self.check_with(input, &[])
    }

    /// As [`Template::check`], where there are extra fields, too.
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

    /// The name of every field in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field { name, .. } => Some(&**name),
        })
    }

    /// Makes it ready for events that look like `schema`, from the host of that name.
    pub fn fill(&self, schema: &Schema, host: &str) -> Filled {
        self.fill_with(schema, &[], host)
    }

    /// As [`Template::fill`], where there are extra fields, too.
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

/// A [`Template`] made ready for events of one type.
#[derive(Clone, Debug)]
pub struct Filled {
    parts: Box<[Piece]>,
    clock: Clock,
    value: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(Box<[u8]>),
    /// The host's name, the same for all events.
    Host(Box<[u8]>),
    /// Name of a field, the field, and what stands for it in an event that has none.
    Field(Box<str>, Selected, Box<[u8]>),
}

impl Filled {
    /// Writes the text for an event. What stands in the template is written as it is; values, which
    /// come from traced programs, go through `escape`.
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        event: impl Subject,
        mut escape: impl FnMut(&mut Vec<u8>, &[u8]),
    ) {
        self.write_fields(out, event, |out, _, value| escape(out, value));
    }

    /// As [`Filled::write`], where `escape` gets the field's name, too: for texts in which not all
    /// fields are written alike.
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
    use crate::testing::{Ran, example};

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
    fn fields_are_filled_in_and_escaped_and_the_rest_stands() {
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
    fn who_escapes_can_be_told_which_field_it_is() {
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
    fn mistakes_are_told_with_their_place() {
        for (template, at, message) in [
            ("a {kind", 2, "this brace is not closed"),
            ("a } b", 2, "this brace closes nothing"),
            ("{}", 0, "a field's name is missing between these braces"),
            ("{a{b}", 0, "a field's name is missing between these braces"),
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
