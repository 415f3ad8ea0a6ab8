//! The table: aligned columns for people.

use whalewatch_core::{
    Accessor, Attribution, Batch, EventRef, PerType, Process, Schema, State, Type, Value,
};

use whalewatch_kit::Clock;
use whalewatch_kit::text::{shell_word, visible};

const CONTAINER_WIDTH: usize = 24;

/// The titles, widths and alignments of the columns. The last column has no width.
const COLUMNS: [(&str, usize, Align); 8] = [
    ("TIME", 12, Align::Left),
    ("CONTAINER", CONTAINER_WIDTH, Align::Left),
    ("PID", 7, Align::Right),
    ("PPID", 7, Align::Right),
    ("USER", 5, Align::Right),
    ("KIND", 12, Align::Left),
    ("COMM", 15, Align::Left),
    ("DETAIL", 0, Align::Left),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Writes events as rows of a table.
#[derive(Debug)]
pub(crate) struct Table {
    color: bool,
    clock: Clock,
    details: PerType<Details>,
    /// A buffer for the text of a cell.
    cell: Vec<u8>,
}

/// The fields that the last column shows, for one event type.
#[derive(Debug, Default)]
struct Details {
    /// The command line. It is shown without a name, and instead of the executable's path.
    args: Option<Accessor>,
    executable: Option<Accessor>,
    /// Whether arguments are missing. An ellipsis shows that, so their number is not shown.
    more_args: Option<Accessor>,
    /// The type's other fields, with the names to show.
    others: Vec<(String, Accessor)>,
}

impl Table {
    pub(crate) fn new(color: bool) -> Self {
        Self { color, clock: Clock::new(), details: PerType::new(), cell: Vec::new() }
    }

    /// Writes the header line.
    pub(crate) fn header(&self, out: &mut Vec<u8>) {
        if self.color {
            out.extend_from_slice(BOLD.as_bytes());
        }
        let mut row = Row { out, color: None, column: 0, end: 0, width: 0 };
        for (title, ..) in COLUMNS {
            row.cell(title.as_bytes());
        }
        if self.color {
            out.extend_from_slice(RESET.as_bytes());
        }
        out.push(b'\n');
    }

    /// Prepares for the events of a batch; returns the plan that [`Table::write`] takes.
    pub(crate) fn plan(&mut self, batch: &Batch) -> usize {
        self.details.place(batch, Details::of)
    }

    /// Writes an event as one row. `plan` is that of its batch.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, plan: usize, event: EventRef<'_>) {
        let cell = &mut self.cell;
        let mut row = Row { out, color: None, column: 0, end: 0, width: 0 };

        cell.clear();
        self.clock.time_of_day(cell, event.time());
        row.cell(cell);

        cell.clear();
        let color = container(cell, event.attribution());
        shorten(cell, CONTAINER_WIDTH);
        row.color = color.filter(|_| self.color);
        row.cell(cell);
        row.color = None;

        let process = event.process();
        for id in [process.map(|p| p.pid), process.map(|p| p.parent_pid), process.map(|p| p.uid)] {
            let mut number = itoa::Buffer::new();
            row.cell(id.map_or("-", |id| number.format(id)).as_bytes());
        }

        cell.clear();
        visible(cell, event.kind().as_bytes());
        row.cell(cell);

        cell.clear();
        visible(cell, process.map_or(b"-", Process::comm));
        row.cell(cell);

        cell.clear();
        self.details[plan].write(cell, &mut self.clock, event);
        row.cell(cell);
        while out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
    }
}

/// A row being written. A text that is too long for its column shifts the following columns of this
/// row to the right, until their padding has absorbed the excess.
struct Row<'a> {
    out: &'a mut Vec<u8>,
    color: Option<&'static str>,
    column: usize,
    /// Where the current column should end, in characters from the start.
    end: usize,
    /// The number of characters in the row so far.
    width: usize,
}

impl Row<'_> {
    /// Writes the next column.
    fn cell(&mut self, text: &[u8]) {
        let (_, width, align) = COLUMNS[self.column];
        if self.column > 0 {
            self.out.push(b' ');
            self.width += 1;
            self.end += 1;
        }
        self.column += 1;
        self.end += width;
        let pad = self.end.saturating_sub(self.width + characters(text));
        if align == Align::Right {
            self.pad(pad);
        }
        self.out.extend_from_slice(self.color.unwrap_or_default().as_bytes());
        self.out.extend_from_slice(text);
        self.width += characters(text);
        self.out.extend_from_slice(self.color.map_or("", |_| RESET).as_bytes());
        if align == Align::Left {
            self.pad(pad);
        }
    }

    fn pad(&mut self, count: usize) {
        self.out.resize(self.out.len() + count, b' ');
        self.width += count;
    }
}

