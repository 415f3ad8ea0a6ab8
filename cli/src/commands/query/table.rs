//! Results as tables for people. All text comes from traced programs, so control characters are
//! escaped.

use serde_json::Value as Json;
use whalewatch_kit::Clock;
use whalewatch_kit::text::{shell_word, visible};
use whalewatch_sqlite::{Found, Group, Value};

/// Titles and widths of the columns. A negative width aligns to the right; 0 means no padding.
const COLUMNS: [(&str, i8); 8] = [
    ("TIME (UTC)", 23),
    ("CONTAINER", 24),
    ("PID", -7),
    ("PPID", -7),
    ("USER", -5),
    ("KIND", 15),
    ("COMM", 15),
    ("DETAIL", 0),
];

/// Fields that the DETAIL column omits: other columns show them, or they are the same for all
/// events of a process.
const OMITTED: [&str; 18] = [
    "time",
    "kind",
    "host",
    "container",
    "attribution",
    "process.pid",
    "process.tid",
    "process.vpid",
    "process.parent_pid",
    "process.start_time",
    "process.comm",
    "process.user",
    "process.group",
    "process.namespaces",
    "process.cgroup_id",
    "process.command_args",
    "process.args_count",
    "process.args_truncated",
];

/// Formats events as rows.
#[derive(Debug)]
pub(super) struct Table {
    clock: Clock,
    row: Vec<u8>,
    cell: Vec<u8>,
    titled: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self { clock: Clock::new(), row: Vec::new(), cell: Vec::new(), titled: false }
    }
}

impl Table {
    /// Returns the row of an event. The first row is preceded by the titles.
    pub(super) fn row(&mut self, found: &Found<'_>) -> &[u8] {
        self.row.clear();
        if !self.titled {
            self.titled = true;
            for (at, (title, _)) in COLUMNS.iter().enumerate() {
                self.cell.extend_from_slice(title.as_bytes());
                self.put(at);
            }
            self.end();
        }
        self.clock.rfc3339(&mut self.cell, found.time);
        self.cell.truncate(23);
        self.cell[10] = b' ';
        self.put(0);
        container(&mut self.cell, found);
        self.put(1);
        for (at, id) in (2..).zip([found.pid, found.parent_pid, found.uid]) {
            let text = id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            self.cell.extend_from_slice(text.as_bytes());
            self.put(at);
        }
        visible(&mut self.cell, found.kind.as_bytes());
        self.put(5);
        visible(&mut self.cell, found.comm.unwrap_or("-").as_bytes());
        self.put(6);
        detail(&mut self.cell, found.json);
        self.put(7);
        self.end();
        &self.row
    }

    /// Moves the cell to the end of the row, padded to the column's width.
    fn put(&mut self, column: usize) {
        let (_, width) = COLUMNS[column];
        let pad = usize::from(width.unsigned_abs()).saturating_sub(characters(&self.cell));
        let spaces = |row: &mut Vec<u8>| row.resize(row.len() + pad, b' ');
        if width < 0 {
            spaces(&mut self.row);
        }
        self.row.append(&mut self.cell);
        if width >= 0 {
            spaces(&mut self.row);
        }
        self.row.push(b' ');
    }

    fn end(&mut self) {
        while self.row.last() == Some(&b' ') {
            self.row.pop();
        }
        self.row.push(b'\n');
    }
}

/// Counts the characters of UTF-8 text.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// Writes the container: its name; or the start of its id and `?` if the name was never known; `-`
/// for the host; `?` for unknown.
fn container(out: &mut Vec<u8>, found: &Found<'_>) {
    match (found.container_name, found.container_id, found.attribution) {
        (Some(name), ..) => visible(out, name.as_bytes()),
        (None, Some(id), _) => {
            visible(out, id.get(..12).unwrap_or(id).as_bytes());
            out.push(b'?');
        }
        (None, None, Some("host")) => out.push(b'-'),
        (None, None, Some(_)) => out.push(b'?'),
        (None, None, None) => {}
    }
}

/// Writes the command line, then the other fields with their names.
fn detail(out: &mut Vec<u8>, line: &str) {
    let Ok(event) = serde_json::from_str::<Json>(line) else { return };
    let process = &event["process"];
    let args = process["command_args"].as_array().filter(|args| !args.is_empty());
    match (args, &process["executable"]["path"]) {
        (Some(args), _) => words(out, args),
        (None, Json::String(path)) => shell_word(out, path.as_bytes()),
        _ => {}
    }
    if process["args_truncated"] == true {
        out.extend_from_slice(" …".as_bytes());
    }
    fields(out, &mut String::new(), &event);
}

fn words(out: &mut Vec<u8>, words: &[Json]) {
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        shell_word(out, word.as_str().unwrap_or_default().as_bytes());
    }
}

