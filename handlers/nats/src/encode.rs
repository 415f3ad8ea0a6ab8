//! From events to records: subject, message id and JSON of each.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use whalewatch_core::{Batch, EventRef, PerType};
use whalewatch_kit::{Filled, Json, Template};

use crate::record;
use crate::subject;

/// So many bytes are handed on at once.
const ENOUGH: usize = 64 * 1024;

/// Makes records of events.
#[derive(Debug)]
pub(crate) struct Encoder {
    json: Json,
    template: Template,
    host: Arc<str>,
    subjects: PerType<Filled>,
    /// What every id begins with.
    prefix: String,
    /// The number that the last id ends with.
    number: u64,
    buffer: Vec<u8>,
}

impl Encoder {
    /// For events of `host`; `epoch` is one that no other run of it has.
    pub(crate) fn new(template: Template, host: Arc<str>, epoch: u64) -> Self {
        let mut prefix = Vec::new();
        subject::token(&mut prefix, host.as_bytes());
        let mut prefix = String::from_utf8_lossy(&prefix).into_owned();
        // Writing to a string does not fail.
        write!(prefix, "-{epoch:x}-").ok();
        Self {
            json: Json::new(&host),
            template,
            host,
            subjects: PerType::new(),
            prefix,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// Gives the batch's records, some at a time, with how many they are.
    pub(crate) fn encode<E>(
        &mut self,
        batch: &Batch,
        mut give: impl FnMut(Bytes, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let plan = self.json.plan(batch);
        let subject = self.subjects.place(batch, |schema| self.template.fill(schema, &self.host));
        let mut count = 0;
        for event in batch.iter() {
            self.event(plan, subject, event);
            count += 1;
            if self.buffer.len() >= ENOUGH {
                give(self.take(), std::mem::take(&mut count))?;
            }
        }
        if count > 0 { give(self.take(), count) } else { Ok(()) }
    }

    fn take(&mut self) -> Bytes {
        let room = self.buffer.len().min(ENOUGH + ENOUGH / 4);
        Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(room)))
    }

    fn event(&mut self, plan: usize, subject: usize, event: EventRef<'_>) {
        let Self { json, subjects, prefix, number, buffer, .. } = self;
        *number += 1;
        let mut digits = itoa::Buffer::new();
        record::write(
            buffer,
            |out| {
                out.extend_from_slice(prefix.as_bytes());
                out.extend_from_slice(digits.format(*number).as_bytes());
            },
            |out| {
                subjects[subject].write_fields(out, event, |out, field, value| match field {
                    "kind" => subject::kind(out, value),
                    _ => subject::token(out, value),
                });
            },
            |out| {
                json.event(out, plan, event);
                // The line's end.
                out.pop();
            },
        );
    }
}
