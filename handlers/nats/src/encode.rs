//! Converts events to records: subject, message id and JSON.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use whalewatch_core::{Batch, EventRef, PerType};
use whalewatch_kit::{Filled, Json, Template};

use crate::record;
use crate::subject;

/// Encoded bytes at which a piece of records is passed on.
const PIECE: usize = 64 * 1024;

/// Converts events to records.
#[derive(Debug)]
pub(crate) struct Encoder {
    json: Json,
    template: Template,
    host: Arc<str>,
    subjects: PerType<Filled>,
    /// The start of every id: `HOST-EPOCH-`.
    prefix: String,
    /// The number in the last id.
    number: u64,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Creates an encoder for events of `host`. No two runs on a host may have the same `epoch`.
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

    /// Encodes a batch. Calls `give` with pieces of records and the number of records in each.
    ///
    /// # Errors
    /// The first error of `give`.
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
            if self.buffer.len() >= PIECE {
                give(self.take(), std::mem::take(&mut count))?;
            }
        }
        if count > 0 { give(self.take(), count) } else { Ok(()) }
    }

    fn take(&mut self) -> Bytes {
        let room = self.buffer.len().min(PIECE + PIECE / 4);
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
                // Removes the newline.
                out.pop();
            },
        );
    }
}