/// Writes the fields below a path as `name=value`.
fn fields(out: &mut Vec<u8>, path: &mut String, value: &Json) {
    if OMITTED.contains(&path.as_str()) || path == "process.executable.path" || value.is_null() {
        return;
    }
    if let Json::Object(inner) = value {
        for (name, value) in inner {
            let length = path.len();
            if length > 0 {
                path.push('.');
            }
            path.push_str(name);
            fields(out, path, value);
            path.truncate(length);
        }
        return;
    }
    if !out.is_empty() {
        out.push(b' ');
    }
    let label = match path.as_str() {
        "process.exit.code" => "exit",
        "process.exit.signal" => "signal",
        path => path.strip_prefix("process.").unwrap_or(path),
    };
    visible(out, label.as_bytes());
    out.push(b'=');
    match value {
        Json::String(text) => shell_word(out, text.as_bytes()),
        Json::Array(list) => {
            out.push(b'(');
            words(out, list);
            out.push(b')');
        }
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

/// Formats counts as a table. Each column is as wide as its longest cell.
pub(super) fn counts(groups: &[Group], rows: &[(u64, Vec<Value>)]) -> Vec<u8> {
    let titles = groups.iter().map(|group| group.name().to_uppercase().into_bytes());
    let mut lines = vec![[b"COUNT".to_vec()].into_iter().chain(titles).collect::<Vec<_>>()];
    for (count, values) in rows {
        let values = values.iter().map(shown);
        lines.push([count.to_string().into_bytes()].into_iter().chain(values).collect());
    }
    let width = |at: usize| lines.iter().map(|line| characters(&line[at])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=groups.len()).map(width).collect();
    let mut out = Vec::new();
    for line in &lines {
        for (at, cell) in line.iter().enumerate() {
            let pad = widths[at] - characters(cell);
            let spaces = |out: &mut Vec<u8>, count| out.resize(out.len() + count, b' ');
            if at == 0 {
                spaces(&mut out, pad);
            } else {
                spaces(&mut out, 2);
            }
            out.extend_from_slice(cell);
            if at > 0 && at < groups.len() {
                spaces(&mut out, pad);
            }
        }
        out.push(b'\n');
    }
    out
}

fn shown(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Null | Value::Blob(_) => out.push(b'-'),
        Value::Integer(number) => out = number.to_string().into_bytes(),
        Value::Real(number) => out = number.to_string().into_bytes(),
        Value::Text(text) => visible(&mut out, text.as_bytes()),
    }
    out
}

#[cfg(test)]
mod tests {
    use whalewatch_core::Timestamp;

    use super::*;

    const FOUND: Found<'static> = Found {
        time: Timestamp(1_795_441_580_171_234_567),
        kind: "process.exec",
        container_id: Some("e0d4e0d4e0d4e0d4"),
        container_name: Some("web-1"),
        attribution: Some("resolved"),
        pid: Some(19920),
        parent_pid: Some(19901),
        uid: Some(0),
        comm: Some("sh"),
        json: concat!(
            r#"{"time":"","kind":"process.exec","process":{"pid":1,"#,
            r#""command_args":["sh","-c","a b"],"executable":{"path":"/bin/sh"},"#,
            r#""exit":{"code":3}},"network":{"peer":{"port":443}},"list":["a","b c"],"#,
            r#""container":{"id":"e"},"none":null}"#,
        ),
    };

    fn row(found: Found<'_>) -> String {
        let rows = String::from_utf8(Table::default().row(&found).to_vec()).expect("UTF-8");
        rows.lines().nth(1).expect("a row below the titles").to_owned()
    }

    #[test]
    fn columns_are_aligned_with_their_titles() {
        let rows = String::from_utf8(Table::default().row(&FOUND).to_vec()).expect("UTF-8");
        let want = concat!(
            "TIME (UTC)              CONTAINER                    PID    PPID  USER ",
            "KIND            COMM            DETAIL\n",
            "2026-11-23 13:46:20.171 web-1                      19920   19901     0 ",
            "process.exec    sh              ",
            "sh -c 'a b' exit=3 network.peer.port=443 list=(a 'b c')\n",
        );
        assert_eq!(rows, want);
    }

    #[test]
    fn container_column_distinguishes_all_states() {
        let shown = |found| row(found)[24..48].trim_end().to_owned();
        assert_eq!(shown(Found { container_name: None, ..FOUND }), "e0d4e0d4e0d4?");
        let none = Found { container_name: None, container_id: None, ..FOUND };
        assert_eq!(shown(Found { attribution: Some("host"), ..none }), "-");
        assert_eq!(shown(Found { attribution: Some("unknown"), ..none }), "?");
        assert_eq!(shown(Found { attribution: None, ..none }), "");
    }

    #[test]
    fn control_characters_are_escaped() {
        let json = r#"{"process":{"command_args":["\u001b[2J"]},"a\u001bb":"\u202e\n"}"#;
        let odd = Found { container_name: Some("\u{1b}[m"), comm: Some("\u{9b}"), json, ..FOUND };
        let row = row(odd);
        assert!(!row.chars().any(|c| c.is_control() || c == '\u{202e}'), "{row:?}");
        assert!(row.ends_with(r"$'\x1b[2J' a\x1bb=$'\u202e\n'"), "{row}");
        let groups: Vec<Group> = vec!["container.name".parse().expect("a field")];
        let counts = counts(&groups, &[(7, vec![Value::Text("\u{1b}[m".into())])]);
        assert_eq!(
            String::from_utf8(counts).expect("UTF-8"),
            "COUNT  CONTAINER.NAME\n    7  \\x1b[m\n"
        );
    }

    #[test]
    fn counts_are_aligned() {
        let groups: Vec<Group> =
            ["kind", "process.pid"].map(|name| name.parse().expect("a field")).into();
        let rows = [
            (12, vec![Value::Text("process.exec".into()), Value::Integer(7)]),
            (3, vec![Value::Null, Value::Integer(70)]),
        ];
        let want =
            "COUNT  KIND          PROCESS.PID\n   12  process.exec  7\n    3  -             70\n";
        assert_eq!(String::from_utf8(counts(&groups, &rows)).expect("UTF-8"), want);
    }
}