/// Returns the number of characters in UTF-8 text. Characters of double width count once: names of
/// containers have none.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// Cuts UTF-8 text to at most `max` characters, the last of which is then an ellipsis.
fn shorten(text: &mut Vec<u8>, max: usize) {
    if characters(text) > max {
        let starts = text.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80);
        let cut = starts.map(|(at, _)| at).nth(max - 1).unwrap_or(text.len());
        text.truncate(cut);
        text.extend_from_slice("…".as_bytes());
    }
}

/// Writes the text of the container column; returns its colour.
fn container(out: &mut Vec<u8>, attribution: &Attribution) -> Option<&'static str> {
    if let Some(container) = &attribution.container {
        if let Some(name) = &container.name {
            visible(out, name.as_bytes());
            return Some(CYAN);
        }
        visible(out, container.short_id().as_bytes());
        out.push(b'?');
        return Some(YELLOW);
    }
    match attribution.state {
        State::Unset => None,
        State::Host => {
            out.push(b'-');
            Some(DIM)
        }
        State::Unknown | State::Resolved | State::Pending => {
            out.push(b'?');
            Some(YELLOW)
        }
    }
}

impl Details {
    fn of(schema: &Schema) -> Self {
        let mut details = Self::default();
        for (info, accessor) in &schema.fields {
            match (accessor, info.name, info.ty) {
                (Accessor::Own(_), "process.command_args", Type::Texts) => {
                    details.args = Some(*accessor);
                }
                (Accessor::Own(_), "process.executable.path", Type::Text) => {
                    details.executable = Some(*accessor);
                }
                (Accessor::Own(_), "process.args_truncated", Type::Bool) => {
                    details.more_args = Some(*accessor);
                }
                (Accessor::Own(_), "process.args_count", _) => {}
                (Accessor::Own(_), name, _) => details.others.push((label(name), *accessor)),
                _ => {}
            }
        }
        details
    }

    fn write(&self, out: &mut Vec<u8>, clock: &mut Clock, event: EventRef<'_>) {
        let value = |accessor: Option<Accessor>| accessor.map_or(Value::Null, |a| event.value(a));
        match (value(self.args), value(self.executable)) {
            (Value::Texts(args), _) if args.iter().next().is_some() => words(out, args.iter()),
            (_, Value::Text(path)) => shell_word(out, path),
            _ => {}
        }
        if value(self.more_args) == Value::Bool(true) {
            out.extend_from_slice(" …".as_bytes());
        }
        for (name, accessor) in &self.others {
            let value = event.value(*accessor);
            if value == Value::Null {
                continue;
            }
            if !out.is_empty() {
                out.push(b' ');
            }
            visible(out, name.as_bytes());
            out.push(b'=');
            shown(out, clock, value);
        }
    }
}

/// Returns the name to show for a field: a short one if there is one, without `process.`.
fn label(name: &str) -> String {
    match name {
        "process.exit.code" | "process.exit_code" => "exit".to_owned(),
        "process.exit.signal" | "process.exit_signal" => "signal".to_owned(),
        _ => name.strip_prefix("process.").unwrap_or(name).to_owned(),
    }
}

fn words<'a>(out: &mut Vec<u8>, words: impl Iterator<Item = &'a [u8]>) {
    for (i, word) in words.enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        shell_word(out, word);
    }
}

