//! Turns events into rows, and collects them in memory in chunks. Each chunk becomes one
//! transaction.

use std::ops::Range;
use std::sync::Arc;

use whalewatch_core::{
    Accessor, Batch, Container, EventRef, PerType, Process, Schema, State, Value,
};
use whalewatch_kit::Json;

/// A range of a chunk's bytes; `None` is null.
pub(crate) type Text = Option<(u32, u32)>;

/// An event ready to be written. Its texts are in its chunk.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) time: i64,
    pub(crate) kind: &'static str,
    pub(crate) state: State,
    pub(crate) container: Option<Arc<Container>>,
    pub(crate) target: Option<Arc<Container>>,
    pub(crate) process: Option<Process>,
    pub(crate) texts: [Text; TEXTS.len()],
    pub(crate) numbers: [Option<i64>; NUMBERS.len()],
    json: Range<usize>,
}

/// The fields for each text column. The first one that an event has is used.
const TEXTS: [&[&str]; 5] = [
    &["process.executable.path"],
    &["file.path", "mount.target", "module.path", "bpf.path"],
    &["file.to.path"],
    &["network.peer.address"],
    &["error.type"],
];

/// The fields for the number columns.
const NUMBERS: [&str; 2] = ["network.peer.port", "process.exit.code"];

/// Where events of one type have the fields for the columns.
#[derive(Debug)]
struct Plan {
    texts: [Vec<Accessor>; TEXTS.len()],
    numbers: [Option<Accessor>; NUMBERS.len()],
}

impl Plan {
    fn new(schema: &Schema) -> Self {
        let find = |name: &str| schema.find(name).map(|(_, accessor)| accessor);
        Self {
            texts: TEXTS.map(|names| names.iter().filter_map(|name| find(name)).collect()),
            numbers: NUMBERS.map(find),
        }
    }
}

/// Events of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) rows: Vec<Row>,
    bytes: Vec<u8>,
}

/// Approximate memory of a row without its texts, in bytes.
const ROW_BYTES: usize = size_of::<Row>();

/// Approximate size of a row in the database without its texts, in bytes: its columns and indexes.
const COLUMN_BYTES: usize = 260;

impl Chunk {
    /// Returns the approximate memory of the chunk, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.len() + self.rows.len() * ROW_BYTES
    }

    /// Returns the approximate size of the chunk in the database, in bytes. Usually a little too
    /// large.
    pub(crate) fn stored(&self) -> u64 {
        (self.bytes.len() + self.bytes.len() / 8 + self.rows.len() * COLUMN_BYTES) as u64
    }

    /// Returns the JSON of a row, without a newline.
    pub(crate) fn json(&self, row: &Row) -> &[u8] {
        &self.bytes[row.json.clone()]
    }

    /// Returns a text of one of its rows.
    pub(crate) fn text(&self, text: Text) -> Option<&[u8]> {
        text.map(|(start, end)| &self.bytes[start as usize..end as usize])
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
    }
}

/// The size limits of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkLimit {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// Turns events into rows.
#[derive(Debug)]
pub(crate) struct Encoder {
    json: Json,
    plans: PerType<Plan>,
    limit: ChunkLimit,
    /// A written chunk whose memory can be reused.
    spare: Option<Chunk>,
}

impl Encoder {
    pub(crate) fn new(host: &str, limit: ChunkLimit) -> Self {
        Self { json: Json::new(host), plans: PerType::new(), limit, spare: None }
    }

    /// Prepares for the events of a batch.
    pub(crate) fn plan(&mut self, batch: &Batch) -> (usize, usize) {
        (self.json.plan(batch), self.plans.place(batch, Plan::new))
    }

    /// Whether the chunk is full.
    pub(crate) fn full(&self, chunk: &Chunk) -> bool {
        chunk.rows.len() >= self.limit.events || chunk.bytes.len() >= self.limit.bytes
    }

    /// Returns an empty chunk.
    pub(crate) fn chunk(&mut self) -> Chunk {
        self.spare.take().unwrap_or_default()
    }

    /// Takes back a written chunk, to reuse its memory.
    pub(crate) fn recycle(&mut self, mut chunk: Chunk) {
        chunk.clear();
        self.spare = Some(chunk);
    }