fn shown(out: &mut Vec<u8>, clock: &mut Clock, value: Value<'_>) {
    match value {
        Value::Null => {}
        Value::Bool(yes) => out.extend_from_slice(if yes { b"true" } else { b"false" }),
        Value::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Uint(n) => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
        Value::Text(text) => shell_word(out, text),
        Value::Texts(texts) => {
            out.push(b'(');
            words(out, texts.iter());
            out.push(b')');
        }
        Value::Time(time) => clock.rfc3339(out, time),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use whalewatch_core::{Event, Evidence, Status};

    use super::*;
    use whalewatch_testing::{Odd, Ran, bare, example, named};

    fn rows<E: Event>(color: bool, events: Vec<E>, attribution: &Attribution) -> Vec<String> {
        let batch = Batch::new("t".into(), events);
        let batch = batch.with_attributions(std::iter::repeat(attribution.clone()));
        let (mut table, mut out) = (Table::new(color), Vec::new());
        table.header(&mut out);
        let plan = table.plan(&batch);
        batch.iter().for_each(|event| table.write(&mut out, plan, event));
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    fn row(event: Ran, attribution: &Attribution) -> String {
        rows(false, vec![event], attribution).remove(1)
    }

    #[test]
    fn columns_are_aligned_with_their_titles() {
        let web = Attribution::container(
            named("ab", "web-1", "nginx", Status::Running),
            Evidence::Cgroup,
        );
        let exit = Ran { kind: "process.exit", path: None, args: None, exit: Some(1), ..example() };
        let killed = Ran { exit: None, signal: Some(9), ..exit.clone() };
        let shell = Ran { args: Some(b"sh\0-c\0echo hi\0".to_vec()), ..example() };
        let got = rows(false, vec![example(), shell, exit, killed], &web);
        let want = [
            "TIME         CONTAINER                    PID    PPID  USER KIND         \
             COMM            DETAIL",
            "13:46:20.171 web-1                      19920   19901     0 process.exec \
             true            /bin/true",
            "13:46:20.171 web-1                      19920   19901     0 process.exec \
             true            sh -c 'echo hi'",
            "13:46:20.171 web-1                      19920   19901     0 process.exit \
             true            exit=1",
            "13:46:20.171 web-1                      19920   19901     0 process.exit \
             true            signal=9",
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn ellipsis_shows_that_arguments_are_missing() {
        let event = Ran { args: Some(b"ls\0-l\0".to_vec()), args_count: Some(900), ..example() };
        let row = row(event, &Attribution::default());
        assert!(row.ends_with(" ls -l …"), "{row}");
    }

    #[test]
    fn container_column_distinguishes_every_state() {
        let container = |attribution: &Attribution| {
            let row = row(example(), attribution);
            row[13..13 + CONTAINER_WIDTH].trim_end().to_owned()
        };
        let pending = Arc::new(bare(&"e0d4".repeat(16)));
        assert_eq!(container(&Attribution::container(pending, Evidence::Cgroup)), "e0d4e0d4e0d4?");
        assert_eq!(container(&Attribution::host(Evidence::Cgroup)), "-");
        assert_eq!(container(&Attribution::unknown()), "?");
        assert_eq!(container(&Attribution::default()), "");
    }

    #[test]
    fn long_container_name_is_cut_and_keeps_columns_aligned() {
        let name = "k8s_web_web-5d4f8c7b9d-x2x7z_default";
        let long =
            Attribution::container(named("ab", name, "i", Status::Running), Evidence::Cgroup);
        let row = row(example(), &long);
        assert!(row.starts_with("13:46:20.171 k8s_web_web-5d4f8c7b9d-…   19920   19901"), "{row}");
    }

    #[test]
    fn long_text_shifts_columns_until_padding_absorbs_it() {
        let event = Ran { kind: "container.resolved", ..example() };
        let row = row(event, &Attribution::default());
        assert!(row.ends_with("0 container.resolved true      /bin/true"), "{row}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut event = Ran { args: Some(b"rm\0\x1b[2J\n\0".to_vec()), ..example() };
        event.process.comm[..3].copy_from_slice(b"\x1b[m");
        let name = "\u{202e}\x07";
        let odd = Attribution::container(named("ab", name, "i", Status::Running), Evidence::Cgroup);
        let row = row(event, &odd);
        assert!(row.ends_with(r"process.exec \x1b[me         rm $'\x1b[2J\n'"), "{row}");
        assert!(row.contains(r" \u202e\x07 "), "{row}");
    }

    #[test]
    fn events_without_process_show_all_their_fields() {
        let got = rows(false, vec![Odd], &Attribution::host(Evidence::Runtime)).remove(1);
        let want = concat!(
            "00:00:01.000 -                              -       -     - odd          ",
            "-               ",
            r"container.own=1 a.yes=true a.b.c=-5 when=1970-01-01T00:00:02.000000000Z list=() ",
            r"name=$'\x1b]0;x\x07' a.yes.deep=7 host.zone=b"
        );
        assert_eq!(got, want);
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let web =
            Attribution::container(named("ab", "web", "i", Status::Running), Evidence::Cgroup);
        let colored = rows(true, vec![example()], &web);
        let plain = rows(false, vec![example()], &web);
        assert_eq!(colored[0], format!("{BOLD}{}{RESET}", plain[0]));
        assert_eq!(colored[1], plain[1].replace("web", &format!("{CYAN}web{RESET}")));
    }
}