    /// Adds an event of the type that `plan` was made for.
    pub(crate) fn push(&mut self, chunk: &mut Chunk, plan: (usize, usize), event: EventRef<'_>) {
        let start = chunk.bytes.len();
        self.json.event(&mut chunk.bytes, plan.0, event);
        let json = start..chunk.bytes.len() - 1;
        let columns = &self.plans[plan.1];
        let texts = columns.texts.each_ref().map(|accessors| {
            let texts = accessors.iter().filter_map(|a| match event.value(*a) {
                Value::Text(text) => Some(text),
                _ => None,
            });
            texts.into_iter().next().and_then(|text| keep(&mut chunk.bytes, text))
        });
        let numbers = columns.numbers.map(|accessor| match accessor.map(|a| event.value(a)) {
            Some(Value::Int(number)) => Some(number),
            Some(Value::Uint(number)) => i64::try_from(number).ok(),
            _ => None,
        });
        let attribution = event.attribution();
        chunk.rows.push(Row {
            time: i64::try_from(event.time().as_nanos()).unwrap_or(i64::MAX),
            kind: event.kind(),
            state: attribution.state,
            container: attribution.container.clone(),
            target: attribution.target.clone(),
            process: event.process().copied(),
            texts,
            numbers,
            json,
        });
    }
}

/// Appends a text. Bytes that are not UTF-8 become U+FFFD, as in JSON. A chunk is always far
/// smaller than 4 GiB; a text beyond that would be null.
fn keep(bytes: &mut Vec<u8>, text: &[u8]) -> Text {
    let start = u32::try_from(bytes.len()).ok()?;
    for chunk in text.utf8_chunks() {
        bytes.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            bytes.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    Some((start, u32::try_from(bytes.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use whalewatch_testing::{Odd, example};

    use super::*;

    const LIMIT: ChunkLimit = ChunkLimit { events: 2, bytes: 1 << 20 };

    fn encoded(batch: &Batch) -> Chunk {
        let mut encoder = Encoder::new("node-1", LIMIT);
        let (mut chunk, plan) = (encoder.chunk(), encoder.plan(batch));
        batch.iter().for_each(|event| encoder.push(&mut chunk, plan, event));
        chunk
    }

    #[test]
    fn columns_come_from_fields_and_the_json_is_complete() {
        let batch = Batch::new("procs".into(), vec![example()]);
        let chunk = encoded(&batch);
        let row = &chunk.rows[0];
        assert_eq!((row.time, row.kind), (1_795_441_580_171_234_567, "process.exec"));
        assert_eq!(chunk.text(row.texts[0]), Some(&b"/bin/true"[..]));
        assert_eq!((chunk.text(row.texts[1]), row.numbers), (None, [None, None]));
        let mut line = Vec::new();
        Json::new("node-1").batch(&mut line, &batch);
        assert_eq!([chunk.json(row), b"\n"].concat(), line);
    }

    #[test]
    fn event_without_a_process_has_no_process_columns() {
        let chunk = encoded(&Batch::new("odd".into(), vec![Odd]));
        let row = &chunk.rows[0];
        assert_eq!((row.process, row.texts), (None, [None; 5]));
    }

    #[test]
    fn text_that_is_not_utf_8_is_kept_as_in_json() {
        let mut bytes = b"before".to_vec();
        let text = keep(&mut bytes, b"a\xff\xfeb");
        let (start, end) = text.unwrap();
        assert_eq!(&bytes[start as usize..end as usize], "a\u{fffd}\u{fffd}b".as_bytes());
    }

    #[test]
    fn memory_of_a_written_chunk_is_reused() {
        let batch = Batch::new("procs".into(), vec![example(); 3]);
        let mut encoder = Encoder::new("node-1", LIMIT);
        let (mut chunk, plan) = (encoder.chunk(), encoder.plan(&batch));
        let mut events = batch.iter();
        while !encoder.full(&chunk) {
            encoder.push(&mut chunk, plan, events.next().expect("another event"));
        }
        assert_eq!(chunk.rows.len(), LIMIT.events);
        let room = chunk.bytes.capacity();
        encoder.recycle(chunk);
        let again = encoder.chunk();
        assert_eq!((again.rows.len(), again.bytes.len(), again.bytes.capacity()), (0, 0, room));
    }
}
